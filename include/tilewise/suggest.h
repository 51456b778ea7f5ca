// "Did you mean": the known word that is closest to what was typed.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tilewise {

/// The number of letters to insert, delete, replace, or swap with their neighbour, to make `b` of `a` (optimal string
/// alignment: no letter is touched twice).
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The first of the known words at the smallest edit distance from `typed`, if that is at most a third of its length
/// (rounded up), so that a slip of the finger is caught and a different word is not.
std::optional<std::string_view> closest_word(std::string_view typed, std::span<const std::string_view> known);

/// "; did you mean 'window'?", to be appended to a message, or nothing where no known word is close.
std::string did_you_mean(std::string_view typed, std::span<const std::string_view> known);

}  // namespace tilewise
