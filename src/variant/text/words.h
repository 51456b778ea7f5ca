// The words and operators of the textual form, as the operations themselves give them.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace tilewise::variant {

/// Where an operation's symbol stands.
enum class Fix : std::uint8_t { prefix, infix, call };
Fix fix_of(std::int32_t number);

inline constexpr std::int32_t kNoOperation = -1;

/// The number of the operation whose symbol stands there, or kNoOperation.
std::int32_t find_operation(Fix fix, std::string_view symbol);

/// An operand of an infix operator needs no parentheses where its own operator binds at least that tightly.
/// Operators group from the left; ** from the right; comparisons not at all.
int left_binding(std::int32_t number);
int right_binding(std::int32_t number);

/// Symbols that are not words: operators and punctuation, longer ones first.
std::span<const std::string_view> symbols();

/// The names of functions in expressions.
std::span<const std::string_view> function_names();

/// The stages that the form itself has: keep, score, sink, dropout, plain.
std::span<const std::string_view> stage_names();

/// Words that no table, parameter or let may have as its name.
bool is_reserved(std::string_view word);

}  // namespace tilewise::variant
