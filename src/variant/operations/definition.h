// What an operation must define. See operations.h for the list of all of them.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>

#include "tilewise/variant.h"
#include "variant/interval.h"

namespace tilewise::variant {

/// How an operation types its operands and result.
enum class Rule : std::uint8_t {
  arithmetic,  // (number...) -> number: int if all are ints, else real with the ints promoted
  real,        // (real...) -> real, ints promoted
  integer,     // (int...) -> int
  comparison,  // (number, number) -> bool, promoted to a common type
  logic,       // (bool...) -> bool
  select,      // (bool, T, T) -> T, numbers promoted to a common type
  to_real,     // (int) -> real
  to_int,      // (real) -> int
};

/// How the textual form writes it: binding strength of the operator (higher binds tighter), or kCall for name(a, b).
inline constexpr int kCall = 100;

/// Largest error of a real result in float32 units in the last place, for each reading that computes it.
/// Zero means correctly rounded: the same bits in every reading.
struct Error32 {
  double scalar = 0;  // the C library's float functions
  double lanes = 0;   // operations/lane_math.h
  double cuda = 0;    // CUDA C++ Programming Guide, "Mathematical Functions", or the definition's own text
  constexpr double largest() const {
    return scalar > lanes ? (scalar > cuda ? scalar : cuda) : (lanes > cuda ? lanes : cuda);
  }
};

struct Info {
  std::string_view name;    // of the function: in the textual form of calls and in CUDA text
  std::string_view symbol;  // of the operator in the textual form; the name again for calls
  int precedence = kCall;
  Rule rule = Rule::arithmetic;
  int operands = 1;
  Error32 error = {};
};

/// An operation's derivative towards each operand: what to add to that operand's adjoint. The constant 0.0 means none.
/// Numbers in it other than 0, +-1 are written constant(x): a derivative has the variant's literals and no others.
template <std::size_t N>
using Gradients = std::array<Expr, N>;

/// int32 arithmetic that wraps, by way of unsigned.
template <class Function>
constexpr std::int32_t wrapping(Function function, std::int32_t a, std::int32_t b) {
  return static_cast<std::int32_t>(function(static_cast<std::uint32_t>(a), static_cast<std::uint32_t>(b)));
}

}  // namespace tilewise::variant
