// Byte-pair encoding's one loop: merge the best two neighbours until none can be merged.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <queue>
#include <string_view>
#include <vector>

#include "io/tokenizer/vocabulary.h"

namespace tilewise::io {

/// A part of the text that is one token, or (id < 0) a character that is none.
struct Symbol {
  std::uint32_t begin = 0, size = 0;  // bytes; size 0: merged into the one before it
  TokenId id = -1;
  std::uint32_t before = 0, behind = 0;  // neighbours, kNone at the ends
};

/// What two neighbours become, and how good that is: the least cost is merged first, the leftmost of equal ones.
struct Merge {
  double cost;
  TokenId id;
};

/// Merges the symbols of a text. find(left, right) tells what two neighbours become, as std::optional<Merge>. Takes
/// n log n steps for n symbols, so that a text without any break is no attack.
template <class Find>
class Merger {
 public:
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

  explicit Merger(Find find) : find_(std::move(find)) {}

  void add(std::uint32_t size, TokenId id) {
    const auto index = static_cast<std::uint32_t>(symbols_.size());
    const std::uint32_t begin = symbols_.empty() ? 0 : symbols_.back().begin + symbols_.back().size;
    if (!symbols_.empty()) symbols_.back().behind = index;
    symbols_.push_back({begin, size, id, index == 0 ? kNone : index - 1, kNone});
  }

  /// The symbols that are left, those of size 0 among them.
  const std::vector<Symbol>& merged() {
    for (std::uint32_t i = 1; i < symbols_.size(); ++i) consider(i - 1, i);
    while (!candidates_.empty()) {
      const Candidate best = candidates_.top();
      candidates_.pop();
      Symbol &left = symbols_[best.left], &right = symbols_[best.right];
      // Either was merged since.
      if (left.size == 0 || right.size == 0 || left.size + right.size != best.size) continue;
      left.size = best.size;
      left.id = best.id;
      left.behind = right.behind;
      right.size = 0;
      if (left.behind != kNone) symbols_[left.behind].before = best.left;
      if (left.before != kNone) consider(left.before, best.left);
      if (left.behind != kNone) consider(best.left, left.behind);
    }
    return symbols_;
  }

 private:
  struct Candidate {
    double cost;
    std::uint32_t left, right, size;
    TokenId id;

    /// The queue's top is the greatest.
    friend bool operator<(const Candidate& a, const Candidate& b) {
      return a.cost != b.cost ? a.cost > b.cost : a.left > b.left;
    }
  };

  void consider(std::uint32_t left, std::uint32_t right) {
    if (const std::optional<Merge> merge = find_(symbols_[left], symbols_[right])) {
      candidates_.push({merge->cost, left, right, symbols_[left].size + symbols_[right].size, merge->id});
    }
  }

  Find find_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate> candidates_;
};

}  // namespace tilewise::io
