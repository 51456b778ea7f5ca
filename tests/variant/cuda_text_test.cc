// The CUDA reading without a GPU: its text compiles for GPUs, and, given stand-ins for the intrinsics that it uses, for
// this processor, where it must give the bits of the scalar reading.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "jit/nvrtc.h"
#include "tests/cuda/emulated/host_library.h"
#include "tests/laws/random_variant.h"
#include "tests/laws/reading.h"
#include "tilewise/error.h"
#include "tilewise/zoo_entry.h"
#include "variant/cuda_text.h"

namespace tilewise::variant {
namespace {

using cuda::testing::host_text;
using cuda::testing::HostLibrary;
using laws::Choices;

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

/// A shared library made of variants' texts, with entry points partial_<i>.
HostLibrary library_of(const std::vector<std::string>& texts) {
  std::string source;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    source += fmt::format("namespace v{} {{\n{}}}\n", i, host_text(texts[i]));
    source += entry_point(fmt::format("EXPORTED float partial_{}", i), i, "partial_score");
  }
  return HostLibrary(source, {}, "-O0");
}
using Partial = float(const std::byte* arguments, const std::int32_t* sequence, int query_index, int key_index,
                      float s);

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
  const HostLibrary library = library_of(sources);
  for (std::size_t i = 0; i < kVariants; ++i) {
    const Variant& variant = variants[i].variant;
    const Bound bound = bind(variant.data().graph, variants[i].bindings());
    const auto arguments = pack_arguments(variant.data().graph, bound, texts[i].layout);
    Partial* const function = library.function<Partial>(fmt::format("partial_{}", i));
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
