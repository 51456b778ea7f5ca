// The interval reading on a GPU: sound bounds of a variant's values over a box of entries.
//
// The same bounds as the host's, operation by operation, since both are double arithmetic in the same order: ints are
// exact, and every real bound is rounded outwards to float32. Each type of a value has its own bounds, so that
// functions are chosen by overloading, and bear the names that operations have in a variant's text.
#pragma once

namespace tilewise::cuda::bounds {

inline constexpr double kIntMin = -2147483648.0, kIntMax = 2147483647.0;

/// Infinity; no literal of it is known to every compiler that reads this.
__device__ inline double unbounded() {
  const double largest = 0x1.fffffffffffffp1023;
  return 2 * largest;
}

/// A bool: surely true where `low`, surely false where not `high`.
struct Truth {
  bool low, high;
};
struct Ints {
  double low, high;
};
/// Values are in [low, high], or NaN where that may be.
struct Reals {
  double low, high;
  bool may_be_nan;
};

__device__ inline double smaller(double a, double b) { return b < a ? b : a; }
__device__ inline double larger(double a, double b) { return a < b ? b : a; }
__device__ inline bool is_nan(double x) { return x != x; }
__device__ inline bool is_finite(double x) { return x - x == 0; }

__device__ inline Truth unknown() { return {false, true}; }
__device__ inline Ints any_int() { return {kIntMin, kIntMax}; }
__device__ inline Reals any_real() { return {-unbounded(), unbounded(), true}; }

__device__ inline Truth single(bool x) { return {x, x}; }
__device__ inline Ints single(int x) { return {double(x), double(x)}; }
__device__ inline Reals single(float x) {
  if (x != x) return any_real();
  return {double(x), double(x), false};
}

__device__ inline bool contains(const Ints& x, double value) { return x.low <= value && value <= x.high; }
__device__ inline bool contains(const Reals& x, double value) { return x.low <= value && value <= x.high; }
__device__ inline bool is_single(const Ints& x) { return x.low == x.high; }
__device__ inline bool is_single(const Reals& x) { return x.low == x.high && !x.may_be_nan; }

__device__ inline Truth hull(const Truth& a, const Truth& b) { return {a.low && b.low, a.high || b.high}; }
__device__ inline Ints hull(const Ints& a, const Ints& b) { return {smaller(a.low, b.low), larger(a.high, b.high)}; }
__device__ inline Reals hull(const Reals& a, const Reals& b) {
  return {smaller(a.low, b.low), larger(a.high, b.high), a.may_be_nan || b.may_be_nan};
}

/// An int32 result; one that leaves int32 wraps, so anything is possible.
__device__ inline Ints int_bounds(double low, double high) {
  if (low < kIntMin || high > kIntMax) return any_int();
  return {low, high};
}

/// The float32 below or above x, at a distance of one step, where x is none itself.
__device__ inline double stepped(float x, bool up) {
  return nextafterf(x, up ? float(unbounded()) : -float(unbounded()));
}
__device__ inline double round_down(double x) {
  const float nearest = float(x);
  return nearest <= x ? nearest : stepped(nearest, false);
}
__device__ inline double round_up(double x) {
  const float nearest = float(x);
  return nearest >= x ? nearest : stepped(nearest, true);
}

/// A correctly rounded real result. A NaN bound, such as inf - inf, stands for "unbounded on that side".
__device__ inline Reals real_bounds(double low, double high, bool may_be_nan) {
  return {is_nan(low) ? -unbounded() : round_down(low), is_nan(high) ? unbounded() : round_up(high), may_be_nan};
}

/// A result that is wrong by up to `ulps` units in the last place of float32, clipped to what no reading leaves.
__device__ inline Reals widened(double low, double high, bool may_be_nan, double ulps, double floor = -unbounded(),
                                double ceiling = unbounded()) {
  const double relative = ulps * 0x1p-23, absolute = ulps * 0x1p-149;
  if (is_finite(low)) low -= fabs(low) * relative + absolute;
  if (is_finite(high)) high += fabs(high) * relative + absolute;
  return real_bounds(larger(low, floor), smaller(high, ceiling), may_be_nan);
}

/// The integer below a quotient of two int32.
__device__ inline double quotient_floor(double quotient) { return ::floor(quotient); }

struct Range {
  double low, high;
};
__device__ inline Range range_of(double a, double b, double c, double d) {
  return {smaller(smaller(a, b), smaller(c, d)), larger(larger(a, b), larger(c, d))};
}

// ---- arithmetic ----

__device__ inline Ints add(const Ints& a, const Ints& b) { return int_bounds(a.low + b.low, a.high + b.high); }
__device__ inline Reals add(const Reals& a, const Reals& b) {
  const bool opposite_infinities =
      (a.high == unbounded() && b.low == -unbounded()) || (a.low == -unbounded() && b.high == unbounded());
  return real_bounds(a.low + b.low, a.high + b.high, a.may_be_nan || b.may_be_nan || opposite_infinities);
}
__device__ inline Ints neg(const Ints& a) { return int_bounds(-a.high, -a.low); }
__device__ inline Reals neg(const Reals& a) { return {-a.high, -a.low, a.may_be_nan}; }
__device__ inline Ints sub(const Ints& a, const Ints& b) { return int_bounds(a.low - b.high, a.high - b.low); }
__device__ inline Reals sub(const Reals& a, const Reals& b) { return add(a, neg(b)); }

/// A corner 0 * inf is no value that a product takes; its neighbours are zeros.
__device__ inline double product(double a, double b) { return a == 0 || b == 0 ? 0 : a * b; }
template <class T>
__device__ inline Range products(const T& a, const T& b) {
  return range_of(product(a.low, b.low), product(a.low, b.high), product(a.high, b.low), product(a.high, b.high));
}
__device__ inline bool zero_times_infinity(const Reals& a, const Reals& b) {
  return contains(a, 0) && (b.low == -unbounded() || b.high == unbounded());
}
__device__ inline Ints mul(const Ints& a, const Ints& b) {
  const Range range = products(a, b);
  return int_bounds(range.low, range.high);
}
__device__ inline Reals mul(const Reals& a, const Reals& b) {
  const Range range = products(a, b);
  return real_bounds(range.low, range.high,
                     a.may_be_nan || b.may_be_nan || zero_times_infinity(a, b) || zero_times_infinity(b, a));
}
__device__ inline Reals div(const Reals& a, const Reals& b) {
  const bool infinite_a = a.low == -unbounded() || a.high == unbounded();
  const bool infinite_b = b.low == -unbounded() || b.high == unbounded();
  const bool may_be_nan =
      a.may_be_nan || b.may_be_nan || (infinite_a && infinite_b) || (contains(a, 0) && contains(b, 0));
  if (contains(b, 0) || (infinite_a && infinite_b)) return {-unbounded(), unbounded(), may_be_nan};
  const Range range = range_of(a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high);
  return real_bounds(range.low, range.high, may_be_nan);
}
__device__ inline Ints floor_divide(const Ints& a, const Ints& b) {
  if (contains(b, 0)) {  // |quotient| <= |a|
    const double largest = larger(fabs(a.low), fabs(a.high));
    return int_bounds(-largest, largest);
  }
  const Range range = range_of(quotient_floor(a.low / b.low), quotient_floor(a.low / b.high),
                               quotient_floor(a.high / b.low), quotient_floor(a.high / b.high));
  return int_bounds(range.low, range.high);
}
__device__ inline Ints mod(const Ints& a, const Ints& b) {
  if (is_single(b) && b.low != 0) {  // inside one period the remainder just shifts
    const double quotient = quotient_floor(a.low / b.low);
    if (quotient_floor(a.high / b.low) == quotient) return {a.low - quotient * b.low, a.high - quotient * b.low};
  }
  if (a.low >= 0 && a.high < b.low) return a;
  const Ints remainder{smaller(b.low + 1, 0), larger(b.high - 1, 0)};
  return contains(b, 0) ? hull(remainder, a) : remainder;
}
__device__ inline Ints min(const Ints& a, const Ints& b) { return {smaller(a.low, b.low), smaller(a.high, b.high)}; }
__device__ inline Reals min(const Reals& a, const Reals& b) {
  return {smaller(a.low, b.low), smaller(a.high, b.high), a.may_be_nan || b.may_be_nan};
}
__device__ inline Ints max(const Ints& a, const Ints& b) { return {larger(a.low, b.low), larger(a.high, b.high)}; }
__device__ inline Reals max(const Reals& a, const Reals& b) {
  return {larger(a.low, b.low), larger(a.high, b.high), a.may_be_nan || b.may_be_nan};
}
template <class T>
__device__ inline Range magnitudes(const T& a) {
  return {contains(a, 0) ? 0 : smaller(fabs(a.low), fabs(a.high)), larger(fabs(a.low), fabs(a.high))};
}
__device__ inline Ints abs(const Ints& a) {
  const Range range = magnitudes(a);
  return int_bounds(range.low, range.high);
}
__device__ inline Reals abs(const Reals& a) {
  const Range range = magnitudes(a);
  return {range.low, range.high, a.may_be_nan};
}
__device__ inline Reals floor(const Reals& x) { return {::floor(x.low), ::floor(x.high), x.may_be_nan}; }

// ---- bits ----

/// The largest value with as many bits as a non-negative x needs: 2^n - 1.
__device__ inline double all_bits_below(double x) {
  unsigned bits = unsigned(x);
  for (int shift = 1; shift < 32; shift *= 2) bits |= bits >> shift;
  return bits;
}
__device__ inline Ints bit_and(const Ints& a, const Ints& b) {
  if (is_single(a) && is_single(b)) return single(int(a.low) & int(b.low));
  if (a.low >= 0 && b.low >= 0) return {0, smaller(a.high, b.high)};
  if (a.low >= 0) return {0, a.high};
  if (b.low >= 0) return {0, b.high};
  return any_int();
}
__device__ inline Ints bit_or(const Ints& a, const Ints& b) {
  if (is_single(a) && is_single(b)) return single(int(a.low) | int(b.low));
  if (a.low >= 0 && b.low >= 0) return {larger(a.low, b.low), all_bits_below(larger(a.high, b.high))};
  return any_int();
}
__device__ inline Ints bit_xor(const Ints& a, const Ints& b) {
  if (is_single(a) && is_single(b)) return single(int(a.low) ^ int(b.low));
  if (a.low >= 0 && b.low >= 0) return {0, all_bits_below(larger(a.high, b.high))};
  return any_int();
}
__device__ inline Ints bit_not(const Ints& a) { return {-1 - a.high, -1 - a.low}; }
__device__ inline Ints shift_left(const Ints& a, const Ints& b) {
  if (!is_single(b)) return any_int();
  const double factor = ldexp(1.0, int(b.low) & 31);
  return int_bounds(a.low * factor, a.high * factor);
}
__device__ inline Ints shift_right(const Ints& a, const Ints& b) {
  if (!is_single(b)) return {smaller(a.low, 0), larger(a.high, 0)};
  const double factor = ldexp(1.0, -(int(b.low) & 31));
  return {::floor(a.low * factor), ::floor(a.high * factor)};
}

// ---- comparisons and logic ----

__device__ inline bool may_be_nan(const Truth&) { return false; }
__device__ inline bool may_be_nan(const Ints&) { return false; }
__device__ inline bool may_be_nan(const Reals& x) { return x.may_be_nan; }

/// A bound with NaN decides nothing.
template <class T>
__device__ inline Truth comparison(const T& a, const T& b, bool surely_true, bool surely_false) {
  if (may_be_nan(a) || may_be_nan(b)) return unknown();
  return {surely_true, !surely_false};
}
template <class T>
__device__ inline bool are_one(const T& a, const T& b) {
  return a.low == a.high && a.low == b.low && a.high == b.high;
}
template <class T>
__device__ inline bool are_apart(const T& a, const T& b) {
  return a.high < b.low || b.high < a.low;
}
template <class T>
__device__ inline Truth eq(const T& a, const T& b) {
  return comparison(a, b, are_one(a, b), are_apart(a, b));
}
template <class T>
__device__ inline Truth ne(const T& a, const T& b) {
  return comparison(a, b, are_apart(a, b), are_one(a, b));
}
template <class T>
__device__ inline Truth lt(const T& a, const T& b) {
  return comparison(a, b, a.high < b.low, a.low >= b.high);
}
template <class T>
__device__ inline Truth le(const T& a, const T& b) {
  return comparison(a, b, a.high <= b.low, a.low > b.high);
}
template <class T>
__device__ inline Truth gt(const T& a, const T& b) {
  return lt(b, a);
}
template <class T>
__device__ inline Truth ge(const T& a, const T& b) {
  return le(b, a);
}
__device__ inline Truth both(const Truth& a, const Truth& b) { return {a.low && b.low, a.high && b.high}; }
__device__ inline Truth either(const Truth& a, const Truth& b) { return {a.low || b.low, a.high || b.high}; }
__device__ inline Truth negate(const Truth& a) { return {!a.high, !a.low}; }
template <class T>
__device__ inline T select(const Truth& condition, const T& if_true, const T& if_false) {
  if (condition.low) return if_true;
  if (!condition.high) return if_false;
  return hull(if_true, if_false);
}
__device__ inline Reals to_real(const Ints& a) { return real_bounds(a.low, a.high, false); }
__device__ inline double clipped_to_int(double x) { return smaller(larger(x, kIntMin), kIntMax); }
__device__ inline Ints to_int(const Reals& a) {
  const Ints bounds{trunc(clipped_to_int(a.low)), trunc(clipped_to_int(a.high))};
  return a.may_be_nan ? hull(bounds, {0, 0}) : bounds;
}

// ---- functions; the numbers are each operation's largest error in units in the last place ----

__device__ inline Reals exp(const Reals& x) { return widened(::exp(x.low), ::exp(x.high), x.may_be_nan, 2, 0); }
__device__ inline Reals exp2(const Reals& x) { return widened(::exp2(x.low), ::exp2(x.high), x.may_be_nan, 2, 0); }

/// -inf at 0, NaN below.
template <class Function>
__device__ inline Reals logarithm(const Reals& x, double ulps, Function function) {
  if (x.high < 0) return any_real();
  return widened(x.low <= 0 ? -unbounded() : function(x.low), x.high == 0 ? -unbounded() : function(x.high),
                 x.may_be_nan || x.low < 0, ulps);
}
__device__ inline Reals log(const Reals& x) {
  return logarithm(x, 1, [](double v) { return ::log(v); });
}
__device__ inline Reals log2(const Reals& x) {
  return logarithm(x, 2, [](double v) { return ::log2(v); });
}
__device__ inline Reals sqrt(const Reals& x) {
  if (x.high < 0) return any_real();
  return real_bounds(::sqrt(larger(x.low, 0)), ::sqrt(x.high), x.may_be_nan || x.low < 0);
}
__device__ inline Reals rsqrt(const Reals& x) {
  if (x.high < 0) return any_real();
  if (x.low <= 0) return {-unbounded(), unbounded(), x.may_be_nan || x.low < 0};
  return widened(1 / ::sqrt(x.high), 1 / ::sqrt(x.low), x.may_be_nan, 2, 0);
}
__device__ inline Reals tanh(const Reals& x) { return widened(::tanh(x.low), ::tanh(x.high), x.may_be_nan, 7, -1, 1); }
__device__ inline double sigmoid_of(double x) {
  const double e = ::exp(-fabs(x));
  return (x < 0 ? e : 1) / (1 + e);
}
__device__ inline Reals sigmoid(const Reals& x) {
  return widened(sigmoid_of(x.low), sigmoid_of(x.high), x.may_be_nan, 4, 0, 1);
}
__device__ inline Reals erf(const Reals& x) { return widened(::erf(x.low), ::erf(x.high), x.may_be_nan, 3, -1, 1); }

inline constexpr double kPi = 3.14159265358979323846;

/// Cosine's extremes are where the argument passes a multiple of pi.
__device__ inline Reals cosine_bounds(const Reals& x, double phase) {
  const bool nan = x.may_be_nan || x.low == -unbounded() || x.high == unbounded();
  if (fabs(x.low) > 0x1p20 || fabs(x.high) > 0x1p20) return {-1, 1, nan};
  const double low = x.low + phase, high = x.high + phase;
  double smallest = smaller(::cos(low), ::cos(high)), largest = larger(::cos(low), ::cos(high));
  const double first = ceil(low / kPi), last = ::floor(high / kPi);
  for (double multiple = first; multiple <= last && multiple <= first + 1; multiple += 1) {
    if (fmod(multiple, 2.0) == 0) {
      largest = 1;
    } else {
      smallest = -1;
    }
  }
  constexpr double kUlps = 2, kSlack = kUlps * 0x1p-23;
  return widened(smallest - kSlack, largest + kSlack, nan, kUlps, -1, 1);
}
__device__ inline Reals sin(const Reals& x) { return cosine_bounds(x, -kPi / 2); }
__device__ inline Reals cos(const Reals& x) { return cosine_bounds(x, 0); }

__device__ inline Reals pow(const Reals& x, const Reals& exponent) {
  constexpr double kUlps = 8;
  if (!is_single(exponent)) return any_real();
  const double power = exponent.low, a = ::pow(x.low, power), b = ::pow(x.high, power);
  if (x.low > 0) return widened(smaller(a, b), larger(a, b), x.may_be_nan, kUlps, 0);
  const bool is_natural = power >= 1 && power <= 0x1p24 && power == ::floor(power);
  if (!is_natural) return any_real();
  if (fmod(power, 2.0) == 1) return widened(a, b, x.may_be_nan, kUlps);
  return widened(contains(x, 0) ? 0 : smaller(a, b), larger(a, b), x.may_be_nan, kUlps, 0);
}

// ---- what decides an entry ----

/// Whether a score stage keeps an entry, from its result for usual scores, up to 2^64, and for every finite score
/// (docs/decisions/masks.md). A NaN is kept.
__device__ inline Truth stage_keeps(const Reals& usual, const Reals& every) {
  const bool surely_removed = every.high == -unbounded() && !every.may_be_nan;
  return {usual.low > -unbounded() && !surely_removed, !surely_removed};
}
__device__ inline Reals usual_score() { return {-0x1p64, 0x1p64, false}; }
__device__ inline Reals every_score() { return {-0x1.fffffep127, 0x1.fffffep127, false}; }
__device__ inline Reals floored(const Reals& score) { return max(score, {-0x1p126, -0x1p126, false}); }

}  // namespace tilewise::cuda::bounds
