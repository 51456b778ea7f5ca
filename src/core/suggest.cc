#include "tilewise/suggest.h"

#include <algorithm>
#include <vector>

#include "core/fail.h"

namespace tilewise {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  // Row i holds the distances from a's first i letters to each beginning of b; three rows suffice for the swap.
  std::vector<std::size_t> before_last(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    before_last.swap(last);
    last.swap(row);
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replaced});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
  }
  return row[b.size()];
}

std::optional<std::string_view> closest_word(std::string_view typed, std::span<const std::string_view> known) {
  std::size_t smallest = (typed.size() + 2) / 3 + 1;
  std::optional<std::string_view> closest;
  for (std::string_view word : known) {
    const std::size_t difference = word.size() > typed.size() ? word.size() - typed.size() : typed.size() - word.size();
    if (difference >= smallest) continue;  // the distance is at least that
    if (const std::size_t distance = edit_distance(typed, word); distance < smallest) {
      smallest = distance;
      closest = word;
    }
  }
  return closest;
}

std::string did_you_mean(std::string_view typed, std::span<const std::string_view> known) {
  const auto word = closest_word(typed, known);
  return word ? fmt::format("; did you mean '{}'?", *word) : "";
}

}  // namespace tilewise
