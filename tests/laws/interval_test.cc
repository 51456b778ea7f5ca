// An operation's interval contains its scalar values, float32 and float64, over all operands inside its operands'.
#include "variant/interval.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <fmt/format.h>

#include <algorithm>

#include "tests/laws/choices.h"
#include "tests/laws/operations.h"
#include "tests/laws/reading.h"

namespace tilewise::laws {
namespace {

using namespace variant;  // NOLINT(google-build-using-namespace): the laws look into operations

Interval random_interval(Choices& choices, Type type) {
  switch (type) {
    case Type::boolean: return choices.any_of(std::array{single(0), single(1), kUnknown});
    case Type::int32: {
      if (choices.once_in(12)) return kAnyInt;
      const double a = choices.int32(), b = choices.once_in(4) ? a : choices.int32();
      return {std::min(a, b), std::max(a, b), false};
    }
    case Type::real: {
      if (choices.once_in(12)) return kAnyReal;
      const double a = static_cast<float>(choices.real(true));
      const double b = choices.once_in(4) ? a : static_cast<float>(choices.real(true));
      return {std::min(a, b), std::max(a, b), choices.once_in(6)};
    }
  }
  return {};
}

/// A value of the interval: an end, a zero, something between, NaN where it may be.
template <class Real>
Value<Real> random_value(Choices& choices, Type type, Interval x) {
  Value<Real> value{};
  if (type == Type::boolean) {
    value.boolean = x.low == x.high ? x.low == 1 : choices.below(2) == 1;
  } else if (type == Type::int32) {
    const auto low = static_cast<std::int64_t>(x.low), high = static_cast<std::int64_t>(x.high);
    const std::array candidates{low, high, choices.between(low, high), choices.between(low, std::min(high, low + 8)),
                                std::clamp<std::int64_t>(0, low, high)};
    value.int32 = static_cast<std::int32_t>(choices.any_of(candidates));
  } else {
    if (x.may_be_nan && choices.once_in(4)) {
      value.real = std::numeric_limits<Real>::quiet_NaN();
      return value;
    }
    const double share = static_cast<double>(choices.word()) * 0x1p-32;
    const double largest = std::numeric_limits<float>::max();
    const double least = std::clamp(x.low, -largest, largest), most = std::clamp(x.high, -largest, largest);
    const std::array candidates{x.low, x.high, std::clamp(choices.real(), x.low, x.high),
                                std::clamp(least + share * (most - least), x.low, x.high),
                                x.contains(0) ? (choices.once_in(2) ? 0.0 : -0.0) : x.low};
    value.real = static_cast<Real>(choices.any_of(candidates));  // rounding cannot leave float32 bounds
  }
  return value;
}

bool contains(Type type, Interval x, double value) {
  if (std::isnan(value)) return x.may_be_nan;
  return x.contains(value) && (type != Type::boolean || value == 0 || value == 1);
}

/// Bounds that the next operation can go on with.
bool is_well_formed(Type type, Interval x) {
  if (!(x.low <= x.high)) return false;
  if (type == Type::boolean) return (x.low == 0 || x.low == 1) && (x.high == 0 || x.high == 1) && !x.may_be_nan;
  if (type == Type::int32) {
    return kIntMin <= x.low && x.high <= kIntMax && std::floor(x.low) == x.low && std::floor(x.high) == x.high &&
           !x.may_be_nan;
  }
  return round_down(x.low) == x.low && round_up(x.high) == x.high;
}

std::string shown(Interval x) { return fmt::format("[{}, {}{}]", x.low, x.high, x.may_be_nan ? " or NaN" : ""); }

template <class Real>
void expect_contained(std::size_t number, Type chosen, const std::vector<Interval>& x, Interval result,
                      Choices& values) {
  const Info& info = kInfo[number];
  const std::vector<Type> types = operand_types(info, chosen);
  for (int i = 0; i < 4; ++i) {
    std::vector<Value<Real>> operands;
    for (std::size_t j = 0; j < types.size(); ++j) operands.push_back(random_value<Real>(values, types[j], x[j]));
    const Value<Real> value = evaluate_operation(static_cast<std::int32_t>(number), types.back(), operands.data());
    const Type type = result_type(info, chosen);
    if (contains(type, result, as_double(type, value))) continue;
    std::string report = fmt::format("{} of {}-bit reals", info.name, 8 * sizeof(Real));
    for (std::size_t j = 0; j < types.size(); ++j)
      report += fmt::format("\n  operand {} = {} in {}", j + 1, as_double(types[j], operands[j]), shown(x[j]));
    report += fmt::format("\n  result {} not in {}", as_double(type, value), shown(result));
    RC_FAIL(report);
  }
}

RC_GTEST_PROP(OperationIntervals, ContainEveryScalarValue, (std::uint64_t seed)) {
  for (std::size_t number = 0; number < kInfo.size(); ++number) {
    const Info& info = kInfo[number];
    Choices intervals = full_tape(seed + number), values = full_tape(~(seed + number));
    for (Type chosen : {Type::int32, Type::real}) {
      std::vector<Interval> x;
      for (Type type : operand_types(info, chosen)) x.push_back(random_interval(intervals, type));
      const Interval result = interval_of(number, chosen, x);
      if (!is_well_formed(result_type(info, chosen), result)) {
        std::string report(info.name);
        for (Interval operand : x) report += fmt::format(" {}", shown(operand));
        RC_FAIL(fmt::format("{} gives {}, no bounds of its type", report, shown(result)));
      }
      expect_contained<float>(number, chosen, x, result, values);
      expect_contained<double>(number, chosen, x, result, values);
    }
  }
}

}  // namespace
}  // namespace tilewise::laws
