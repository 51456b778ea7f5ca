// Comparisons, logic, selection and casts. See arithmetic.h for the readings.
//
// On lanes a bool is an int32 vector of 0 or -1.
#pragma once

#include <cmath>

#include "variant/operations/definition.h"
#include "variant/operations/lane_math.h"

namespace tilewise::variant {

template <class L, class Mask>
auto lanes_of_mask(L l, Mask mask) {
  return VecFromMask(l.i, RebindMask(l.i, mask));
}

/// What the six comparisons share: a bound with NaN decides nothing.
inline Interval comparison(const Interval& a, const Interval& b, bool surely_true, bool surely_false) {
  if (a.may_be_nan || b.may_be_nan) return kUnknown;
  return three_valued(surely_true, surely_false);
}

struct Equal {
  static constexpr Info info{.name = "eq", .symbol = "==", .precedence = 6, .rule = Rule::comparison, .operands = 2};
  template <class T>
  static bool scalar(T a, T b) {
    return a == b;
  }
  static Interval interval(Type, Interval a, Interval b) {
    return comparison(a, b, a.low == a.high && a == b, a.high < b.low || b.high < a.low);
  }
  template <class T, class L, class V>
  static auto lanes(L l, V a, V b) {
    return lanes_of_mask(l, Eq(a, b));
  }
  static constexpr std::string_view cuda =
      "template <class T> __device__ inline bool eq(T a, T b) { return a == b; }\n";
  static Gradients<2> adjoint(Expr, Expr, Expr, Expr) { return {0.0, 0.0}; }
};

struct NotEqual {
  static constexpr Info info{.name = "ne", .symbol = "!=", .precedence = 6, .rule = Rule::comparison, .operands = 2};
  template <class T>
  static bool scalar(T a, T b) {
    return a != b;
  }
  static Interval interval(Type, Interval a, Interval b) {
    return comparison(a, b, a.high < b.low || b.high < a.low, a.low == a.high && a == b);
  }
  template <class T, class L, class V>
  static auto lanes(L l, V a, V b) {
    return lanes_of_mask(l, lane_not_equal(a, b));
  }
  static constexpr std::string_view cuda =
      "template <class T> __device__ inline bool ne(T a, T b) { return a != b; }\n";
  static Gradients<2> adjoint(Expr, Expr, Expr, Expr) { return {0.0, 0.0}; }
};

struct Less {
  static constexpr Info info{.name = "lt", .symbol = "<", .precedence = 6, .rule = Rule::comparison, .operands = 2};
  template <class T>
  static bool scalar(T a, T b) {
    return a < b;
  }
  static Interval interval(Type, Interval a, Interval b) { return comparison(a, b, a.high < b.low, a.low >= b.high); }
  template <class T, class L, class V>
  static auto lanes(L l, V a, V b) {
    return lanes_of_mask(l, Lt(a, b));
  }
  static constexpr std::string_view cuda = "template <class T> __device__ inline bool lt(T a, T b) { return a < b; }\n";
  static Gradients<2> adjoint(Expr, Expr, Expr, Expr) { return {0.0, 0.0}; }
};

struct LessEqual {
  static constexpr Info info{.name = "le", .symbol = "<=", .precedence = 6, .rule = Rule::comparison, .operands = 2};
  template <class T>
  static bool scalar(T a, T b) {
    return a <= b;
  }
  static Interval interval(Type, Interval a, Interval b) { return comparison(a, b, a.high <= b.low, a.low > b.high); }
  template <class T, class L, class V>
  static auto lanes(L l, V a, V b) {
    if constexpr (std::integral<T>)
      return Not(lanes_of_mask(l, Gt(a, b)));  // instruction sets compare ints by < and > alone
    else
      return lanes_of_mask(l, Le(a, b));
  }
  static constexpr std::string_view cuda =
      "template <class T> __device__ inline bool le(T a, T b) { return a <= b; }\n";
  static Gradients<2> adjoint(Expr, Expr, Expr, Expr) { return {0.0, 0.0}; }
};

struct Greater {
  static constexpr Info info{.name = "gt", .symbol = ">", .precedence = 6, .rule = Rule::comparison, .operands = 2};
  template <class T>
  static bool scalar(T a, T b) {
    return a > b;
  }
  static Interval interval(Type type, Interval a, Interval b) { return Less::interval(type, b, a); }
  template <class T, class L, class V>
  static auto lanes(L l, V a, V b) {
    return lanes_of_mask(l, Gt(a, b));
  }
  static constexpr std::string_view cuda = "template <class T> __device__ inline bool gt(T a, T b) { return a > b; }\n";
  static Gradients<2> adjoint(Expr, Expr, Expr, Expr) { return {0.0, 0.0}; }
};

struct GreaterEqual {
  static constexpr Info info{.name = "ge", .symbol = ">=", .precedence = 6, .rule = Rule::comparison, .operands = 2};
  template <class T>
  static bool scalar(T a, T b) {
    return a >= b;
  }
  static Interval interval(Type type, Interval a, Interval b) { return LessEqual::interval(type, b, a); }
  template <class T, class L, class V>
  static auto lanes(L l, V a, V b) {
    if constexpr (std::integral<T>)
      return Not(lanes_of_mask(l, Lt(a, b)));  // instruction sets compare ints by < and > alone
    else
      return lanes_of_mask(l, Ge(a, b));
  }
  static constexpr std::string_view cuda =
      "template <class T> __device__ inline bool ge(T a, T b) { return a >= b; }\n";
  static Gradients<2> adjoint(Expr, Expr, Expr, Expr) { return {0.0, 0.0}; }
};

struct Conjunction {
  static constexpr Info info{.name = "both", .symbol = "and", .precedence = 3, .rule = Rule::logic, .operands = 2};
  static bool scalar(bool a, bool b) { return a && b; }
  static Interval interval(Type, Interval a, Interval b) {
    return {std::min(a.low, b.low), std::min(a.high, b.high), false};
  }
  template <class T, class L, class V>
  static V lanes(L, V a, V b) {
    return And(a, b);
  }
  static constexpr std::string_view cuda = "__device__ inline bool both(bool a, bool b) { return a & b; }\n";
  static Gradients<2> adjoint(Expr, Expr, Expr, Expr) { return {0.0, 0.0}; }
};

struct Disjunction {
  static constexpr Info info{.name = "either", .symbol = "or", .precedence = 2, .rule = Rule::logic, .operands = 2};
  static bool scalar(bool a, bool b) { return a || b; }
  static Interval interval(Type, Interval a, Interval b) {
    return {std::max(a.low, b.low), std::max(a.high, b.high), false};
  }
  template <class T, class L, class V>
  static V lanes(L, V a, V b) {
    return Or(a, b);
  }
  static constexpr std::string_view cuda = "__device__ inline bool either(bool a, bool b) { return a | b; }\n";
  static Gradients<2> adjoint(Expr, Expr, Expr, Expr) { return {0.0, 0.0}; }
};

struct Inversion {
  static constexpr Info info{.name = "negate", .symbol = "not", .precedence = 4, .rule = Rule::logic, .operands = 1};
  static bool scalar(bool a) { return !a; }
  static Interval interval(Type, Interval a) { return {1 - a.high, 1 - a.low, false}; }
  template <class T, class L, class V>
  static V lanes(L, V a) {
    return Not(a);
  }
  static constexpr std::string_view cuda = "__device__ inline bool negate(bool a) { return !a; }\n";
  static Gradients<1> adjoint(Expr, Expr, Expr) { return {0.0}; }
};

struct Selection {
  static constexpr Info info{.name = "select", .symbol = "select", .rule = Rule::select, .operands = 3};
  template <class T>
  static T scalar(bool condition, T if_true, T if_false) {
    return condition ? if_true : if_false;
  }
  static Interval interval(Type, Interval condition, Interval if_true, Interval if_false) {
    if (condition.is_true()) return if_true;
    if (condition.is_false()) return if_false;
    return hull(if_true, if_false);
  }
  template <class T, class L, class Condition, class V>
  static V lanes(L l, Condition condition, V if_true, V if_false) {
    if constexpr (std::is_same_v<T, float>) {
      return IfThenElse(RebindMask(l.f, MaskFromVec(condition)), if_true, if_false);
    } else {
      return IfThenElse(MaskFromVec(condition), if_true, if_false);
    }
  }
  static constexpr std::string_view cuda =
      "template <class T> __device__ inline T select(bool condition, T if_true, T if_false) {\n"
      "  return condition ? if_true : if_false;\n"
      "}\n";
  static Gradients<3> adjoint(Expr, Expr d, Expr condition, Expr, Expr) {
    return {0.0, select(condition, d, 0.0), select(condition, 0.0, d)};
  }
};

/// int to real, rounding to nearest.
struct ToReal {
  static constexpr Info info{.name = "to_real", .symbol = "real", .rule = Rule::to_real, .operands = 1};
  template <class Real>
  static Real scalar(std::int32_t a) {
    return static_cast<Real>(a);
  }
  static Interval interval(Type, Interval a) { return real_bounds(a.low, a.high, false); }
  template <class T, class L, class V>
  static auto lanes(L l, V a) {
    return ConvertTo(l.f, a);
  }
  static constexpr std::string_view cuda = "__device__ inline float to_real(int a) { return __int2float_rn(a); }\n";
  static Gradients<1> adjoint(Expr, Expr, Expr) { return {0.0}; }
};

/// real to int, toward zero; saturates; NaN gives 0.
struct ToInt {
  static constexpr Info info{.name = "to_int", .symbol = "int", .rule = Rule::to_int, .operands = 1};
  template <class Real>
  static std::int32_t scalar(Real a) {
    if (std::isnan(a)) return 0;
    if (a >= Real(0x1p31)) return std::numeric_limits<std::int32_t>::max();
    if (a <= Real(-0x1p31)) return std::numeric_limits<std::int32_t>::min();
    return static_cast<std::int32_t>(a);
  }
  static Interval interval(Type, Interval a) {
    const Interval bounds{std::trunc(std::clamp(a.low, kIntMin, kIntMax)),
                          std::trunc(std::clamp(a.high, kIntMin, kIntMax)), false};
    return a.may_be_nan ? hull(bounds, single(0)) : bounds;
  }
  template <class T, class L, class V>
  static auto lanes(L l, V a) {
    const auto in_range = IfThenZeroElse(lane_not_equal(a, a), a);
    const auto truncated = ConvertTo(l.i, in_range);  // saturating above as well, by the select below
    return IfThenElse(RebindMask(l.i, Ge(in_range, Set(l.f, 2147483648.0f))), Set(l.i, 2147483647), truncated);
  }
  static constexpr std::string_view cuda = "__device__ inline int to_int(float a) { return __float2int_rz(a); }\n";
  static Gradients<1> adjoint(Expr, Expr, Expr) { return {0.0}; }
};

}  // namespace tilewise::variant
