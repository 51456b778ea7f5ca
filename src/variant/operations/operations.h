// The list of operations. Adding one is a struct in a header beside this one, its entry in this list, and its row in
// the tests; the compiler refuses a struct that lacks a reading.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "variant/operations/arithmetic.h"
#include "variant/operations/bits.h"
#include "variant/operations/definition.h"
#include "variant/operations/functions.h"
#include "variant/operations/logic.h"

namespace tilewise::variant {

template <class... Operations>
struct OperationList {
  static constexpr std::size_t size = sizeof...(Operations);
};

/// In the order of their numbers, which are part of the content key: append, never reorder.
using Operations =
    OperationList<Addition, Subtraction, Multiplication, Division, FloorDivision, Modulo, Negation, Minimum, Maximum,
                  Absolute, RoundDown, BitAnd, BitOr, BitXor, BitNot, ShiftUp, ShiftDown, Equal, NotEqual, Less,
                  LessEqual, Greater, GreaterEqual, Conjunction, Disjunction, Inversion, Selection, ToReal, ToInt,
                  Exponential, Exponential2, Logarithm, Logarithm2, SquareRoot, ReciprocalSquareRoot, HyperbolicTangent,
                  Sigmoid, ErrorFunction, Sine, Cosine, Power>;

namespace detail {
template <class Wanted, class... All>
constexpr std::int32_t position(OperationList<All...>) {
  std::int32_t index = 0;
  const bool found = ((std::is_same_v<Wanted, All> || (++index, false)) || ...);
  return found ? index : -1;
}

struct AnyLanes {};  // stands for SIMD tags where only the presence of a lane reading is asked for

template <class O>
concept HasInfoAndText = requires {
  { O::info } -> std::convertible_to<const Info&>;
  { O::cuda } -> std::convertible_to<std::string_view>;
};

template <class O, std::size_t... I>
consteval bool has_interval_and_adjoint(std::index_sequence<I...>) {
  return requires(Interval x, Expr e) {
    { O::interval(Type::real, ((void)I, x)...) } -> std::same_as<Interval>;
    { O::adjoint(e, e, ((void)I, e)...) } -> std::same_as<Gradients<sizeof...(I)>>;
  };
}

template <class O>
consteval bool is_complete() {
  static_assert(HasInfoAndText<O>, "an operation lacks its Info or its CUDA text");
  static_assert(has_interval_and_adjoint<O>(std::make_index_sequence<O::info.operands>{}),
                "an operation lacks its interval or adjoint reading");
  return true;
}

template <class... All>
consteval bool all_complete(OperationList<All...>) {
  return (is_complete<All>() && ...);
}
static_assert(all_complete(Operations{}));
}  // namespace detail

/// The number of an operation: the `index` of its nodes.
template <class O>
inline constexpr std::int32_t number_of = detail::position<O>(Operations{});

/// A table with one entry for each operation, in order: `make.template operator()<O>()` for each O.
template <class Make>
constexpr auto for_each_operation(Make make) {
  return
      [&]<class... All>(OperationList<All...>) { return std::array{make.template operator()<All>()...}; }(Operations{});
}

/// What each operation says of itself, by number.
inline constexpr auto kInfo = for_each_operation([]<class O>() { return O::info; });

}  // namespace tilewise::variant
