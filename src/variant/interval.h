// Sound bounds of a value over a box of entries: the arithmetic of the interval reading.
//
// One interval bounds both the float32 and the float64 reading of the same graph: every real bound is rounded outward
// to float32, which absorbs the rounding of either. (Rounding is monotone, so the float32 result of an operation lies
// between the float32 roundings, downward and upward, of its exact bounds.) Ints are exact in a double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace tilewise::variant {

inline constexpr double kUnbounded = std::numeric_limits<double>::infinity();
inline constexpr double kIntMin = std::numeric_limits<std::int32_t>::min();
inline constexpr double kIntMax = std::numeric_limits<std::int32_t>::max();

/// All values lie in [low, high], or are NaN where `may_be_nan`. A bool is 0 or 1, so [0, 1] is "unknown".
struct Interval {
  double low = -kUnbounded;
  double high = kUnbounded;
  bool may_be_nan = false;

  bool is_single() const { return low == high && !may_be_nan; }
  bool contains(double value) const { return low <= value && value <= high; }
  bool is_true() const { return low == 1; }
  bool is_false() const { return high == 0; }
  friend bool operator==(const Interval&, const Interval&) = default;
};

inline constexpr Interval kUnknown{0, 1, false};
inline constexpr Interval kAnyInt{kIntMin, kIntMax, false};
inline constexpr Interval kAnyReal{-kUnbounded, kUnbounded, true};

constexpr Interval single(double value) { return {value, value, false}; }

/// The bool interval of a comparison that is surely true, surely false, or neither.
constexpr Interval three_valued(bool surely_true, bool surely_false) {
  return {surely_true ? 1.0 : 0.0, surely_false ? 0.0 : 1.0, false};
}

/// The smallest interval around both.
inline Interval hull(const Interval& a, const Interval& b) {
  return {std::min(a.low, b.low), std::max(a.high, b.high), a.may_be_nan || b.may_be_nan};
}

/// Exact bounds of an int32 result; one that leaves int32 wraps, so anything is possible.
inline Interval int_bounds(double low, double high) {
  if (low < kIntMin || high > kIntMax) return kAnyInt;
  return {low, high, false};
}

/// The largest float32 not above x, and the smallest not below it.
inline double round_down(double x) {
  const auto nearest = static_cast<float>(x);
  return nearest <= x ? nearest : std::nextafter(nearest, -std::numeric_limits<float>::infinity());
}
inline double round_up(double x) {
  const auto nearest = static_cast<float>(x);
  return nearest >= x ? nearest : std::nextafter(nearest, std::numeric_limits<float>::infinity());
}

/// Bounds of a correctly rounded real result. A NaN bound (such as inf - inf) stands for "unbounded on that side".
inline Interval real_bounds(double low, double high, bool may_be_nan) {
  return {std::isnan(low) ? -kUnbounded : round_down(low), std::isnan(high) ? kUnbounded : round_up(high), may_be_nan};
}

/// Bounds of a result that is wrong by up to `ulps` float32 units in the last place, clipped to [floor, ceiling],
/// which no reading leaves.
inline Interval widened(double low, double high, bool may_be_nan, double ulps, double floor = -kUnbounded,
                        double ceiling = kUnbounded) {
  const double relative = ulps * 0x1p-23;
  const double absolute = ulps * 0x1p-149;  // the spacing of subnormal float32
  if (std::isfinite(low)) low -= std::abs(low) * relative + absolute;
  if (std::isfinite(high)) high += std::abs(high) * relative + absolute;
  return real_bounds(std::max(low, floor), std::min(high, ceiling), may_be_nan);
}

}  // namespace tilewise::variant
