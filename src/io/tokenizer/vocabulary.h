// Tokens by number and by text.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tilewise::io {

using TokenId = std::int32_t;

/// Tokens, each text at most once. Numbers may have gaps: a gap has no text and is never found.
class Vocabulary {
 public:
  /// Room for so many tokens: adding them is then twice as quick.
  void reserve(std::size_t tokens) { by_text_.reserve(tokens); }

  /// False where the text or the number is taken already. 0 <= id.
  bool add(TokenId id, std::string_view text);

  std::optional<TokenId> find(std::string_view text) const;

  /// "" for a gap.
  const std::string& text(TokenId id) const { return texts_[static_cast<std::size_t>(id)]; }

  /// One above the largest number.
  std::int64_t size() const { return static_cast<std::int64_t>(texts_.size()); }
  bool has(TokenId id) const { return id >= 0 && id < size() && present_[static_cast<std::size_t>(id)]; }

 private:
  std::deque<std::string> texts_;  // [size]; a deque, so that what by_text_ refers to never moves
  std::vector<bool> present_;      // [size]
  std::unordered_map<std::string_view, TokenId> by_text_;
};

}  // namespace tilewise::io
