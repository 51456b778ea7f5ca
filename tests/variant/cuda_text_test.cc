// The CUDA reading without a GPU: its text compiles for GPUs, and, given stand-ins for the intrinsics that it uses, for
// this processor, where it must give the bits of the scalar reading.
#include <dlfcn.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <random>

#include "jit/nvrtc.h"
#include "tests/laws/random_variant.h"
#include "tests/laws/reading.h"
#include "tests/temporary_folder.h"
#include "tilewise/error.h"
#include "tilewise/zoo_entry.h"
#include "variant/cuda_text.h"

namespace tilewise::variant {
namespace {

using laws::Choices;

/// What the text uses of CUDA, in C++. PTX cannot be stood in for, so its one statement is replaced (see host_text).
constexpr const char* kStandIns = R"cpp(
#include <cmath>
#include <cstring>
#define __device__
  static float __fadd_rn(float a, float b) { return a + b; }
  static float __fsub_rn(float a, float b) { return a - b; }
  static float __fmul_rn(float a, float b) { return a * b; }
  static float __fdiv_rn(float a, float b) { return a / b; }
  static float __fsqrt_rn(float a) { return std::sqrt(a); }
  static float rsqrtf(float a) { return 1.0f / std::sqrt(a); }
  static float __int2float_rn(int a) { return float(a); }
  static float __double2float_rn(double a) { return float(a); }
  static int __float2int_rz(float a) {
    return a != a ? 0 : a >= 0x1p31f ? 2147483647 : a <= -0x1p31f ? -2147483647 - 1 : int(a);
  }
  static float __uint_as_float(unsigned a) {
    float x;
    std::memcpy(&x, &a, 4);
    return x;
  }
  static float __int_as_float(int a) { return __uint_as_float(unsigned(a)); }
  static float half_value(unsigned short bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float magnitude = exponent == 31  ? (fraction ? NAN : INFINITY)
                            : exponent == 0 ? std::ldexp(float(fraction), -24)
                                            : std::ldexp(float(fraction + 1024), exponent - 25);
    return bits >> 15 ? -magnitude : magnitude;
  }
)cpp";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

std::string host_text(const std::string& source) {
  return replaced(source, "asm(\"cvt.f32.f16 %0, %1;\" : \"=f\"(value) : \"h\"(x.bits));",
                  "value = half_value(x.bits);");
}

/// Numbered entry points `<prefix>_<i>` that evaluate one entry through every function of a variant's text.
std::string entry_point(const std::string& declaration, std::size_t i, const char* function) {
  return fmt::format(
      "{}(const v{}::variant::Arguments& a, const v{}::variant::Sequence& c, int q, int k, float s) {{\n"
      "  using namespace v{}::variant;\n"
      "  const Uniform u = uniform_values(a, c);\n"
      "  return {}(a, c, u, query_values(a, c, u, q), key_values(a, c, u, k), diagonal_values(a, c, u, q - k), q, k, "
      "s);\n"
      "}}\n",
      declaration, i, i, i, function);
}

/// A shared library made of variants' texts, gone with the object.
class HostLibrary {
 public:
  explicit HostLibrary(const std::vector<std::string>& texts) {
    std::ofstream source(folder_ / "variants.cc");
    source << kStandIns;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      source << "namespace v" << i << " {\n" << host_text(texts[i]) << "}\n";
      source << entry_point(fmt::format("extern \"C\" float partial_{}", i), i, "partial_score");
    }
    source.close();
    const std::string command =
        fmt::format("{} -std=c++17 -O0 -ffp-contract=off -w -shared -fPIC -o {}/variants.so {}/variants.cc",
                    TILEWISE_CXX_COMPILER, folder_.path(), folder_.path());
    if (std::system(command.c_str()) != 0) throw std::runtime_error("the text does not compile: " + command);
    library_ = dlopen((folder_ / "variants.so").c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) throw std::runtime_error(dlerror());
  }
  ~HostLibrary() {
    if (library_ != nullptr) dlclose(library_);
  }
  HostLibrary(const HostLibrary&) = delete;
  HostLibrary& operator=(const HostLibrary&) = delete;

  using Function = float (*)(const std::byte* arguments, const std::int32_t* sequence, int query_index, int key_index,
                             float s);
  Function partial(std::size_t i) const {
    return reinterpret_cast<Function>(dlsym(library_, fmt::format("partial_{}", i).c_str()));
  }

 private:
  TemporaryFolder folder_;
  void* library_ = nullptr;
};

/// The text's Sequence, field by field.
std::array<std::int32_t, 9> sequence_fields(const Place& first) {
  const auto at = [&](Coordinate c) { return first[static_cast<std::size_t>(c)]; };
  using enum Coordinate;
  return {at(queries), at(keys), at(query), at(key), at(query_token), at(key_token), at(batch), at(head), at(kv_head)};
}

float expected(const Variant& variant, const Bound& bound, const Place& place, float s) {
  ScalarReading<float> reading(variant.data().graph, bound);
  reading.enter(place);
  const auto outcome = laws::apply<float>(variant, reading, {true, s});
  return outcome.kept ? outcome.score : -std::numeric_limits<float>::infinity();
}

std::vector<std::uint32_t> random_tape(std::mt19937& random) {
  std::vector<std::uint32_t> tape(512);
  for (std::uint32_t& word : tape) word = static_cast<std::uint32_t>(random());
  return tape;
}

TEST(CudaText, GivesTheScalarReadingsBitsOnTheHost) {
  const auto seed = static_cast<std::uint32_t>(std::random_device{}());
  RecordProperty("seed", std::to_string(seed));
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  constexpr std::size_t kVariants = 60;
  constexpr int kEntries = 50;

  std::vector<laws::RandomVariant> variants;
  std::vector<CudaText> texts;
  std::vector<std::string> sources;
  for (std::size_t i = 0; i < kVariants; ++i) {
    Choices choices(random_tape(random));
    variants.push_back(laws::random_variant(choices));
    texts.push_back(cuda_text(variants.back().variant));
    sources.push_back(texts.back().source);
  }
  const HostLibrary library(sources);
  for (std::size_t i = 0; i < kVariants; ++i) {
    const Variant& variant = variants[i].variant;
    const Bound bound = bind(variant.data().graph, variants[i].bindings());
    const auto arguments = pack_arguments(variant.data().graph, bound, texts[i].layout);
    const auto function = library.partial(i);
    ASSERT_NE(function, nullptr);
    for (int n = 0; n < kEntries; ++n) {
      Choices choices(random_tape(random));
      const Problem problem = laws::random_problem(choices);
      const laws::Entry entry = laws::random_entry(choices, problem);
      const float s = laws::random_score(choices);
      const Place first = place_of(problem, entry.sequence, entry.head, 0, 0);
      const Place place = place_of(problem, entry.sequence, entry.head, entry.query_index, entry.key_index);
      const float given = function(arguments.data(), sequence_fields(first).data(), static_cast<int>(entry.query_index),
                                   static_cast<int>(entry.key_index), s);
      const float wanted = expected(variant, bound, place, s);
      ASSERT_TRUE(laws::same(given, wanted)) << given << " is not " << wanted << "\n"
                                             << laws::listing(variant) << texts[i].source;
    }
  }
}

TEST(CudaText, DoesNotDependOnWhatTheKeyIgnores) {
  const auto text = [](const char* name, int size, double cap) {
    const Table bias(name, DType::float32, 1);
    const Variant variant = keep([&](const At& at) { return at.query - at.key < size; }) &
                            score([&](Expr s, const At& at) { return cap * tanh(s / cap) + bias(at.head); });
    return cuda_text(variant).source;
  };
  EXPECT_EQ(text("one", 1024, 30), text("other", 77, 5.5));
}

TEST(CudaText, ComputesHoistedValuesOutsideOfTheEntry) {
  const Variant variant =
      score([](Expr s, const At& at) { return s - exp2(-to_real(at.head)) * to_real(at.query - at.key); });
  const std::string source = cuda_text(variant).source;
  const std::string entry = source.substr(source.find("full_score("));
  EXPECT_EQ(entry.find("exp2("), std::string::npos) << entry;
  EXPECT_EQ(entry.find("to_real("), std::string::npos) << entry;
}

/// A kernel that uses every function of the text, so that none is compiled away.
std::string kernel_for(std::size_t i) {
  return entry_point(fmt::format("__device__ float partial_{}", i), i, "partial_score") +
         entry_point(fmt::format("__device__ float full_{}", i), i, "full_score") +
         fmt::format(
             "extern \"C\" __global__ void kernel_{}(v{}::variant::Arguments a, v{}::variant::Sequence c, float* s) "
             "{{\n"
             "  const int q = blockIdx.x, k = threadIdx.x;\n"
             "  s[k] = partial_{}(a, c, q, k, s[k]) + full_{}(a, c, q, k, s[k]);\n"
             "}}\n",
             i, i, i, i, i);
}

/// Compiles texts for an architecture and checks that each kernel came out without spilling registers.
void expect_compiles(const std::vector<std::string>& names, const std::vector<std::string>& texts,
                     const char* architecture) {
  std::unique_ptr<jit::Nvrtc> nvrtc;
  try {
    nvrtc = std::make_unique<jit::Nvrtc>(jit::Nvrtc::instance());
  } catch (const Error& error) {
    if (std::getenv("TILEWISE_REQUIRE_NVRTC") != nullptr) FAIL() << error.what();
    GTEST_SKIP() << "skipped without NVRTC: " << error.what();
  }
  jit::Program program;
  program.name = "variants.cu";
  program.options = {"--std=c++17"};
  program.architecture = jit::Architecture::parse(architecture);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    program.source += fmt::format("namespace v{} {{  // {}\n{}}}\n{}", i, names[i], texts[i], kernel_for(i));
    program.kernels.push_back(fmt::format("kernel_{}", i));
  }
  const jit::Binary binary = nvrtc->compile(program);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto resources = binary.kernel(program.kernels[i]).resources;
    ASSERT_TRUE(resources.has_value()) << names[i];
    EXPECT_EQ(resources->spill_store_bytes, 0) << names[i];
  }
}

class CudaTextOn : public testing::TestWithParam<const char*> {};

TEST_P(CudaTextOn, CompilesForEveryNamedVariant) {
  std::vector<std::string> names, texts;
  for (const zoo::Entry& entry : zoo::entries()) {
    names.emplace_back(entry.example);
    texts.push_back(cuda_text(parse_variant(std::string(entry.example))).source);
  }
  expect_compiles(names, texts, GetParam());
}

TEST_P(CudaTextOn, CompilesForRandomVariants) {
  const auto seed = static_cast<std::uint32_t>(std::random_device{}());
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  std::vector<std::string> names, texts;
  for (int i = 0; i < 25; ++i) {
    Choices choices(random_tape(random));
    names.push_back(fmt::format("random {}", i));
    texts.push_back(cuda_text(laws::random_variant(choices).variant).source);
  }
  expect_compiles(names, texts, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Architectures, CudaTextOn, testing::Values("sm_80", "sm_90a"),
                         [](const auto& instance) { return std::string(instance.param); });

// Written out in a kernel's unrolled loops, sandwich's 64 cosines took a compiler more than three minutes.
TEST(CudaText, CallsLongSumsAndWritesOutTheRest) {
  const auto calls = [](const char* text) {
    return cuda_text(parse_variant(text)).source.find("__noinline__") != std::string::npos;
  };
  EXPECT_TRUE(calls("sandwich(12, 128)"));
  for (const char* text :
       {"causal()", "softcap(30)", "alibi(16)", "documents([5, 6])", "neighbourhood_2d([8, 8], [3, 3])"})
    EXPECT_FALSE(calls(text)) << text;
}

}  // namespace
}  // namespace tilewise::variant
