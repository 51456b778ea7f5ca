// Operations by number, for laws that hold for all of them.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "variant/operations/operations.h"

namespace tilewise::laws {

/// The interval of an operation by number. `type` is that of the operands that may have several.
inline variant::Interval interval_of(std::size_t number, Type type, const std::vector<variant::Interval>& x) {
  static constexpr auto kIntervals = variant::for_each_operation([]<class O>() {
    return +[](Type operand_type, const std::vector<variant::Interval>& operands) {
      return [&]<std::size_t... I>(std::index_sequence<I...>) { return O::interval(operand_type, operands[I]...); }
      (std::make_index_sequence<O::info.operands>{});
    };
  });
  return kIntervals[number](type, x);
}

/// The types of its operands; `chosen` where a rule takes several.
inline std::vector<Type> operand_types(const variant::Info& info, Type chosen) {
  using variant::Rule;
  const auto all = [&info](Type type) { return std::vector(static_cast<std::size_t>(info.operands), type); };
  switch (info.rule) {
    case Rule::arithmetic:
    case Rule::comparison: return all(chosen);
    case Rule::real:
    case Rule::to_int: return all(Type::real);
    case Rule::integer:
    case Rule::to_real: return all(Type::int32);
    case Rule::logic: return all(Type::boolean);
    case Rule::select: return {Type::boolean, chosen, chosen};
  }
  return {};
}

inline Type result_type(const variant::Info& info, Type chosen) {
  using variant::Rule;
  switch (info.rule) {
    case Rule::comparison:
    case Rule::logic: return Type::boolean;
    case Rule::integer:
    case Rule::to_int: return Type::int32;
    case Rule::real:
    case Rule::to_real: return Type::real;
    case Rule::arithmetic:
    case Rule::select: return chosen;
  }
  return chosen;
}

}  // namespace tilewise::laws
