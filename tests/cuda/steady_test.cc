// Whether a tile's diagonals have one value, or lie on a line, without a GPU: the text that says so, compiled for this
// processor, against the text that makes each diagonal's value.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <random>
#include <tuple>

#include "tests/cuda/emulated/host_library.h"
#include "tilewise/zoo.h"
#include "variant/cuda_text.h"

namespace tilewise::variant {
namespace {

using cuda::testing::HostLibrary;

/// For a variant's text: the exponent of a product of 0 on a diagonal, and the tile's value, if there is one.
constexpr const char* kEntryPoints = R"cpp(
  EXPORTED float exponent(const variant::Arguments& a, const variant::Sequence& c, int difference) {
    using namespace variant;
    const Uniform u = uniform_values(a, c);
    return variant::exponent(a, c, u, query_values(a, c, u, difference), key_values(a, c, u, 0),
                             diagonal_values(a, c, u, difference), difference, 0, 0.0f);
  }
  EXPORTED int steady_value(const variant::Arguments& a, const variant::Sequence& c, int least, int most, float* line) {
    const auto found = variant::steady_value(a, c, variant::uniform_values(a, c), least, most);
    line[0] = found.value, line[1] = found.step;
    return found.is_known ? 1 : found.is_line() ? 2 : 0;
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
    if (!text_.may_be_steady && !text_.may_be_linear) return;
    library_.emplace("#include \"cuda/device/steady.h\"\n" + cuda::testing::host_text(text_.source) + kEntryPoints,
                     std::map<std::string, std::string>(), "-O1");
    const Bound bound = bind(variant.data().graph, Bindings());
    arguments_ = pack_arguments(variant.data().graph, bound, text_.layout);
  }

  bool may_be_steady() const { return text_.may_be_steady; }
  bool may_be_linear() const { return text_.may_be_linear; }

  float exponent(const Sequence& sequence, int difference) const {
    const auto function = library_->function<float(const void*, const void*, int)>("exponent");
    return function(arguments_.data(), &sequence, difference);
  }
  std::optional<float> steady_value(const Sequence& sequence, int least, int most) const {
    const auto [found, value, step] = bounds(sequence, least, most);
    return found == 1 ? std::optional(value) : std::nullopt;
  }
  struct Line {
    float value, step;
  };
  std::optional<Line> line(const Sequence& sequence, int least, int most) const {
    const auto [found, value, step] = bounds(sequence, least, most);
    return found != 0 ? std::optional(Line{value, step}) : std::nullopt;
  }

 private:
  std::tuple<int, float, float> bounds(const Sequence& sequence, int least, int most) const {
    const auto function = library_->function<int(const void*, const void*, int, int, float*)>("steady_value");
    float line[2] = {};
    const int found = function(arguments_.data(), &sequence, least, most, line);
    return {found, line[0], line[1]};
  }

  Variant variant_;
  CudaText text_;
  std::optional<HostLibrary> library_;
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

std::vector<Named> linear_variants() {
  return {
      {"ALiBi", zoo::alibi(2)},
      {"a clamped line", score([](Expr s, const At& at) { return s - 0.5 * to_real(min(at.query - at.key, 100)); })},
      {"a line by sign", score([](Expr s, const At& at) {
         const Expr distance = at.query - at.key;
         return s * 0.5 + (7 - to_real(select(distance > 20, distance * -3 + 5, distance))) * 0.25 +
                to_real(max(distance, -64)) * 0.125;
       })},
      {"a line of large numbers", score([](Expr s, const At& at) {
         return s + to_real((at.key - at.query) * 20000000) * 1e-6;  // wraps from a distance of 107 on
       })}};
}

TEST(SteadyText, LinesGoThroughTheirDiagonals) {
  const auto seed = static_cast<std::uint32_t>(std::random_device{}());
  RecordProperty("seed", std::to_string(seed));
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const auto draw = [&](int low, int high) { return std::uniform_int_distribution(low, high)(random); };
  for (const auto& [name, variant] : linear_variants()) {
    SCOPED_TRACE(name);
    const SteadyText text(variant);
    ASSERT_TRUE(text.may_be_linear());
    int found = 0;
    for (int n = 0; n < 400; ++n) {
      const Sequence sequence{.query_offset = draw(0, 30), .key_offset = draw(0, 30), .head = draw(0, 1)};
      const int least = draw(-700, 700), most = least + draw(0, 1) * draw(0, 200);
      const auto line = text.line(sequence, least, most);
      if (!line) continue;
      ++found;
      float magnitude = 16;  // of constants that cancel
      for (const int difference : {least, most}) {
        magnitude = std::max(magnitude, std::abs(text.exponent(sequence, difference)));
      }
      for (int difference = least; difference <= most; ++difference) {
        const float expected = text.exponent(sequence, difference);
        const float value = std::fma(line->step, static_cast<float>(difference - least), line->value);
        ASSERT_NEAR(value, expected, 4 * 0x1p-23f * magnitude) << "[" << least << ", " << most << "] at " << difference;
      }
    }
    EXPECT_GT(found, 20);
  }
}

TEST(SteadyText, KnowsTheTilesBesideAnAbsoluteDistance) {
  const SteadyText alibi(zoo::alibi(2));
  const Sequence sequence;
  for (const auto& [least, most] : {std::pair{0, 190}, {-4000, 0}, {2000, 2190}, {-3, -2}}) {
    const auto line = alibi.line(sequence, least, most);
    ASSERT_TRUE(line) << least;
    EXPECT_EQ(line->step > 0, least < 0) << least;
  }
  EXPECT_FALSE(alibi.line(sequence, -1, 190));
}

TEST(SteadyText, CurvesAreNotLinear) {
  for (const Variant& variant : {zoo::softcap(30), zoo::causal(), zoo::alibi(2) & zoo::softcap(30),
                                 zoo::t5_buckets(table_of(32, 2), 32, 128, true),
                                 score([](Expr s, const At&at) { return s + cos(to_real(at.query - at.key)); })}) {
    EXPECT_FALSE(rearranged_cuda_text(variant, DType::bfloat16, false).may_be_linear);
  }
}

}  // namespace
}  // namespace tilewise::variant
