// Every operation on lanes, on every instruction set that this machine has, against its scalar meaning.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "core/isa.h"
#include "tests/variant/random_graph.h"
#include "variant/lanes/strip.h"
#include "variant/scalar.h"

namespace tilewise::variant {
namespace {

/// Sets of instructions by parameter, so that a missing one shows as skipped.
class LaneOperations : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    const auto& isas = available_isas();
    if (std::find(isas.begin(), isas.end(), GetParam()) == isas.end())
      GTEST_SKIP() << "this processor lacks " << to_string(GetParam());
  }
  const StripOperations& operations() const { return strip_operations(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(EachIsa, LaneOperations, testing::Values(Isa::baseline, Isa::avx2, Isa::avx512),
                         [](const auto& test) { return std::string(to_string(test.param)); });

/// One strip of words for each operand, and room for a result of as many.
struct Columns {
  std::vector<std::vector<std::uint32_t>> operands;  // [operands][rows]
  std::vector<std::uint32_t> result;                 // [rows]

  explicit Columns(int count) : operands(static_cast<std::size_t>(count)) {}
  std::size_t rows() const { return operands[0].size(); }

  void run(StripFunction function) {
    result.assign(rows(), 0xDEADBEEF);
    std::vector<Strip> strips;
    for (auto& column : operands) strips.push_back({column.data(), 0, 1});
    const auto size = static_cast<std::int64_t>(rows());
    function({.outer = 1, .inner = size, .result = {result.data(), size, 1}, .operands = strips.data()});
  }
};

Type operand_type(const Info& info, int place, Type last) {
  return info.rule == Rule::select && place == 0 ? Type::boolean : last;
}

Type result_type(const Info& info, Type last) {
  switch (info.rule) {
    case Rule::comparison:
    case Rule::logic: return Type::boolean;
    case Rule::to_real: return Type::real;
    case Rule::to_int: return Type::int32;
    default: return last;
  }
}

/// The types that an operation's last operand may have.
std::vector<Type> last_types(const Info& info) {
  switch (info.rule) {
    case Rule::arithmetic:
    case Rule::comparison: return {Type::int32, Type::real};
    case Rule::select: return {Type::boolean, Type::int32, Type::real};
    case Rule::logic: return {Type::boolean};
    case Rule::integer:
    case Rule::to_real: return {Type::int32};
    case Rule::real:
    case Rule::to_int: return {Type::real};
  }
  return {};
}

std::vector<std::uint32_t> specials(Type type) {
  std::vector<std::uint32_t> words;
  if (type == Type::boolean) return {0u, ~0u};
  if (type == Type::int32) {
    for (std::int64_t i : {0, 1, 2, 3, 7, 31, 32, 33, 64, 1023, 1 << 24, (1 << 24) + 1, 0x7FFFFFFE, 0x7FFFFFFF})
      for (std::int64_t v : {i, -i, -i - 1}) words.push_back(static_cast<std::uint32_t>(v));
    return words;
  }
  const float inf = std::numeric_limits<float>::infinity();
  for (float v : {0.0f,
                  0x1p-149f,
                  0x1p-140f,
                  0x1.fffffcp-127f,
                  0x1p-126f,
                  1e-20f,
                  0.5f,
                  0.999999f,
                  1.0f,
                  1.5f,
                  2.0f,
                  2.5f,
                  3.0f,
                  10.0f,
                  88.0f,
                  88.72284f,
                  89.0f,
                  100.0f,
                  103.97208f,
                  104.0f,
                  126.0f,
                  127.0f,
                  128.0f,
                  149.0f,
                  150.0f,
                  151.0f,
                  1e4f,
                  0x1p20f,
                  0x1.000002p20f,
                  8388607.5f,
                  0x1p23f,
                  0x1p31f,
                  0x1.fffffep30f,
                  0x1p32f,
                  1e30f,
                  3.402823466e38f,
                  inf,
                  std::numeric_limits<float>::quiet_NaN()})
    for (float s : {v, -v}) words.push_back(std::bit_cast<std::uint32_t>(s));
  return words;
}

std::uint32_t random_word(Random& random, Type type) {
  if (type == Type::boolean) return random.once_in(2) ? ~0u : 0u;
  if (type == Type::int32) return static_cast<std::uint32_t>(random.int32());
  return std::bit_cast<std::uint32_t>(random.real());
}

/// All pairs (triples for a selection) of special values, then random ones.
Columns inputs(const Info& info, Type last, Random& random) {
  Columns columns(info.operands);
  std::vector<std::vector<std::uint32_t>> special;
  for (int i = 0; i < info.operands; ++i) special.push_back(specials(operand_type(info, i, last)));
  std::size_t combinations = 1;
  for (const auto& values : special) combinations *= values.size();
  for (std::size_t c = 0; c < combinations; ++c) {
    std::size_t rest = c;
    for (std::size_t i = 0; i < special.size(); ++i) {
      columns.operands[i].push_back(special[i][rest % special[i].size()]);
      rest /= special[i].size();
    }
  }
  for (int row = 0; row < 20003; ++row) {
    for (std::size_t i = 0; i < special.size(); ++i)
      columns.operands[i].push_back(random_word(random, operand_type(info, static_cast<int>(i), last)));
  }
  return columns;
}

template <class Real>
Value<Real> value_of(Type type, std::uint32_t word) {
  Value<Real> value{};
  switch (type) {
    case Type::boolean: value.boolean = word != 0; break;
    case Type::int32: value.int32 = static_cast<std::int32_t>(word); break;
    case Type::real: value.real = std::bit_cast<float>(word); break;
  }
  return value;
}

template <class Real>
Value<Real> expected(std::size_t number, Type last, const Columns& columns, std::size_t row) {
  std::array<Value<Real>, 3> operands{};
  for (std::size_t i = 0; i < columns.operands.size(); ++i)
    operands[i] = value_of<Real>(operand_type(kInfo[number], static_cast<int>(i), last), columns.operands[i][row]);
  return evaluate_operation(static_cast<std::int32_t>(number), last, operands.data());
}

/// The distance of a float32 from the exact value in units in the last place of the exact one; infinite where one is
/// NaN and the other not. A result past the largest float counts as 2^128, its neighbour.
double ulps(float got, double exact) {
  if (std::isnan(exact) || std::isnan(got)) return std::isnan(exact) && std::isnan(got) ? 0 : kInfinity;
  const auto finite = [](double x) { return std::clamp(x, -0x1p128, 0x1p128); };
  const double size = finite(std::abs(exact));
  const int exponent = size < 0x1p-126 ? -126 : std::min(std::ilogb(size), 127);
  return std::abs(finite(got) - finite(exact)) / std::ldexp(1.0, exponent - 23);
}

TEST_P(LaneOperations, HaveTheBitsOfTheScalarReadingWhereTheyAreExact) {
  Random random(20261121);
  for (std::size_t number = 0; number < kInfo.size(); ++number) {
    const Info& info = kInfo[number];
    if (info.error.lanes != 0) continue;
    for (Type last : last_types(info)) {
      SCOPED_TRACE(testing::Message() << info.name << " on " << to_string(last));
      Columns columns = inputs(info, last, random);
      columns.run(operations().operation[number][last == Type::real]);
      int shown = 0;
      for (std::size_t row = 0; row < columns.rows() && shown < 5; ++row) {
        const auto want = expected<float>(number, last, columns, row);
        const std::uint32_t got = columns.result[row];
        bool same = false;
        switch (result_type(info, last)) {
          case Type::boolean: same = got == (want.boolean ? ~0u : 0u); break;
          case Type::int32: same = got == static_cast<std::uint32_t>(want.int32); break;
          case Type::real:
            same = got == std::bit_cast<std::uint32_t>(want.real) ||
                   (std::isnan(want.real) && std::isnan(std::bit_cast<float>(got)));
            break;
        }
        shown += same ? 0 : 1;
        EXPECT_TRUE(same) << std::hex << "operands " << columns.operands[0][row] << " " << columns.operands.back()[row]
                          << ": got " << got << ", scalar " << std::bit_cast<std::uint32_t>(want.real);
      }
    }
  }
}

/// Row i of the one is row 7919 * i of the other: other neighbours, and another place in the vector.
Columns shuffled(const Columns& columns) {
  Columns other = columns;
  for (std::size_t i = 0; i < columns.operands.size(); ++i) {
    for (std::size_t row = 0; row < columns.rows(); ++row)
      other.operands[i][row] = columns.operands[i][row * 7919 % columns.rows()];
  }
  return other;
}

TEST_P(LaneOperations, GiveTheSameBitsBesideAnyNeighbours) {
  Random random(20261121);
  for (std::size_t number = 0; number < kInfo.size(); ++number) {
    for (Type last : last_types(kInfo[number])) {
      const StripFunction function = operations().operation[number][last == Type::real];
      Columns columns = inputs(kInfo[number], last, random);
      while (columns.rows() % 7919 == 0) {  // the shuffle needs rows without that factor
        for (auto& column : columns.operands) column.pop_back();
      }
      Columns other = shuffled(columns);
      columns.run(function);
      other.run(function);
      std::size_t differing = 0;
      for (std::size_t row = 0; row < columns.rows(); ++row) {
        const std::uint32_t got = other.result[row], want = columns.result[row * 7919 % columns.rows()];
        const bool both_nan = result_type(kInfo[number], last) == Type::real && std::isnan(std::bit_cast<float>(got)) &&
                              std::isnan(std::bit_cast<float>(want));
        differing += got == want || both_nan ? 0 : 1;
      }
      EXPECT_EQ(differing, 0u) << kInfo[number].name << " on " << to_string(last);
    }
  }
}

/// Largest error over the rows, which the operation's Info must cover.
double largest_error(std::size_t number, const Columns& columns, std::size_t& worst) {
  double largest = 0;
  for (std::size_t row = 0; row < columns.rows(); ++row) {
    const double exact = expected<double>(number, Type::real, columns, row).real;
    const double error = ulps(std::bit_cast<float>(columns.result[row]), exact);
    if (error > largest) {
      largest = error;
      worst = row;
    }
  }
  return largest;
}

/// Float32 bit patterns from 0, this far apart. TILEWISE_SWEEP=1 tries each of the 2^32.
std::uint64_t sweep_step() {
  const char* step = std::getenv("TILEWISE_SWEEP");
  return step == nullptr ? 4001 : std::strtoull(step, nullptr, 10);
}

void expect_within_stated_error(std::size_t number, Columns& columns, StripFunction function, double& largest) {
  columns.run(function);
  std::size_t worst = 0;
  const double error = largest_error(number, columns, worst);
  largest = std::max(largest, error);
  EXPECT_LE(error, kInfo[number].error.lanes)
      << kInfo[number].name << "(" << std::bit_cast<float>(columns.operands[0][worst]) << ", "
      << std::bit_cast<float>(columns.operands.back()[worst]) << ") = " << std::bit_cast<float>(columns.result[worst]);
}

TEST_P(LaneOperations, KeepTheirStatedErrors) {
  Random random(20261121);
  for (std::size_t number = 0; number < kInfo.size(); ++number) {
    const Info& info = kInfo[number];
    if (info.error.lanes == 0) continue;
    ASSERT_EQ(last_types(info), std::vector{Type::real});
    const StripFunction function = operations().operation[number][1];
    double largest = 0;
    Columns mixed = inputs(info, Type::real, random);
    expect_within_stated_error(number, mixed, function, largest);

    for (std::uint64_t first = 0; first < std::uint64_t{1} << 32;) {
      Columns sweep(info.operands);
      for (; first < std::uint64_t{1} << 32 && sweep.rows() < 1 << 16; first += sweep_step()) {
        const auto word = static_cast<std::uint32_t>(first);
        const bool is_nan = std::isnan(std::bit_cast<float>(word));  // quiet, as conversion to float64 makes it
        sweep.operands[0].push_back(is_nan ? word | 0x400000u : word);
        if (info.operands == 2) {
          sweep.operands[1].push_back(
              std::bit_cast<std::uint32_t>(0.25f * static_cast<float>(random.between(-40, 40))));
        }
      }
      expect_within_stated_error(number, sweep, function, largest);
      if (testing::Test::HasFailure() && std::getenv("TILEWISE_SWEEP") == nullptr) break;
    }
    RecordProperty(std::string(info.name), std::to_string(largest));
    if (std::getenv("TILEWISE_SWEEP") != nullptr)
      std::printf("%-12s %s: %.3f ulp of %.0f stated\n", to_string(GetParam()), info.name.data(), largest,
                  info.error.lanes);
  }
}

TEST_P(LaneOperations, SettleClampsFiniteScoresOnly) {
  const float inf = std::numeric_limits<float>::infinity(), floor = -0x1p126f;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::pair<float, float>> cases = {{1, 1},
                                                      {-0.0f, -0.0f},
                                                      {floor, floor},
                                                      {std::nextafter(floor, -inf), floor},
                                                      {-3e38f, floor},
                                                      {-inf, -inf},
                                                      {inf, inf},
                                                      {nan, nan},
                                                      {std::nextafter(floor, 0.0f), std::nextafter(floor, 0.0f)}};
  Columns columns(1), kept(2);
  for (const auto& [score, settled] : cases) {
    columns.operands[0].push_back(std::bit_cast<std::uint32_t>(score));
    for (std::uint32_t keep : {0u, ~0u}) {
      kept.operands[0].push_back(keep);
      kept.operands[1].push_back(std::bit_cast<std::uint32_t>(score));
    }
  }
  columns.run(operations().settle);
  kept.run(operations().settle_kept);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto want = std::bit_cast<std::uint32_t>(cases[i].second);
    EXPECT_EQ(columns.result[i], want) << cases[i].first;
    EXPECT_EQ(kept.result[2 * i], std::bit_cast<std::uint32_t>(-inf)) << cases[i].first;
    EXPECT_EQ(kept.result[2 * i + 1], want) << cases[i].first;
  }
}

/// Strips of every shape, and no word beyond the result's.
TEST_P(LaneOperations, ReadRowsColumnsAndDiagonalsOfAnySize) {
  const StripFunction add = operations().operation[number_of<Addition>][0];
  for (std::int64_t inner = 1; inner <= 40; ++inner) {
    const std::int64_t outer = 3, stride = inner + 5;
    std::vector<std::int32_t> tile(static_cast<std::size_t>(outer * stride), -7), diagonal, row, column;
    for (std::int32_t i = 0; i < outer + inner - 1; ++i) diagonal.push_back(1000 + i);
    for (std::int32_t i = 0; i < inner; ++i) row.push_back(100 * i);
    for (std::int32_t i = 0; i < outer; ++i) column.push_back(10000 * i);
    const auto expect = [&](Strip a, Strip b, auto value) {
      std::fill(tile.begin(), tile.end(), -7);
      const Strip operands[] = {a, b};
      add({outer, inner, {tile.data(), stride, 1}, operands});
      for (std::int32_t o = 0; o < outer; ++o)
        for (std::int32_t i = 0; i < stride; ++i)
          ASSERT_EQ(tile[static_cast<std::size_t>(o * stride + i)], i < inner ? value(o, i) : -7) << o << " " << i;
    };
    const Strip rows{row.data(), 0, 1}, columns{column.data(), 1, 0}, uniform{column.data() + 1, 0, 0};
    const Strip diagonals{diagonal.data() + outer - 1, -1, 1}, same{tile.data(), stride, 1};
    expect(rows, columns, [](std::int32_t o, std::int32_t i) { return 100 * i + 10000 * o; });
    expect(diagonals, uniform,
           [&](std::int32_t o, std::int32_t i) { return 1000 + static_cast<std::int32_t>(outer) - 1 - o + i + 10000; });
    expect(same, uniform, [](std::int32_t, std::int32_t) { return -7 + 10000; });  // in place
  }
}

}  // namespace
}  // namespace tilewise::variant
