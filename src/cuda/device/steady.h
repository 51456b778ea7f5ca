// Whether the diagonals of a tile all have the same value: bounds of what a diagonal's function computes, over the
// diagonals from a tile's least to its most.
//
// Clamped distances are one number in all tiles but a few near the clamp's ends, and what is read by them is, too. Such
// a tile needs no value of its own for each diagonal. Of ints there are bounds; of reals, and of what is read, it is
// only known whether they are one number, and which. Functions bear the names that operations have in a variant's text
// (variant/rearranged_cuda_text.cc).
#pragma once

namespace tilewise::cuda::steady {

/// In [low, high].
struct Ints {
  int low, high;

  __device__ bool is_point() const { return low == high; }
  __device__ int only() const { return low; }
};
/// One number, where that is known.
struct Real {
  float value;
  bool is_known;

  __device__ bool is_point() const { return is_known; }
  __device__ float only() const { return value; }
};
/// Surely true where `low`, surely false where not `high`.
struct Truth {
  bool low, high;

  __device__ bool is_point() const { return low == high; }
  __device__ bool only() const { return low; }
};

__device__ inline Ints point(int x) { return {x, x}; }
__device__ inline Real point(float x) { return {x, true}; }
__device__ inline Truth point(bool x) { return {x, x}; }

inline constexpr int kIntMin = -2147483647 - 1, kIntMax = 2147483647;

__device__ inline Ints any_of(int) { return {kIntMin, kIntMax}; }
__device__ inline Real any_of(float) { return {0, false}; }
__device__ inline Truth any_of(bool) { return {false, true}; }

/// A function, of which only its values at single numbers are known. It can be called with any.
template <class Function, class... Bounds>
__device__ inline auto at_points(const Function& function, const Bounds&... bounds) {
  using Result = decltype(function(bounds.only()...));
  const bool are_points = (bounds.is_point() && ...);
  const auto result = point(function(bounds.only()...)), any = any_of(Result());
  return are_points ? result : any;
}

// ---- ints: what leaves int32 wraps, so that anything is possible

__device__ inline Ints ints(long long low, long long high) {
  return low < kIntMin || high > kIntMax ? any_of(0) : Ints{int(low), int(high)};
}
__device__ inline int smaller(int a, int b) { return b < a ? b : a; }
__device__ inline int larger(int a, int b) { return a < b ? b : a; }

__device__ inline Ints add(const Ints& a, const Ints& b) {
  return ints(static_cast<long long>(a.low) + b.low, static_cast<long long>(a.high) + b.high);
}
__device__ inline Ints neg(const Ints& a) {
  return ints(-static_cast<long long>(a.high), -static_cast<long long>(a.low));
}
__device__ inline Ints sub(const Ints& a, const Ints& b) {
  return ints(static_cast<long long>(a.low) - b.high, static_cast<long long>(a.high) - b.low);
}
__device__ inline Ints mul(const Ints& a, const Ints& b) {
  const long long corners[] = {static_cast<long long>(a.low) * b.low, static_cast<long long>(a.low) * b.high,
                               static_cast<long long>(a.high) * b.low, static_cast<long long>(a.high) * b.high};
  long long low = corners[0], high = corners[0];
  for (int i = 1; i < 4; ++i) {
    low = corners[i] < low ? corners[i] : low;
    high = corners[i] > high ? corners[i] : high;
  }
  return ints(low, high);
}
__device__ inline Ints min(const Ints& a, const Ints& b) { return {smaller(a.low, b.low), smaller(a.high, b.high)}; }
__device__ inline Ints max(const Ints& a, const Ints& b) { return {larger(a.low, b.low), larger(a.high, b.high)}; }
/// abs(kIntMin) wraps to itself.
__device__ inline Ints abs(const Ints& a) {
  if (a.low == kIntMin) return any_of(0);
  return {larger(larger(a.low, -a.high), 0), larger(a.high, -a.low)};
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
  return {smaller(a.low, b.low), larger(a.high, b.high)};
}
__device__ inline Real either_of(const Real& a, const Real& b) {
  return {a.value, a.is_known && b.is_known && __float_as_int(a.value) == __float_as_int(b.value)};
}
__device__ inline Truth either_of(const Truth& a, const Truth& b) { return {a.low && b.low, a.high || b.high}; }
template <class Bounds>
__device__ inline Bounds select(const Truth& condition, const Bounds& a, const Bounds& b) {
  const Bounds any = either_of(a, b);
  return condition.low ? a : condition.high ? any : b;
}

}  // namespace tilewise::cuda::steady
