// Bit operations on int32. See arithmetic.h for the readings.
#pragma once

#include <bit>
#include <cmath>

#include "variant/operations/definition.h"

namespace tilewise::variant {

/// The largest value with as many bits as a non-negative x needs: 2^n - 1.
inline double all_bits_below(double x) {
  return static_cast<double>(std::bit_ceil(static_cast<std::uint64_t>(x) + 1) - 1);
}

struct BitAnd {
  static constexpr Info info{.name = "bit_and", .symbol = "&", .precedence = 10, .rule = Rule::integer, .operands = 2};
  static std::int32_t scalar(std::int32_t a, std::int32_t b) { return a & b; }
  static Interval interval(Type, Interval a, Interval b) {
    if (a.is_single() && b.is_single())
      return single(static_cast<std::int32_t>(a.low) & static_cast<std::int32_t>(b.low));
    if (a.low >= 0 && b.low >= 0) return {0, std::min(a.high, b.high), false};
    if (a.low >= 0) return {0, a.high, false};
    if (b.low >= 0) return {0, b.high, false};
    return kAnyInt;
  }
  template <class T, class L, class V>
  static V lanes(L, V a, V b) {
    return And(a, b);
  }
  static constexpr std::string_view cuda = "__device__ inline int bit_and(int a, int b) { return a & b; }\n";
  static Gradients<2> adjoint(Expr, Expr, Expr, Expr) { return {0.0, 0.0}; }
};

struct BitOr {
  static constexpr Info info{.name = "bit_or", .symbol = "|", .precedence = 8, .rule = Rule::integer, .operands = 2};
  static std::int32_t scalar(std::int32_t a, std::int32_t b) { return a | b; }
  static Interval interval(Type, Interval a, Interval b) {
    if (a.is_single() && b.is_single())
      return single(static_cast<std::int32_t>(a.low) | static_cast<std::int32_t>(b.low));
    if (a.low >= 0 && b.low >= 0) return {std::max(a.low, b.low), all_bits_below(std::max(a.high, b.high)), false};
    return kAnyInt;
  }
  template <class T, class L, class V>
  static V lanes(L, V a, V b) {
    return Or(a, b);
  }
  static constexpr std::string_view cuda = "__device__ inline int bit_or(int a, int b) { return a | b; }\n";
  static Gradients<2> adjoint(Expr, Expr, Expr, Expr) { return {0.0, 0.0}; }
};

struct BitXor {
  static constexpr Info info{.name = "bit_xor", .symbol = "^", .precedence = 9, .rule = Rule::integer, .operands = 2};
  static std::int32_t scalar(std::int32_t a, std::int32_t b) { return a ^ b; }
  static Interval interval(Type, Interval a, Interval b) {
    if (a.is_single() && b.is_single())
      return single(static_cast<std::int32_t>(a.low) ^ static_cast<std::int32_t>(b.low));
    if (a.low >= 0 && b.low >= 0) return {0, all_bits_below(std::max(a.high, b.high)), false};
    return kAnyInt;
  }
  template <class T, class L, class V>
  static V lanes(L, V a, V b) {
    return Xor(a, b);
  }
  static constexpr std::string_view cuda = "__device__ inline int bit_xor(int a, int b) { return a ^ b; }\n";
  static Gradients<2> adjoint(Expr, Expr, Expr, Expr) { return {0.0, 0.0}; }
};

struct BitNot {
  static constexpr Info info{.name = "bit_not", .symbol = "~", .precedence = 14, .rule = Rule::integer, .operands = 1};
  static std::int32_t scalar(std::int32_t a) { return ~a; }
  static Interval interval(Type, Interval a) { return {-1 - a.high, -1 - a.low, false}; }
  template <class T, class L, class V>
  static V lanes(L, V a) {
    return Not(a);
  }
  static constexpr std::string_view cuda = "__device__ inline int bit_not(int a) { return ~a; }\n";
  static Gradients<1> adjoint(Expr, Expr, Expr) { return {0.0}; }
};

/// Shift amounts count modulo 32; bits that leave are lost.
struct ShiftUp {
  static constexpr Info info{
      .name = "shift_left", .symbol = "<<", .precedence = 11, .rule = Rule::integer, .operands = 2};
  static std::int32_t scalar(std::int32_t a, std::int32_t b) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) << (b & 31));
  }
  static Interval interval(Type, Interval a, Interval b) {
    if (!b.is_single()) return kAnyInt;
    const double factor = std::ldexp(1.0, static_cast<std::int32_t>(b.low) & 31);
    return int_bounds(a.low * factor, a.high * factor);
  }
  template <class T, class L, class V>
  static V lanes(L l, V a, V b) {
    return Shl(a, And(b, Set(l.i, 31)));
  }
  static constexpr std::string_view cuda =
      "__device__ inline int shift_left(int a, int b) { return int(unsigned(a) << (b & 31)); }\n";
  static Gradients<2> adjoint(Expr, Expr, Expr, Expr) { return {0.0, 0.0}; }
};

/// Keeps the sign. Shift amounts count modulo 32.
struct ShiftDown {
  static constexpr Info info{
      .name = "shift_right", .symbol = ">>", .precedence = 11, .rule = Rule::integer, .operands = 2};
  static std::int32_t scalar(std::int32_t a, std::int32_t b) { return a >> (b & 31); }
  static Interval interval(Type, Interval a, Interval b) {
    if (!b.is_single()) return {std::min(a.low, 0.0), std::max(a.high, 0.0), false};
    const double factor = std::ldexp(1.0, -(static_cast<std::int32_t>(b.low) & 31));
    return {std::floor(a.low * factor), std::floor(a.high * factor), false};
  }
  template <class T, class L, class V>
  static V lanes(L l, V a, V b) {
    return Shr(a, And(b, Set(l.i, 31)));
  }
  static constexpr std::string_view cuda =
      "__device__ inline int shift_right(int a, int b) { return a >> (b & 31); }\n";
  static Gradients<2> adjoint(Expr, Expr, Expr, Expr) { return {0.0, 0.0}; }
};

}  // namespace tilewise::variant
