// Arithmetic on numbers: each struct is one operation with its five readings.
//
// `scalar` is its meaning. `interval` bounds it over a box. `lanes` computes it on SIMD vectors of T: Highway's
// functions are found through the argument types, so this header needs no instruction set; `L` carries the tags of
// float32 and int32 vectors of equal lane count as l.f and l.i. `cuda` is its CUDA C++ definition. `adjoint` gives,
// from the result y, its adjoint d and the operands, what to add to each operand's adjoint.
#pragma once

#include <cmath>

#include "variant/operations/definition.h"
#include "variant/operations/lane_math.h"

namespace tilewise::variant {

struct Addition {
  static constexpr Info info{.name = "add", .symbol = "+", .precedence = 12, .rule = Rule::arithmetic, .operands = 2};
  template <class T>
  static T scalar(T a, T b) {
    if constexpr (std::integral<T>)
      return wrapping([](auto x, auto y) { return x + y; }, a, b);
    else
      return a + b;
  }
  static Interval interval(Type type, Interval a, Interval b) {
    if (type == Type::int32) return int_bounds(a.low + b.low, a.high + b.high);
    const bool opposite_infinities =
        (a.high == kUnbounded && b.low == -kUnbounded) || (a.low == -kUnbounded && b.high == kUnbounded);
    return real_bounds(a.low + b.low, a.high + b.high, a.may_be_nan || b.may_be_nan || opposite_infinities);
  }
  template <class T, class L, class V>
  static V lanes(L, V a, V b) {
    return Add(a, b);
  }
  static constexpr std::string_view cuda =
      "__device__ inline int add(int a, int b) { return int(unsigned(a) + unsigned(b)); }\n"
      "__device__ inline float add(float a, float b) { return __fadd_rn(a, b); }\n";
  static Gradients<2> adjoint(Expr, Expr d, Expr, Expr) { return {d, d}; }
};

struct Negation {
  static constexpr Info info{.name = "neg", .symbol = "-", .precedence = 14, .rule = Rule::arithmetic, .operands = 1};
  template <class T>
  static T scalar(T a) {
    if constexpr (std::integral<T>)
      return wrapping([](auto x, auto y) { return x - y; }, 0, a);
    else
      return -a;
  }
  static Interval interval(Type type, Interval a) {
    if (type == Type::int32) return int_bounds(-a.high, -a.low);
    return {-a.high, -a.low, a.may_be_nan};
  }
  template <class T, class L, class V>
  static V lanes(L, V a) {
    return Neg(a);
  }
  static constexpr std::string_view cuda =
      "__device__ inline int neg(int a) { return int(0u - unsigned(a)); }\n"
      "__device__ inline float neg(float a) { return -a; }\n";
  static Gradients<1> adjoint(Expr, Expr d, Expr) { return {-d}; }
};

struct Subtraction {
  static constexpr Info info{.name = "sub", .symbol = "-", .precedence = 12, .rule = Rule::arithmetic, .operands = 2};
  template <class T>
  static T scalar(T a, T b) {
    if constexpr (std::integral<T>)
      return wrapping([](auto x, auto y) { return x - y; }, a, b);
    else
      return a - b;
  }
  static Interval interval(Type type, Interval a, Interval b) {
    if (type == Type::int32) return int_bounds(a.low - b.high, a.high - b.low);
    return Addition::interval(type, a, Negation::interval(type, b));
  }
  template <class T, class L, class V>
  static V lanes(L, V a, V b) {
    return Sub(a, b);
  }
  static constexpr std::string_view cuda =
      "__device__ inline int sub(int a, int b) { return int(unsigned(a) - unsigned(b)); }\n"
      "__device__ inline float sub(float a, float b) { return __fsub_rn(a, b); }\n";
  static Gradients<2> adjoint(Expr, Expr d, Expr, Expr) { return {d, -d}; }
};

struct Multiplication {
  static constexpr Info info{.name = "mul", .symbol = "*", .precedence = 13, .rule = Rule::arithmetic, .operands = 2};
  template <class T>
  static T scalar(T a, T b) {
    if constexpr (std::integral<T>)
      return wrapping([](auto x, auto y) { return x * y; }, a, b);
    else
      return a * b;
  }
  static Interval interval(Type type, Interval a, Interval b) {
    const double corners[] = {product(a.low, b.low), product(a.low, b.high), product(a.high, b.low),
                              product(a.high, b.high)};
    const auto [low, high] = std::minmax_element(std::begin(corners), std::end(corners));
    if (type == Type::int32) return int_bounds(*low, *high);
    return real_bounds(*low, *high,
                       a.may_be_nan || b.may_be_nan || zero_times_infinity(a, b) || zero_times_infinity(b, a));
  }
  template <class T, class L, class V>
  static V lanes(L, V a, V b) {
    return Mul(a, b);
  }
  static constexpr std::string_view cuda =
      "__device__ inline int mul(int a, int b) { return int(unsigned(a) * unsigned(b)); }\n"
      "__device__ inline float mul(float a, float b) { return __fmul_rn(a, b); }\n";
  static Gradients<2> adjoint(Expr, Expr d, Expr a, Expr b) { return {d * b, d * a}; }

 private:
  // A corner 0 * inf is no value that a product takes; its neighbours are zeros.
  static double product(double a, double b) { return a == 0 || b == 0 ? 0 : a * b; }
  static bool zero_times_infinity(const Interval& a, const Interval& b) {
    return a.contains(0) && (b.low == -kUnbounded || b.high == kUnbounded);
  }
};

struct Division {
  static constexpr Info info{.name = "div", .symbol = "/", .precedence = 13, .rule = Rule::real, .operands = 2};
  template <class T>
  static T scalar(T a, T b) {
    return a / b;
  }
  static Interval interval(Type, Interval a, Interval b) {
    const bool infinite_a = a.low == -kUnbounded || a.high == kUnbounded;
    const bool infinite_b = b.low == -kUnbounded || b.high == kUnbounded;
    const bool may_be_nan =
        a.may_be_nan || b.may_be_nan || (infinite_a && infinite_b) || (a.contains(0) && b.contains(0));
    if (b.contains(0)) return {-kUnbounded, kUnbounded, may_be_nan};
    if (infinite_a && infinite_b) return {-kUnbounded, kUnbounded, may_be_nan};
    const double corners[] = {a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high};
    const auto [low, high] = std::minmax_element(std::begin(corners), std::end(corners));
    return real_bounds(*low, *high, may_be_nan);
  }
  template <class T, class L, class V>
  static V lanes(L, V a, V b) {
    return Div(a, b);
  }
  static constexpr std::string_view cuda =
      "__device__ inline float div(float a, float b) { return __fdiv_rn(a, b); }\n";
  static Gradients<2> adjoint(Expr y, Expr d, Expr, Expr b) { return {d / b, -(d * y / b)}; }
};

/// The integer below a quotient of two int32, from its rounding to double: a quotient that is no integer lies at least
/// 2^-31 from the next one, so rounding cannot cross it. Neither a call, which std::floor is below SSE4.1, nor a
/// branch.
inline double quotient_floor(double quotient) {
  constexpr double kUnitsFromHere = 0x1.8p52;  // sums with it are rounded to integers
  const double nearest = (quotient + kUnitsFromHere) - kUnitsFromHere;
  return nearest - (nearest > quotient ? 1.0 : 0.0);
}

/// Python's floor division on ints. x // 0 is 0, so that with x % 0 = x the law x == (x // y) * y + x % y always holds.
struct FloorDivision {
  static constexpr Info info{
      .name = "floor_divide", .symbol = "//", .precedence = 13, .rule = Rule::integer, .operands = 2};
  static std::int32_t scalar(std::int32_t a, std::int32_t b) {
    if (b == 0) return 0;
    const std::int64_t quotient = std::int64_t{a} / b;
    const bool rounded_up = (a % std::int64_t{b} != 0) && ((a < 0) != (b < 0));
    return static_cast<std::int32_t>(quotient - (rounded_up ? 1 : 0));  // the one quotient out of range wraps
  }
  static Interval interval(Type, Interval a, Interval b) {
    if (b.contains(0)) {  // |quotient| <= |a|
      const double largest = std::max(std::abs(a.low), std::abs(a.high));
      return int_bounds(-largest, largest);
    }
    const double corners[] = {quotient_floor(a.low / b.low), quotient_floor(a.low / b.high),
                              quotient_floor(a.high / b.low), quotient_floor(a.high / b.high)};
    const auto [low, high] = std::minmax_element(std::begin(corners), std::end(corners));
    return int_bounds(*low, *high);
  }
  template <class T, class L, class V>
  static V lanes(L l, V a, V b) {
    return lane_floor_divide(l, a, b);
  }
  static constexpr std::string_view cuda =
      "__device__ inline int floor_divide(int a, int b) {\n"
      "  if (b == 0) return 0;\n"
      "  if (b == -1) return int(0u - unsigned(a));\n"
      "  const int quotient = a / b;\n"
      "  return quotient - ((quotient * b != a) & ((a < 0) != (b < 0)));\n"
      "}\n";
  static Gradients<2> adjoint(Expr, Expr, Expr, Expr) { return {0.0, 0.0}; }
};

/// Python's modulo on ints: the sign of the divisor. x % 0 is x.
struct Modulo {
  static constexpr Info info{.name = "mod", .symbol = "%", .precedence = 13, .rule = Rule::integer, .operands = 2};
  static std::int32_t scalar(std::int32_t a, std::int32_t b) {
    if (b == 0) return a;
    const std::int64_t remainder = std::int64_t{a} % b;
    return static_cast<std::int32_t>(remainder != 0 && ((remainder < 0) != (b < 0)) ? remainder + b : remainder);
  }
  static Interval interval(Type, Interval a, Interval b) {
    if (b.is_single() && b.low != 0) {  // inside one period the remainder just shifts
      const double quotient = quotient_floor(a.low / b.low);
      if (quotient_floor(a.high / b.low) == quotient)
        return {a.low - quotient * b.low, a.high - quotient * b.low, false};
    }
    if (a.low >= 0 && a.high < b.low) return a;
    const Interval remainder{std::min(b.low + 1, 0.0), std::max(b.high - 1, 0.0), false};
    return b.contains(0) ? hull(remainder, a) : remainder;
  }
  template <class T, class L, class V>
  static V lanes(L l, V a, V b) {
    return Sub(a, Mul(lane_floor_divide(l, a, b), b));
  }
  static constexpr std::string_view cuda =
      "__device__ inline int mod(int a, int b) {\n"
      "  if (b == 0) return a;\n"
      "  if (b == -1) return 0;\n"
      "  const int remainder = a % b;\n"
      "  return remainder + ((remainder != 0) & ((remainder < 0) != (b < 0)) ? b : 0);\n"
      "}\n";
  static Gradients<2> adjoint(Expr, Expr, Expr, Expr) { return {0.0, 0.0}; }
};

/// NaN if either is NaN; the second when they compare equal (so min(0, -0) is -0 and min(-0, 0) is 0).
struct Minimum {
  static constexpr Info info{.name = "min", .symbol = "min", .rule = Rule::arithmetic, .operands = 2};
  template <class T>
  static T scalar(T a, T b) {
    return a < b || a != a ? a : b;
  }
  static Interval interval(Type, Interval a, Interval b) {
    return {std::min(a.low, b.low), std::min(a.high, b.high), a.may_be_nan || b.may_be_nan};
  }
  template <class T, class L, class V>
  static V lanes(L, V a, V b) {
    if constexpr (std::integral<T>)
      return IfThenElse(Lt(a, b), a, b);
    else
      return IfThenElse(Or(Lt(a, b), lane_not_equal(a, a)), a, b);
  }
  static constexpr std::string_view cuda =
      "__device__ inline int min(int a, int b) { return a < b ? a : b; }\n"
      "__device__ inline float min(float a, float b) { return a < b || a != a ? a : b; }\n";
  static Gradients<2> adjoint(Expr, Expr d, Expr a, Expr b) { return {select(a < b, d, 0.0), select(a < b, 0.0, d)}; }
};

struct Maximum {
  static constexpr Info info{.name = "max", .symbol = "max", .rule = Rule::arithmetic, .operands = 2};
  template <class T>
  static T scalar(T a, T b) {
    return a > b || a != a ? a : b;
  }
  static Interval interval(Type, Interval a, Interval b) {
    return {std::max(a.low, b.low), std::max(a.high, b.high), a.may_be_nan || b.may_be_nan};
  }
  template <class T, class L, class V>
  static V lanes(L, V a, V b) {
    if constexpr (std::integral<T>)
      return IfThenElse(Gt(a, b), a, b);
    else
      return IfThenElse(Or(Gt(a, b), lane_not_equal(a, a)), a, b);
  }
  static constexpr std::string_view cuda =
      "__device__ inline int max(int a, int b) { return a > b ? a : b; }\n"
      "__device__ inline float max(float a, float b) { return a > b || a != a ? a : b; }\n";
  static Gradients<2> adjoint(Expr, Expr d, Expr a, Expr b) { return {select(a > b, d, 0.0), select(a > b, 0.0, d)}; }
};

/// Of the smallest int32: itself (it wraps).
struct Absolute {
  static constexpr Info info{.name = "abs", .symbol = "abs", .rule = Rule::arithmetic, .operands = 1};
  template <class T>
  static T scalar(T a) {
    if constexpr (std::integral<T>)
      return a < 0 ? Negation::scalar(a) : a;
    else
      return std::abs(a);
  }
  static Interval interval(Type type, Interval a) {
    const double low = a.contains(0) ? 0 : std::min(std::abs(a.low), std::abs(a.high));
    const double high = std::max(std::abs(a.low), std::abs(a.high));
    if (type == Type::int32) return int_bounds(low, high);
    return {low, high, a.may_be_nan};
  }
  template <class T, class L, class V>
  static V lanes(L, V a) {
    return Abs(a);
  }
  static constexpr std::string_view cuda =
      "__device__ inline int abs(int a) { return a < 0 ? int(0u - unsigned(a)) : a; }\n"
      "__device__ inline float abs(float a) { return fabsf(a); }\n";
  static Gradients<1> adjoint(Expr, Expr d, Expr a) { return {select(a < 0.0, -d, select(a > 0.0, d, 0.0))}; }
};

}  // namespace tilewise::variant
