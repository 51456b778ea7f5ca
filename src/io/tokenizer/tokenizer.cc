#include "io/tokenizer/tokenizer.h"

#include <algorithm>
#include <utility>

#include "core/fail.h"
#include "io/tokenizer/unicode.h"

namespace tilewise::io {
namespace {

/// Where the white space before `end` begins, in text from `begin` on.
std::size_t strip_left(std::string_view text, std::size_t begin, std::size_t end) {
  std::size_t stripped = end, at = begin;
  bool in_space = false;
  for (const Character& character : characters(text.substr(begin, end - begin))) {
    const bool space = is_white_space(character.code);
    if (space && !in_space) stripped = at;
    if (!space) stripped = end;
    in_space = space;
    at += character.size;
  }
  return stripped;
}

std::size_t strip_right(std::string_view text, std::size_t begin) {
  while (begin < text.size()) {
    const Character character = character_at(text, begin);
    if (!is_white_space(character.code)) break;
    begin += character.size;
  }
  return begin;
}

}  // namespace

Tokenizer::Tokenizer(Parts parts)
    : parts_(std::move(parts)), control_(static_cast<std::size_t>(parts_.vocabulary->size())) {
  for (std::size_t i = 0; i < parts_.added.size(); ++i) {
    const AddedToken& added = parts_.added[i];
    const std::string& token = text(added.id);
    control_[static_cast<std::size_t>(added.id)] = added.control;
    if (!token.empty()) added_by_first_[static_cast<unsigned char>(token[0])].push_back(i);
  }
  for (auto& candidates : added_by_first_) {
    std::sort(candidates.begin(), candidates.end(), [this](std::size_t a, std::size_t b) {
      return text(parts_.added[a].id).size() > text(parts_.added[b].id).size();
    });
  }
}

std::optional<Tokenizer::Found> Tokenizer::find_added(std::string_view whole, std::size_t at,
                                                      bool parse_control) const {
  for (std::size_t begin = at; begin < whole.size(); ++begin) {
    for (const std::size_t index : added_by_first_[static_cast<unsigned char>(whole[begin])]) {
      const AddedToken& token = parts_.added[index];
      const std::string& written = text(token.id);
      if ((token.control && !parse_control) || !whole.substr(begin).starts_with(written)) continue;
      const std::size_t end = begin + written.size();
      return Found{token.left_strip ? strip_left(whole, at, begin) : begin,
                   token.right_strip ? strip_right(whole, end) : end, &token};
    }
  }
  return std::nullopt;
}

std::vector<TokenId> Tokenizer::encode(std::string_view bytes, const EncodeOptions& options) const {
  const std::string whole = valid_utf8(bytes, parts_.model->replacement());
  std::vector<TokenId> ids;
  if (options.add_special) ids = parts_.before;
  bool begins = true;
  for (std::size_t at = 0; at < whole.size();) {
    const std::optional<Found> found = find_added(whole, at, options.parse_control);
    const std::size_t end = found ? found->begin : whole.size();
    if (end > at) parts_.model->encode(std::string_view(whole).substr(at, end - at), begins, ids);
    if (found) ids.push_back(found->token->id);
    begins = found && found->token->control;
    at = found ? found->end : whole.size();
  }
  if (options.add_special) ids.insert(ids.end(), parts_.behind.begin(), parts_.behind.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool with_control) const {
  Detokenizer detokenizer(*this, with_control);
  std::string text;
  for (const TokenId id : ids) text += detokenizer.add(id);
  return text + detokenizer.finish();
}

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool with_control)
    : tokenizer_(&tokenizer), with_control_(with_control), stream_(tokenizer.model().replacement()) {}

std::string Detokenizer::add(TokenId id) {
  if (!tokenizer_->has(id)) {
    fail_argument("token {} is not in the vocabulary; expected 0 to {}, less its gaps", id, tokenizer_->size() - 1);
  }
  std::string text;
  if (tokenizer_->is_control(id) && !with_control_) return text;
  stream_.add(tokenizer_->model().bytes(id, std::exchange(first_, false)), text);
  return text;
}

std::string Detokenizer::finish() {
  std::string text;
  stream_.finish(text);
  return text;
}

}  // namespace tilewise::io
