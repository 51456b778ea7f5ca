// Functions of a real, and floor division, on SIMD vectors.
//
// Highway's operations are found through the argument types, so this header needs no instruction set. `L` carries the
// tags of vectors: l.f float32 and l.i int32 with equal lanes; l.half_f, l.half_i, l.d (float64) and l.q (int64) with
// half as many, or one where that is all there is (L::kHasHalves is false). L::kEmulated: without an
// instruction set, where Highway's Min and Max lose NaN and its Floor loses the sign of zero. Errors are those of
// functions.h, measured by tests with and without fused multiply-adds. Coefficients are minimax fits of ours (relative
// error, before rounding to float32, at each polynomial).
#pragma once

#include <hwy/detect_compiler_arch.h>

#include <cstddef>
#include <cstdint>
#include <limits>

namespace tilewise::variant {

// Values where vectors have no advantage: lane_math.cc, compiled for every processor. One number a lane.
void scalar_pow(const float* x, const float* exponent, float* result, std::size_t lanes);
void scalar_sin(const float* x, float* result, std::size_t lanes);
void scalar_cos(const float* x, float* result, std::size_t lanes);

inline constexpr std::size_t kMostLanes = 16;  // float32 in 512 bits

// Named, because a call of std::numeric_limits would be compiled, in builds without optimisation, for one instruction
// set and linked for all.
inline constexpr float kLaneInfinity = std::numeric_limits<float>::infinity();
inline constexpr float kLaneNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kLaneLargest = std::numeric_limits<float>::max();
inline constexpr float kLaneSmallestNormal = std::numeric_limits<float>::min();

/// x held to [low, high]; NaN stays.
template <class L, class V>
V lane_clamp(L l, float low, V x, float high) {
  if constexpr (L::kEmulated || !HWY_ARCH_X86) {  // NEON's minimum and maximum drop a NaN
    x = IfThenElse(Lt(x, Set(l.f, low)), Set(l.f, low), x);
    return IfThenElse(Gt(x, Set(l.f, high)), Set(l.f, high), x);
  } else {
    return Min(Set(l.f, high), Max(Set(l.f, low), x));  // in this order of operands
  }
}

template <class L, class V>
V lane_floor(L, V x) {
  return L::kEmulated ? CopySign(Floor(x), x) : Floor(x);
}

/// a != b, also where one is NaN. (Highway's Ne is false there on some instruction sets.)
template <class V>
auto lane_not_equal(V a, V b) {
  return Not(Eq(a, b));
}

/// c[0] + c[1] x + c[2] x^2 + ...
template <class L, class D, class V, class T, std::size_t N>
V lane_polynomial(L, D d, V x, const T (&c)[N]) {
  V sum = Set(d, c[N - 1]);
  for (std::size_t i = N - 1; i > 0; --i) sum = MulAdd(sum, x, Set(d, c[i - 1]));
  return sum;
}

/// x + this has n + 254 in its low bits, n being x rounded to an integer, for |n| < 2^21.
inline constexpr float kRounding = 0x1.8p23f + 254;

/// y 2^n for `shifted` = n + kRounding and n in [-252, 254], by two factors so that neither leaves the normal numbers.
template <class L, class V>
V lane_scale(L l, V y, V shifted) {
  const auto both = BitCast(l.i, shifted);  // their biased exponents' sum, n + 2 * 127; higher bits are shifted out
  const auto first = ShiftRight<1>(both);
  const auto power = [l](auto exponent) { return BitCast(l.f, ShiftLeft<23>(exponent)); };
  return Mul(Mul(y, power(first)), power(Sub(both, first)));
}

template <class L, class V>
V lane_exp2(L l, V x) {
  static constexpr float kPowers[] = {0x1.62e430p-1f, 0x1.ebfbdcp-3f,  0x1.c6aee8p-5f,
                                      0x1.3b2d4cp-7f, 0x1.5f3e54p-10f, 0x1.41fbbap-13f};  // 2e-9 on +-1/2
  x = lane_clamp(l, -151.0f, x, 129.0f);  // beyond, the result is 0 or inf
  const V shifted = Add(x, Set(l.f, kRounding));
  const V r = Sub(x, Sub(shifted, Set(l.f, kRounding)));
  const V y = MulAdd(r, lane_polynomial(l, l.f, r, kPowers), Set(l.f, 1.0f));
  return lane_scale(l, y, shifted);
}

template <class L, class V>
V lane_exp(L l, V x) {
  static constexpr float kPowers[] = {0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f, 0x1.1239e4p-7f,
                                      0x1.6a2430p-10f};  // 3e-9 on +-ln(2)/2
  constexpr float kLn2High = 0x1.63p-1f;                 // 9 bits: times |n| < 256 it is exact
  constexpr float kLn2Low = -0x1.bd0106p-13f;
  x = lane_clamp(l, -104.0f, x, 89.0f);  // beyond, the result is 0 or inf
  const V shifted = MulAdd(x, Set(l.f, 0x1.715476p0f), Set(l.f, kRounding));
  const V n = Sub(shifted, Set(l.f, kRounding));
  const V r = NegMulAdd(n, Set(l.f, kLn2Low), NegMulAdd(n, Set(l.f, kLn2High), x));
  const V y = Add(MulAdd(Mul(r, r), lane_polynomial(l, l.f, r, kPowers), r), Set(l.f, 1.0f));
  return lane_scale(l, y, shifted);
}

/// x = m 2^e with m in [sqrt(1/2), sqrt(2)), and f = m - 1; subnormals too.
template <class L, class V>
void lane_split(L l, V x, V& exponent, V& f) {
  const auto is_subnormal = Lt(x, Set(l.f, kLaneSmallestNormal));
  const V normal = IfThenElse(is_subnormal, Mul(x, Set(l.f, 0x1p25f)), x);
  const auto bits = BitCast(l.i, normal);
  const auto e = ShiftRight<23>(Sub(bits, Set(l.i, 0x3F3504F3)));  // the bits of sqrt(1/2)
  f = Sub(BitCast(l.f, Sub(bits, ShiftLeft<23>(e))), Set(l.f, 1.0f));
  exponent = Sub(ConvertTo(l.f, e), IfThenElseZero(is_subnormal, Set(l.f, 25.0f)));
}

/// log(1 + f) - f.
template <class L, class V>
V lane_log1p_tail(L l, V f) {
  static constexpr float kPowers[] = {0x1.555554p-2f, -0x1.000228p-2f, 0x1.99a008p-3f, -0x1.547244p-3f,
                                      0x1.22da22p-3f, -0x1.0d8552p-3f, 0x1.055b46p-3f, -0x1.38b4ccp-4f};  // 6e-9
  const V square = Mul(f, f);
  return MulAdd(Mul(square, f), lane_polynomial(l, l.f, f, kPowers), Mul(Set(l.f, -0.5f), square));
}

/// What both logarithms give where x is no positive finite number.
template <class L, class V>
V lane_log_special(L l, V x, V y) {
  const V infinity = Set(l.f, kLaneInfinity);
  y = IfThenElse(Eq(x, infinity), x, y);
  y = IfThenElse(Eq(x, Set(l.f, 0.0f)), Neg(infinity), y);
  const V nan = Set(l.f, kLaneNan);
  return IfThenElse(Ge(x, Set(l.f, 0.0f)), y, nan);
}

template <class L, class V>
V lane_log(L l, V x) {
  V e, f;
  lane_split(l, x, e, f);
  const V tail = MulAdd(e, Set(l.f, -0x1.bd0106p-13f), lane_log1p_tail(l, f));
  return lane_log_special(l, x, MulAdd(e, Set(l.f, 0x1.63p-1f), Add(f, tail)));
}

template <class L, class V>
V lane_log2(L l, V x) {
  constexpr float kLog2e = 0x1.715476p0f, kLog2eRest = 0x1.4ae0c0p-26f;
  V e, f;
  lane_split(l, x, e, f);
  // f is exact and the tail small, so only f's product with log2(e) needs the rest of log2(e).
  const V tail = lane_log1p_tail(l, f);
  const V small = MulAdd(f, Set(l.f, kLog2eRest), Mul(tail, Set(l.f, kLog2e)));
  return lane_log_special(l, x, Add(e, MulAdd(f, Set(l.f, kLog2e), small)));
}

/// An odd rational function of degree 9 over 8 (relative error 2.1e-8 up to 9.02, where tanh rounds to 1). All
/// coefficients are positive: nothing cancels.
template <class L, class V>
V lane_tanh(L l, V x) {
  static constexpr float kAbove[] = {9.99999979e-01f, 1.33797211e-01f, 3.49403827e-03f, 2.05835385e-05f,
                                     1.33191439e-08f};
  static constexpr float kBelow[] = {1.0f, 4.67130364e-01f, 2.58710876e-02f, 3.28309874e-04f, 7.76205045e-07f};
  const V near = lane_clamp(l, -9.5f, x, 9.5f);  // where the quotient is 1 + 4e-7: 1 exactly, once clamped
  const V square = Mul(near, near);
  const V y = Div(Mul(near, lane_polynomial(l, l.f, square, kAbove)), lane_polynomial(l, l.f, square, kBelow));
  return lane_clamp(l, -1.0f, y, 1.0f);
}

template <class L, class V>
V lane_erf(L l, V x) {
  static constexpr float kNear[] = {0x1.20dd74p+0f, -0x1.81273ep-2f,  0x1.ce2cf8p-4f, -0x1.b7f912p-6f,
                                    0x1.5405d0p-8f, -0x1.a3f7bap-11f, 0x1.496bf8p-14f};  // erf(x) / x, 1.2e-9 to 1
  static constexpr float kFar[] = {0x1.1d1cf2p-12f, -0x1.a13016p+0f, -0x1.d3bb44p-1f, -0x1.40592ap-3f,
                                   0x1.29f336p-5f,  -0x1.8d9a90p-8f, 0x1.4dece6p-11f, -0x1.069714p-15f};
  // kFar: log2(1 - erf(x)), 2e-11 of erf from 1 to 4, where erf rounds to 1.
  const V size = Min(Set(l.f, 4.0f), Abs(x));
  const V near = Mul(x, lane_polynomial(l, l.f, Mul(x, x), kNear));
  const V far = Sub(Set(l.f, 1.0f), lane_exp2(l, lane_polynomial(l, l.f, size, kFar)));
  const V signed_far = CopySign(far, x);
  return IfThenElse(Ge(Abs(x), Set(l.f, 1.0f)), signed_far, near);
}

/// Calls `function` on float64 vectors of x's lanes, half of them at a time, and rounds what it gives to x's type, for
/// which `tag` and `half` stand.
template <class L, class D, class H, class Function, class... V>
auto lane_in_double(L l, D tag, H half, Function function, V... x) {
  if constexpr (L::kHasHalves) {
    const auto low = function(PromoteTo(l.d, LowerHalf(half, x))...);
    const auto high = function(PromoteTo(l.d, UpperHalf(half, x))...);
    return Combine(tag, DemoteTo(half, high), DemoteTo(half, low));
  } else {
    return DemoteTo(tag, function(PromoteTo(l.d, x)...));
  }
}

/// sin(x + quarter pi / 2) for |x| <= 2^20, in float64: one rounding, wherever the zeros lie.
template <class L, class V>
V lane_sine(L l, V x, std::int64_t quarter) {
  static constexpr double kSine[] = {-1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800};
  static constexpr double kCosine[] = {-1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600};
  // Taylor to the 11th and 12th power: 7e-12 at pi / 4.
  constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;
  constexpr double kHalfPiHigh = 0x1.921fb544p0;  // 33 bits: times |n| < 2^20 it is exact
  constexpr double kHalfPiLow = 0x1.0b4611a626331p-34;
  constexpr double kShift = 0x1.8p52;
  const auto sine_of = [l, quarter](auto v) {
    const auto shifted = MulAdd(v, Set(l.d, kTwoOverPi), Set(l.d, kShift));
    const auto n = Sub(shifted, Set(l.d, kShift));
    const auto r = NegMulAdd(n, Set(l.d, kHalfPiLow), NegMulAdd(n, Set(l.d, kHalfPiHigh), v));
    const auto square = Mul(r, r);
    const auto sine = MulAdd(Mul(r, square), lane_polynomial(l, l.d, square, kSine), r);
    const auto cosine = MulAdd(square, lane_polynomial(l, l.d, square, kCosine), Set(l.d, 1.0));
    const auto quadrant = Add(BitCast(l.q, shifted), Set(l.q, quarter));
    const auto is_odd = RebindMask(l.d, Ne(And(quadrant, Set(l.q, 1)), Zero(l.q)));
    const auto sign = BitCast(l.d, ShiftLeft<62>(And(quadrant, Set(l.q, 2))));
    return Xor(IfThenElse(is_odd, cosine, sine), sign);
  };
  return lane_in_double(l, l.f, l.half_f, sine_of, x);
}

/// `fast(x)` on lanes up to the limit, `scalar` on those beyond: what a lane gives does not depend on its neighbours.
template <class L, class V, class Fast, class Scalar>
V lane_within(L l, V x, float limit, Fast fast, Scalar scalar) {
  const auto is_beyond = Gt(Abs(x), Set(l.f, limit));
  const V inside = fast(x);
  if (AllFalse(l.f, is_beyond)) return inside;
  float values[kMostLanes], results[kMostLanes];
  StoreU(x, l.f, values);
  scalar(values, results, Lanes(l.f));
  return IfThenElse(is_beyond, LoadU(l.f, results), inside);
}

template <class L, class V>
V lane_sin(L l, V x) {
  // sin(-0) is -0, which no sum keeps.
  const auto fast = [l](V v) { return IfThenElse(Eq(v, Zero(l.f)), v, lane_sine(l, v, 0)); };
  return lane_within(l, x, 0x1p20f, fast, scalar_sin);
}

template <class L, class V>
V lane_cos(L l, V x) {
  return lane_within(
      l, x, 0x1p20f, [l](V v) { return lane_sine(l, v, 1); }, scalar_cos);
}

/// The C library's powf a lane: a power of 1 ulp in float32 needs more than float32, and variants rarely take one of
/// each entry.
template <class L, class V>
V lane_pow(L l, V x, V exponent) {
  float bases[kMostLanes], exponents[kMostLanes], results[kMostLanes];
  StoreU(x, l.f, bases);
  StoreU(exponent, l.f, exponents);
  scalar_pow(bases, exponents, results, Lanes(l.f));
  return LoadU(l.f, results);
}

/// Python's a // b on int32, with a // 0 = 0, by division in float64: the rounded quotient differs from the exact one
/// by less than 2^-22 / |b|, and that by at least 1 / |b| from the next integer, so rounding down is exact.
template <class L, class V>
V lane_floor_divide(L l, V a, V b) {
  const auto rounded = [](auto x, auto y) { return Floor(Div(x, y)); };
  const V quotient = lane_in_double(l, l.i, l.half_i, rounded, a, b);
  const V wrapped = IfThenElse(Eq(b, Set(l.i, -1)), Neg(a), quotient);  // the smallest int by -1 leaves int32
  return IfThenElse(Eq(b, Zero(l.i)), b, wrapped);
}

}  // namespace tilewise::variant
