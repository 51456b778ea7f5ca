// Whether a tile's diagonals have one value, without a GPU: the text that says so, compiled for this processor, against
// the text that makes each diagonal's value.
#include <dlfcn.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <random>

#include "tests/temporary_folder.h"
#include "tilewise/zoo.h"
#include "variant/cuda_text.h"

namespace tilewise::variant {
namespace {

/// What the texts use of CUDA, in C++. None of the values that are asked for is made by PTX.
constexpr const char* kStandIns = R"cpp(
#include <cmath>
#include <cstring>
#define __device__
#define asm(...) static_cast<void>(0)
  static float __uint_as_float(unsigned a) {
    float x;
    std::memcpy(&x, &a, 4);
    return x;
  }
  static float __int_as_float(int a) { return __uint_as_float(unsigned(a)); }
  static int __float_as_int(float a) {
    int x;
    std::memcpy(&x, &a, 4);
    return x;
  }
  static float __int2float_rn(int a) { return float(a); }
  static float __fadd_rn(float a, float b) { return a + b; }
  static float __fsub_rn(float a, float b) { return a - b; }
  static float __fmul_rn(float a, float b) { return a * b; }
  static float __fdiv_rn(float a, float b) { return a / b; }
  static float __double2float_rn(double a) { return float(a); }
#include "cuda/device/steady.h"
)cpp";

/// For a variant's text: the exponent of a product of 0 on a diagonal, and the tile's value, if there is one.
constexpr const char* kEntryPoints = R"cpp(
  extern "C" float exponent(const variant::Arguments& a, const variant::Sequence& c, int difference) {
    using namespace variant;
    const Uniform u = uniform_values(a, c);
    return variant::exponent(a, c, u, query_values(a, c, u, difference), key_values(a, c, u, 0),
                             diagonal_values(a, c, u, difference), difference, 0, 0.0f);
  }
  extern "C" bool steady_value(const variant::Arguments& a, const variant::Sequence& c, int least, int most,
                               float* value) {
    const auto found = variant::steady_value(a, c, variant::uniform_values(a, c), least, most);
    *value = found.value;
    return found.is_known;
  }
)cpp";

/// The text's Sequence.
struct Sequence {
  int queries = 5000, keys = 5000, query_offset = 0, key_offset = 0, query_token = 0, key_token = 0;
  int batch = 0, head = 1, kv_head = 1;
  float scale = 1;
};

class SteadyText {
 public:
  explicit SteadyText(const Variant& variant)
      : variant_(variant), text_(rearranged_cuda_text(variant, DType::bfloat16, false)) {
    if (!text_.may_be_steady) return;
    std::ofstream(folder_ / "text.cc") << kStandIns << text_.source << kEntryPoints;
    const std::string library = fmt::format("{}/text.so", folder_.path());
    const std::string command =
        fmt::format("{} -std=c++17 -O1 -ffp-contract=off -w -shared -fPIC -I {} -o {} {}/text.cc",
                    TILEWISE_CXX_COMPILER, TILEWISE_SOURCES, library, folder_.path());
    if (std::system(command.c_str()) != 0) throw std::runtime_error("the text does not compile: " + command);
    library_ = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) throw std::runtime_error(dlerror());
    const Bound bound = bind(variant.data().graph, Bindings());
    arguments_ = pack_arguments(variant.data().graph, bound, text_.layout);
  }
  ~SteadyText() {
    if (library_ != nullptr) dlclose(library_);
  }
  SteadyText(const SteadyText&) = delete;
  SteadyText& operator=(const SteadyText&) = delete;

  bool may_be_steady() const { return text_.may_be_steady; }

  float exponent(const Sequence& sequence, int difference) const {
    const auto function = reinterpret_cast<float (*)(const void*, const void*, int)>(dlsym(library_, "exponent"));
    return function(arguments_.data(), &sequence, difference);
  }
  std::optional<float> steady_value(const Sequence& sequence, int least, int most) const {
    const auto function =
        reinterpret_cast<bool (*)(const void*, const void*, int, int, float*)>(dlsym(library_, "steady_value"));
    float value = 0;
    if (!function(arguments_.data(), &sequence, least, most, &value)) return std::nullopt;
    return value;
  }

 private:
  Variant variant_;
  CudaText text_;
  TemporaryFolder folder_;
  void* library_ = nullptr;
  std::vector<std::byte> arguments_;
};

bool same(float a, float b) { return std::memcmp(&a, &b, 4) == 0 || (a == 0 && b == 0); }

Table table_of(int rows, int columns) {
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 7 % 37) / 9 - 2;
  return Table::frozen("bias", ConstTensor(values.data(), DType::float32, {rows, columns}));
}

struct Named {
  const char* name;
  Variant variant;
};
std::vector<Named> steady_variants() {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  return {
      {"relative position", zoo::relative_position(table_of(2, 41), 20)},
      {"T5", zoo::t5_buckets(table_of(32, 2), 32, 128, true)},
      {"T5 in one direction", zoo::t5_buckets(table_of(16, 2), 16, 40, false)},
      {"far keys removed",
       score([](Expr s, const At& at) { return s + select(abs(at.query - at.key) > 250, -kInfinity, 0.0); })},
      {"a clamped line", score([](Expr s, const At& at) { return s - 0.5 * to_real(min(at.query - at.key, 100)); })},
      {"steps", score([](Expr s, const At& at) {
         const Expr distance = at.query - at.key;
         return s + select(distance * 2 - 7 >= 400, select(distance == 333, 0.25, 0.5), select(distance < -64, 1, 2));
       })},
      {"by sign of a product", score([](Expr s, const At& at) {
         const Expr distance = at.key - at.query;
         return s + to_real(min(max(distance * -3, -1), 1)) * 0.125 + to_real(max(-abs(distance), -5)) * 2;
       })}};
}

TEST(SteadyText, SaysNothingThatADiagonalContradicts) {
  const auto seed = static_cast<std::uint32_t>(std::random_device{}());
  RecordProperty("seed", std::to_string(seed));
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const auto draw = [&](int low, int high) { return std::uniform_int_distribution(low, high)(random); };
  for (const auto& [name, variant] : steady_variants()) {
    SCOPED_TRACE(name);
    const SteadyText text(variant);
    ASSERT_TRUE(text.may_be_steady());
    int found = 0;
    for (int n = 0; n < 400; ++n) {
      const Sequence sequence{.query_offset = draw(0, 30), .key_offset = draw(0, 30), .head = draw(0, 1)};
      const int least = draw(-700, 700), most = least + draw(0, 1) * draw(0, 200);
      const std::optional<float> value = text.steady_value(sequence, least, most);
      if (!value) continue;
      ++found;
      for (int difference = least; difference <= most; ++difference) {
        const float expected = text.exponent(sequence, difference);
        ASSERT_TRUE(same(*value, expected))
            << *value << " of [" << least << ", " << most << "], but " << expected << " at " << difference;
      }
    }
    EXPECT_GT(found, 100);
  }
}

TEST(SteadyText, KnowsTheTilesBeyondAClamp) {
  const SteadyText relative(zoo::relative_position(table_of(2, 41), 20));
  const Sequence sequence;
  for (const auto& [least, most] : {std::pair{20, 210}, {-4000, -20}, {0, 0}, {2000, 2190}}) {
    EXPECT_TRUE(relative.steady_value(sequence, least, most)) << least;
  }
  for (const auto& [least, most] : {std::pair{19, 210}, {-4000, -19}, {-100, 90}}) {
    EXPECT_FALSE(relative.steady_value(sequence, least, most)) << least;
  }
  const SteadyText t5(zoo::t5_buckets(table_of(32, 2), 32, 128, true));
  EXPECT_TRUE(t5.steady_value(sequence, 128, 400));
  EXPECT_TRUE(t5.steady_value(sequence, -400, -128));
  EXPECT_FALSE(t5.steady_value(sequence, 100, 290));
}

TEST(SteadyText, LinesAndCurvesNeverAre) {
  for (const Variant& variant : {zoo::alibi(2), zoo::softcap(30), zoo::causal(), zoo::alibi(2) & zoo::softcap(30)}) {
    EXPECT_FALSE(rearranged_cuda_text(variant, DType::bfloat16, false).may_be_steady);
  }
}

}  // namespace
}  // namespace tilewise::variant
