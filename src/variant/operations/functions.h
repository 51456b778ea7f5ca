// Functions of a real. See arithmetic.h for the readings.
//
// Stated errors are the largest, in float32 units in the last place, of each reading against the exact function;
// intervals widen by the largest of them. `scalar`: glibc's float functions. `lanes`: operations/lane_math.h, measured
// by its tests. `cuda`: the CUDA C++ Programming Guide's table for the single-precision functions.
#pragma once

#include <cmath>
#include <numbers>

#include "variant/operations/definition.h"
#include "variant/operations/lane_math.h"

namespace tilewise::variant {

/// Bounds of an increasing function, widened by its error and clipped to its range.
template <class Function>
Interval increasing(const Info& info, Interval x, Function function, double floor = -kUnbounded,
                    double ceiling = kUnbounded) {
  return widened(function(x.low), function(x.high), x.may_be_nan, info.error.largest(), floor, ceiling);
}

/// Rounds down to an integral real: the same bits in every reading.
struct RoundDown {
  static constexpr Info info{.name = "floor", .symbol = "floor", .rule = Rule::real, .operands = 1};
  template <class T>
  static T scalar(T x) {
    return std::floor(x);
  }
  static Interval interval(Type, Interval x) { return {std::floor(x.low), std::floor(x.high), x.may_be_nan}; }
  template <class T, class L, class V>
  static V lanes(L l, V x) {
    return lane_floor(l, x);
  }
  static constexpr std::string_view cuda = "__device__ inline float floor(float x) { return floorf(x); }\n";
  static Gradients<1> adjoint(Expr, Expr, Expr) { return {0.0}; }
};

struct Exponential {
  static constexpr Info info{
      .name = "exp", .symbol = "exp", .rule = Rule::real, .operands = 1, .error = {.scalar = 1, .lanes = 2, .cuda = 2}};
  template <class T>
  static T scalar(T x) {
    return std::exp(x);
  }
  static Interval interval(Type, Interval x) {
    return increasing(
        info, x, [](double v) { return std::exp(v); }, 0);
  }
  template <class T, class L, class V>
  static V lanes(L l, V x) {
    return lane_exp(l, x);
  }
  static constexpr std::string_view cuda = "__device__ inline float exp(float x) { return expf(x); }\n";
  static Gradients<1> adjoint(Expr y, Expr d, Expr) { return {d * y}; }
};

struct Exponential2 {
  static constexpr Info info{.name = "exp2",
                             .symbol = "exp2",
                             .rule = Rule::real,
                             .operands = 1,
                             .error = {.scalar = 1, .lanes = 2, .cuda = 2}};
  template <class T>
  static T scalar(T x) {
    return std::exp2(x);
  }
  static Interval interval(Type, Interval x) {
    return increasing(
        info, x, [](double v) { return std::exp2(v); }, 0);
  }
  template <class T, class L, class V>
  static V lanes(L l, V x) {
    return lane_exp2(l, x);
  }
  static constexpr std::string_view cuda = "__device__ inline float exp2(float x) { return exp2f(x); }\n";
  static Gradients<1> adjoint(Expr y, Expr d, Expr) { return {d * y * constant(std::numbers::ln2)}; }
};

/// Logarithms: -inf at 0, NaN below.
inline Interval logarithm(const Info& info, Interval x, double (*function)(double)) {
  if (x.high < 0) return kAnyReal;
  const bool may_be_nan = x.may_be_nan || x.low < 0;
  const double low = x.low <= 0 ? -kUnbounded : function(x.low);
  const double high = x.high == 0 ? -kUnbounded : function(x.high);
  return widened(low, high, may_be_nan, info.error.largest());
}

struct Logarithm {
  static constexpr Info info{
      .name = "log", .symbol = "log", .rule = Rule::real, .operands = 1, .error = {.scalar = 1, .lanes = 1, .cuda = 1}};
  template <class T>
  static T scalar(T x) {
    return std::log(x);
  }
  static Interval interval(Type, Interval x) {
    return logarithm(info, x, [](double v) { return std::log(v); });
  }
  template <class T, class L, class V>
  static V lanes(L l, V x) {
    return lane_log(l, x);
  }
  static constexpr std::string_view cuda = "__device__ inline float log(float x) { return logf(x); }\n";
  static Gradients<1> adjoint(Expr, Expr d, Expr x) { return {d / x}; }
};

struct Logarithm2 {
  static constexpr Info info{.name = "log2",
                             .symbol = "log2",
                             .rule = Rule::real,
                             .operands = 1,
                             .error = {.scalar = 1, .lanes = 2, .cuda = 1}};
  template <class T>
  static T scalar(T x) {
    return std::log2(x);
  }
  static Interval interval(Type, Interval x) {
    return logarithm(info, x, [](double v) { return std::log2(v); });
  }
  template <class T, class L, class V>
  static V lanes(L l, V x) {
    return lane_log2(l, x);
  }
  static constexpr std::string_view cuda = "__device__ inline float log2(float x) { return log2f(x); }\n";
  static Gradients<1> adjoint(Expr, Expr d, Expr x) { return {d / (x * constant(std::numbers::ln2))}; }
};

/// Correctly rounded in every reading; NaN below zero.
struct SquareRoot {
  static constexpr Info info{.name = "sqrt", .symbol = "sqrt", .rule = Rule::real, .operands = 1};
  template <class T>
  static T scalar(T x) {
    return std::sqrt(x);
  }
  static Interval interval(Type, Interval x) {
    if (x.high < 0) return kAnyReal;
    return real_bounds(std::sqrt(std::max(x.low, 0.0)), std::sqrt(x.high), x.may_be_nan || x.low < 0);
  }
  template <class T, class L, class V>
  static V lanes(L, V x) {
    return Sqrt(x);
  }
  static constexpr std::string_view cuda = "__device__ inline float sqrt(float x) { return __fsqrt_rn(x); }\n";
  static Gradients<1> adjoint(Expr y, Expr d, Expr) { return {d * constant(0.5) / y}; }
};

/// 1 / sqrt(x): inf at 0, -inf at -0, NaN below.
struct ReciprocalSquareRoot {
  static constexpr Info info{.name = "rsqrt",
                             .symbol = "rsqrt",
                             .rule = Rule::real,
                             .operands = 1,
                             .error = {.scalar = 2, .lanes = 2, .cuda = 2}};
  template <class T>
  static T scalar(T x) {
    return T(1) / std::sqrt(x);
  }
  static Interval interval(Type, Interval x) {
    if (x.high < 0) return kAnyReal;
    if (x.low <= 0) return {-kUnbounded, kUnbounded, x.may_be_nan || x.low < 0};
    return widened(1 / std::sqrt(x.high), 1 / std::sqrt(x.low), x.may_be_nan, info.error.largest(), 0);
  }
  template <class T, class L, class V>
  static V lanes(L l, V x) {
    return Div(Set(l.f, 1.0f), Sqrt(x));
  }
  static constexpr std::string_view cuda = "__device__ inline float rsqrt(float x) { return rsqrtf(x); }\n";
  static Gradients<1> adjoint(Expr y, Expr d, Expr x) { return {d * constant(-0.5) * y / x}; }
};

struct HyperbolicTangent {
  static constexpr Info info{.name = "tanh",
                             .symbol = "tanh",
                             .rule = Rule::real,
                             .operands = 1,
                             .error = {.scalar = 2, .lanes = 7, .cuda = 2}};
  template <class T>
  static T scalar(T x) {
    return std::tanh(x);
  }
  static Interval interval(Type, Interval x) {
    return increasing(
        info, x, [](double v) { return std::tanh(v); }, -1, 1);
  }
  template <class T, class L, class V>
  static V lanes(L l, V x) {
    return lane_tanh(l, x);
  }
  static constexpr std::string_view cuda = "__device__ inline float tanh(float x) { return tanhf(x); }\n";
  static Gradients<1> adjoint(Expr y, Expr d, Expr) { return {d * (1.0 - y * y)}; }
};

/// 1 / (1 + exp(-x)), written so that exp never overflows: small results keep their digits.
struct Sigmoid {
  static constexpr Info info{.name = "sigmoid",
                             .symbol = "sigmoid",
                             .rule = Rule::real,
                             .operands = 1,
                             .error = {.scalar = 3, .lanes = 3, .cuda = 4}};
  template <class T>
  static T scalar(T x) {
    const T e = std::exp(-std::abs(x));
    return (x < 0 ? e : T(1)) / (T(1) + e);
  }
  static Interval interval(Type, Interval x) {
    return increasing(
        info, x, [](double v) { return scalar(v); }, 0, 1);
  }
  template <class T, class L, class V>
  static V lanes(L l, V x) {
    const V one = Set(l.f, 1.0f);
    const V e = lane_exp(l, Neg(Abs(x)));
    return Div(IfThenElse(Lt(x, Zero(l.f)), e, one), Add(one, e));
  }
  static constexpr std::string_view cuda =
      "__device__ inline float sigmoid(float x) {\n"
      "  const float e = expf(-fabsf(x));\n"
      "  return __fdiv_rn(x < 0.0f ? e : 1.0f, __fadd_rn(1.0f, e));\n"
      "}\n";
  static Gradients<1> adjoint(Expr y, Expr d, Expr) { return {d * y * (1.0 - y)}; }
};

struct ErrorFunction {
  static constexpr Info info{
      .name = "erf", .symbol = "erf", .rule = Rule::real, .operands = 1, .error = {.scalar = 1, .lanes = 3, .cuda = 2}};
  template <class T>
  static T scalar(T x) {
    return std::erf(x);
  }
  static Interval interval(Type, Interval x) {
    return increasing(
        info, x, [](double v) { return std::erf(v); }, -1, 1);
  }
  template <class T, class L, class V>
  static V lanes(L l, V x) {
    return lane_erf(l, x);
  }
  static constexpr std::string_view cuda = "__device__ inline float erf(float x) { return erff(x); }\n";
  static Gradients<1> adjoint(Expr, Expr d, Expr x) {
    return {d * exp(-(x * x)) * constant(2 * std::numbers::inv_sqrtpi)};
  }
};

/// Bounds of cosine over [low, high]: its extremes are where the argument passes a multiple of pi.
inline Interval cosine_bounds(const Info& info, Interval x, double phase) {
  const bool may_be_nan = x.may_be_nan || x.low == -kUnbounded || x.high == kUnbounded;
  // Beyond 2^20 the double argument's own rounding moves the phase; there the whole range is the honest answer.
  if (std::abs(x.low) > 0x1p20 || std::abs(x.high) > 0x1p20) return {-1, 1, may_be_nan};
  const double low = x.low + phase, high = x.high + phase;
  double smallest = std::min(std::cos(low), std::cos(high)), largest = std::max(std::cos(low), std::cos(high));
  const double first = std::ceil(low / std::numbers::pi), last = std::floor(high / std::numbers::pi);
  for (const double multiple : {first, first + 1}) {
    if (multiple > last) break;
    if (std::fmod(multiple, 2) == 0)
      largest = 1;
    else
      smallest = -1;
  }
  // Near a zero crossing the error is relative to the argument's rounding, not to the result: widen absolutely too.
  const double slack = info.error.largest() * 0x1p-23;
  return widened(smallest - slack, largest + slack, may_be_nan, info.error.largest(), -1, 1);
}

struct Sine {
  static constexpr Info info{
      .name = "sin", .symbol = "sin", .rule = Rule::real, .operands = 1, .error = {.scalar = 1, .lanes = 1, .cuda = 2}};
  template <class T>
  static T scalar(T x) {
    return std::sin(x);
  }
  static Interval interval(Type, Interval x) { return cosine_bounds(info, x, -std::numbers::pi / 2); }
  template <class T, class L, class V>
  static V lanes(L l, V x) {
    return lane_sin(l, x);
  }
  static constexpr std::string_view cuda = "__device__ inline float sin(float x) { return sinf(x); }\n";
  static Gradients<1> adjoint(Expr, Expr d, Expr x) { return {d * cos(x)}; }
};

struct Cosine {
  static constexpr Info info{
      .name = "cos", .symbol = "cos", .rule = Rule::real, .operands = 1, .error = {.scalar = 1, .lanes = 1, .cuda = 2}};
  template <class T>
  static T scalar(T x) {
    return std::cos(x);
  }
  static Interval interval(Type, Interval x) { return cosine_bounds(info, x, 0); }
  template <class T, class L, class V>
  static V lanes(L l, V x) {
    return lane_cos(l, x);
  }
  static constexpr std::string_view cuda = "__device__ inline float cos(float x) { return cosf(x); }\n";
  static Gradients<1> adjoint(Expr, Expr d, Expr x) { return {-(d * sin(x))}; }
};

/// x to a constant power, as C's pow: NaN for a negative base and a fractional exponent.
struct Power {
  static constexpr Info info{.name = "pow",
                             .symbol = "**",
                             .precedence = 15,
                             .rule = Rule::real,
                             .operands = 2,
                             .error = {.scalar = 1, .lanes = 1, .cuda = 8}};
  template <class T>
  static T scalar(T x, T exponent) {
    return std::pow(x, exponent);
  }
  static Interval interval(Type, Interval x, Interval exponent) {
    if (!exponent.is_single()) return kAnyReal;
    const double power = exponent.low, a = std::pow(x.low, power), b = std::pow(x.high, power);
    if (x.low > 0) return widened(std::min(a, b), std::max(a, b), x.may_be_nan, info.error.largest(), 0);
    // Beyond 2^24 a float32 exponent may be another number, of other parity.
    const bool is_natural = power >= 1 && power <= 0x1p24 && power == std::floor(power);
    if (!is_natural) return kAnyReal;
    if (std::fmod(power, 2) == 1) return widened(a, b, x.may_be_nan, info.error.largest());
    return widened(x.contains(0) ? 0 : std::min(a, b), std::max(a, b), x.may_be_nan, info.error.largest(), 0);
  }
  template <class T, class L, class V>
  static V lanes(L l, V x, V exponent) {
    return lane_pow(l, x, exponent);
  }
  static constexpr std::string_view cuda = "__device__ inline float pow(float x, float y) { return powf(x, y); }\n";
  static Gradients<2> adjoint(Expr y, Expr d, Expr x, Expr exponent);  // recording.cc: it reads the exponent
};

}  // namespace tilewise::variant
