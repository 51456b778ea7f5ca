#include "io/tokenizer/vocabulary.h"

namespace tilewise::io {

bool Vocabulary::add(TokenId id, std::string_view text) {
  if (has(id) || by_text_.contains(text)) return false;
  if (id >= size()) {
    texts_.resize(static_cast<std::size_t>(id) + 1);
    present_.resize(static_cast<std::size_t>(id) + 1);
  }
  const auto index = static_cast<std::size_t>(id);
  texts_[index] = text;
  present_[index] = true;
  by_text_.emplace(texts_[index], id);
  return true;
}

std::optional<TokenId> Vocabulary::find(std::string_view text) const {
  const auto found = by_text_.find(text);
  if (found == by_text_.end()) return std::nullopt;
  return found->second;
}

}  // namespace tilewise::io
