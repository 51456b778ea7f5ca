// Whether the diagonals of a tile all have the same value, or values on a line: bounds of what a diagonal's function
// computes, over the diagonals from a tile's least to its most.
//
// Clamped distances are one number in all tiles but a few near the clamp's ends, and what is read by them is, too;
// distances themselves lie on a line, and what they are multiplied by does not change that. Such a tile needs no value
// of its own for each diagonal. Of ints there are bounds; of reals, and of what is read, it is only known whether they
// are one number or on a line, and which. Functions bear the names that operations have in a variant's text
// (variant/rearranged_cuda_text.cc).
#pragma once

namespace tilewise::cuda::steady {

/// In [low, high]; where `step` is not 0, first + step * n for the n-th diagonal.
struct Ints {
  int low, high, first, step;

  __device__ bool is_point() const { return low == high; }
  __device__ int only() const { return low; }
  __device__ bool is_line() const { return is_point() || step != 0; }
};
/// One number, where that is known; where `step` is not 0, value + step * n for the n-th diagonal.
struct Real {
  float value;
  bool is_known;
  float step;

  __device__ bool is_point() const { return is_known; }
  __device__ float only() const { return value; }
  __device__ bool is_line() const { return is_known || step != 0; }
};
/// Surely true where `low`, surely false where not `high`.
struct Truth {
  bool low, high;

  __device__ bool is_point() const { return low == high; }
  __device__ bool only() const { return low; }
};

__device__ inline Ints point(int x) { return {x, x, x, 0}; }
__device__ inline Real point(float x) { return {x, true, 0}; }
__device__ inline Truth point(bool x) { return {x, x}; }

inline constexpr int kIntMin = -2147483647 - 1, kIntMax = 2147483647;

__device__ inline Ints any_of(int) { return {kIntMin, kIntMax, 0, 0}; }
__device__ inline Real any_of(float) { return {0, false, 0}; }
__device__ inline Truth any_of(bool) { return {false, true}; }

/// A function, of which only its values at single numbers are known. It can be called with any.
template <class Function, class... Bounds>
__device__ inline auto at_points(const Function& function, const Bounds&... bounds) {
  using Result = decltype(function(bounds.only()...));
  const bool are_points = (bounds.is_point() && ...);
  const auto result = point(function(bounds.only()...)), any = any_of(Result());
  return are_points ? result : any;
}

/// The diagonals themselves.
__device__ inline Ints diagonals(int least, int most) { return {least, most, least, least == most ? 0 : 1}; }

// ---- ints: what leaves int32 wraps, so that anything is possible

__device__ inline Ints ints(long long low, long long high, long long first = 0, long long step = 0) {
  return low < kIntMin || high > kIntMax ? any_of(0) : Ints{int(low), int(high), int(first), int(step)};
}
__device__ inline int smaller(int a, int b) { return b < a ? b : a; }
__device__ inline int larger(int a, int b) { return a < b ? b : a; }
/// Bounds without a line.
__device__ inline Ints between(int low, int high) { return {low, high, low, 0}; }

__device__ inline Ints add(const Ints& a, const Ints& b) {
  const bool is_line = a.is_line() && b.is_line();
  return ints(static_cast<long long>(a.low) + b.low, static_cast<long long>(a.high) + b.high,
              static_cast<long long>(a.first) + b.first, is_line ? static_cast<long long>(a.step) + b.step : 0);
}
__device__ inline Ints neg(const Ints& a) {
  return ints(-static_cast<long long>(a.high), -static_cast<long long>(a.low), -static_cast<long long>(a.first),
              -static_cast<long long>(a.step));
}
__device__ inline Ints sub(const Ints& a, const Ints& b) {
  const bool is_line = a.is_line() && b.is_line();
  return ints(static_cast<long long>(a.low) - b.high, static_cast<long long>(a.high) - b.low,
              static_cast<long long>(a.first) - b.first, is_line ? static_cast<long long>(a.step) - b.step : 0);
}
__device__ inline Ints mul(const Ints& a, const Ints& b) {
  const long long corners[] = {static_cast<long long>(a.low) * b.low, static_cast<long long>(a.low) * b.high,
                               static_cast<long long>(a.high) * b.low, static_cast<long long>(a.high) * b.high};
  long long low = corners[0], high = corners[0];
  for (int i = 1; i < 4; ++i) {
    low = corners[i] < low ? corners[i] : low;
    high = corners[i] > high ? corners[i] : high;
  }
  const long long step = b.is_point()   ? static_cast<long long>(a.step) * b.low
                         : a.is_point() ? static_cast<long long>(b.step) * a.low
                                        : 0;
  return ints(low, high, static_cast<long long>(a.first) * b.first, step);
}
__device__ inline Ints min(const Ints& a, const Ints& b) {
  if (a.high <= b.low) return a;
  return b.high <= a.low ? b : between(smaller(a.low, b.low), smaller(a.high, b.high));
}
__device__ inline Ints max(const Ints& a, const Ints& b) {
  if (a.low >= b.high) return a;
  return b.low >= a.high ? b : between(larger(a.low, b.low), larger(a.high, b.high));
}
/// abs(kIntMin) wraps to itself.
__device__ inline Ints abs(const Ints& a) {
  if (a.low == kIntMin) return any_of(0);
  if (a.low >= 0) return a;
  return a.high <= 0 ? neg(a) : between(0, larger(a.high, -a.low));
}

// ---- reals that may be contracted (docs/decisions/rearranged_scores.md): lines stay lines

__device__ inline Real line(float value, float step, bool is_known) {
  const bool is_finite = value - value == 0 && step - step == 0;
  return is_known || is_finite ? Real{value, is_known, is_known ? 0 : step} : any_of(0.0f);
}
__device__ inline Real to_real(const Ints& a) {
  return line(static_cast<float>(a.is_point() ? a.low : a.first), static_cast<float>(a.step), a.is_point());
}
__device__ inline Real add(const Real& a, const Real& b) {
  if (!a.is_line() || !b.is_line()) return any_of(0.0f);
  return line(a.value + b.value, a.step + b.step, a.is_known && b.is_known);
}
__device__ inline Real neg(const Real& a) { return {-a.value, a.is_known, -a.step}; }
__device__ inline Real sub(const Real& a, const Real& b) { return add(a, neg(b)); }
__device__ inline Real mul(const Real& a, const Real& b) {
  if (!a.is_line() || !b.is_line() || !(a.is_known || b.is_known)) return any_of(0.0f);
  return line(a.value * b.value, a.is_known ? a.value * b.step : a.step * b.value, a.is_known && b.is_known);
}

// ---- comparisons of ints

__device__ inline Truth eq(const Ints& a, const Ints& b) {
  return {a.is_point() && b.is_point() && a.low == b.low, a.low <= b.high && b.low <= a.high};
}
__device__ inline Truth ne(const Ints& a, const Ints& b) {
  const Truth equal = eq(a, b);
  return {!equal.high, !equal.low};
}
__device__ inline Truth lt(const Ints& a, const Ints& b) { return {a.high < b.low, a.low < b.high}; }
__device__ inline Truth le(const Ints& a, const Ints& b) { return {a.high <= b.low, a.low <= b.high}; }
__device__ inline Truth gt(const Ints& a, const Ints& b) { return lt(b, a); }
__device__ inline Truth ge(const Ints& a, const Ints& b) { return le(b, a); }

// ---- choices

__device__ inline Ints either_of(const Ints& a, const Ints& b) {
  return between(smaller(a.low, b.low), larger(a.high, b.high));
}
__device__ inline Real either_of(const Real& a, const Real& b) {
  return {a.value, a.is_known && b.is_known && __float_as_int(a.value) == __float_as_int(b.value), 0};
}
__device__ inline Truth either_of(const Truth& a, const Truth& b) { return {a.low && b.low, a.high || b.high}; }
template <class Bounds>
__device__ inline Bounds select(const Truth& condition, const Bounds& a, const Bounds& b) {
  const Bounds any = either_of(a, b);
  return condition.low ? a : condition.high ? any : b;
}

}  // namespace tilewise::cuda::steady
