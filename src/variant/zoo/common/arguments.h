// Arguments of the textual form as a named variant's C++ function takes them.
#pragma once

#include <cmath>
#include <limits>
#include <string_view>
#include <variant>

#include "core/fail.h"
#include "tilewise/zoo_entry.h"

namespace tilewise::zoo {

inline double real(const Argument& given, std::string_view variant, std::string_view argument) {
  if (const auto* number = std::get_if<double>(&given)) return *number;
  fail_argument("{}(): {} is a list, expected a number", variant, argument);
}

inline std::int32_t integer(const Argument& given, std::string_view variant, std::string_view argument) {
  const double number = real(given, variant, argument);
  const bool fits = number >= std::numeric_limits<std::int32_t>::min() &&
                    number <= std::numeric_limits<std::int32_t>::max() && number == std::floor(number);
  if (!fits) fail_argument("{}(): {} is {}, expected an int", variant, argument, number);
  return static_cast<std::int32_t>(number);
}

inline bool flag(const Argument& given, std::string_view variant, std::string_view argument) {
  const double number = real(given, variant, argument);
  if (number != 0 && number != 1) fail_argument("{}(): {} is {}, expected 0 or 1", variant, argument, number);
  return number != 0;
}

inline const std::vector<std::int32_t>& integers(const Argument& given, std::string_view variant,
                                                 std::string_view argument) {
  if (const auto* list = std::get_if<std::vector<std::int32_t>>(&given)) return *list;
  fail_argument("{}(): {} is the number {}, expected a list such as [1, 2]", variant, argument,
                std::get<double>(given));
}

}  // namespace tilewise::zoo
