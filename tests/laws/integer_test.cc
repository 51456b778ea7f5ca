// Integers: Python's floor division and modulo, and the intervals of int operations, exhaustively where ints are small.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <limits>

#include "tests/laws/choices.h"
#include "tests/laws/operations.h"
#include "variant/scalar.h"

namespace tilewise::laws {
namespace {

using namespace variant;  // NOLINT(google-build-using-namespace): the laws look into operations

constexpr std::int32_t kLeast = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();

std::int32_t wrapped(std::int64_t x) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(x)); }

void expect_python_signs(std::int32_t x, std::int32_t y) {
  const std::int32_t quotient = FloorDivision::scalar(x, y), remainder = Modulo::scalar(x, y);
  RC_LOG() << x << " // " << y << " = " << quotient << ", % gives " << remainder << '\n';
  RC_ASSERT(wrapped(std::int64_t{quotient} * y + remainder) == x);
  if (y > 0) RC_ASSERT(0 <= remainder && remainder < y);
  if (y < 0) RC_ASSERT(y < remainder && remainder <= 0);
  if (y == 0) RC_ASSERT(quotient == 0 && remainder == x);
  // A remainder of that sign and size leaves one quotient, but for the one that int32 cannot hold.
  if (y != 0) RC_ASSERT(quotient == wrapped((std::int64_t{x} - remainder) / y));
}

RC_GTEST_PROP(FloorDivision, LeavesARemainderOfTheDivisorsSign, (Choices choices)) {
  for (int i = 0; i < 16; ++i) expect_python_signs(choices.int32(), choices.int32());
}

RC_GTEST_PROP(FloorDivision, HoldsForAnyInts, (std::int32_t x, std::int32_t y)) { expect_python_signs(x, y); }

TEST(FloorDivisionAtTheEdges, TheOneQuotientOutOfRangeWraps) {
  EXPECT_EQ(FloorDivision::scalar(kLeast, -1), kLeast);
  EXPECT_EQ(Modulo::scalar(kLeast, -1), 0);
  EXPECT_EQ(FloorDivision::scalar(kLeast, kLeast), 1);
  EXPECT_EQ(FloorDivision::scalar(kMost, kLeast), -1);
  EXPECT_EQ(Modulo::scalar(kMost, kLeast), -1);  // 2^31 - 1 = -1 * -2^31 - 1
  EXPECT_EQ(FloorDivision::scalar(-7, 2), -4);
  EXPECT_EQ(Modulo::scalar(-7, 2), 1);
  EXPECT_EQ(FloorDivision::scalar(7, -2), -4);
  EXPECT_EQ(Modulo::scalar(7, -2), -1);
}

/// All intervals within windows of neighbouring ints: around 0, at both ends of int32, and at the sign of a shift.
std::vector<Interval> small_intervals() {
  std::vector<Interval> intervals;
  for (const auto& [first, last] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {-5, 5}, {kLeast, kLeast + 2}, {kMost - 2, kMost}, {30, 33}}) {
    for (std::int64_t low = first; low <= last; ++low) {
      for (std::int64_t high = low; high <= last; ++high)
        intervals.push_back({static_cast<double>(low), static_cast<double>(high), false});
    }
  }
  return intervals;
}

/// Checks one operation over all values of its operands' intervals; returns whether all were inside.
bool contains_all(std::size_t number, Type result, const std::vector<Interval>& x) {
  const Interval bounds = interval_of(number, Type::int32, x);
  const Interval a = x[0], b = x.size() > 1 ? x[1] : single(0);
  for (double first = a.low; first <= a.high; ++first) {
    for (double second = b.low; second <= b.high; ++second) {
      std::array<Value<double>, 2> operands{};
      operands[0].int32 = static_cast<std::int32_t>(first);
      operands[1].int32 = static_cast<std::int32_t>(second);
      const Value<double> value = evaluate_operation(static_cast<std::int32_t>(number), Type::int32, operands.data());
      const double found = result == Type::int32 ? value.int32 : result == Type::real ? value.real : value.boolean;
      if (!bounds.contains(found)) {
        ADD_FAILURE() << kInfo[number].name << '(' << first << ", " << second << ") = " << found << " is not in ["
                      << bounds.low << ", " << bounds.high << "], the bounds over [" << a.low << ", " << a.high
                      << "] and [" << b.low << ", " << b.high << ']';
        return false;
      }
    }
  }
  return true;
}

TEST(IntegerIntervals, ContainEveryValueOfSmallOperands) {
  const std::vector<Interval> intervals = small_intervals();
  for (std::size_t number = 0; number < kInfo.size(); ++number) {
    const Info& info = kInfo[number];
    const std::vector<Type> types = operand_types(info, Type::int32);
    const bool of_ints = std::count(types.begin(), types.end(), Type::int32) == info.operands && info.operands <= 2;
    if (!of_ints) continue;
    const Type result = result_type(info, Type::int32);
    bool holds = true;
    for (const Interval& a : intervals) {
      if (info.operands == 1) {
        holds = holds && contains_all(number, result, {a});
      } else {
        for (const Interval& b : intervals) holds = holds && contains_all(number, result, {a, b});
      }
    }
    EXPECT_TRUE(holds) << info.name;
  }
}

TEST(IntegerIntervals, OfSmallSingleOperandsAreSingle) {
  // What makes classification exact on single entries. Divisors of 0 are left out: their bounds are wider.
  for (std::size_t number = 0; number < kInfo.size(); ++number) {
    const Info& info = kInfo[number];
    const std::vector<Type> types = operand_types(info, Type::int32);
    if (std::count(types.begin(), types.end(), Type::int32) != info.operands) continue;
    for (int a = -9; a <= 9; ++a) {
      for (int b = 1; b <= 9; ++b) {
        std::vector<Interval> x{single(a), single(b)};
        x.resize(types.size());
        const Interval bounds = interval_of(number, Type::int32, x);
        EXPECT_TRUE(bounds.is_single()) << info.name << ' ' << a << ' ' << b;
      }
    }
  }
}

}  // namespace
}  // namespace tilewise::laws
