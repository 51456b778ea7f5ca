#include "io/tokenizer/sentence_piece.h"

#include <algorithm>
#include <utility>

namespace tilewise::io {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581
// What SentencePiece writes for the unknown token.
constexpr std::string_view kUnknownText = " \xE2\x81\x87 ";

}  // namespace

SentencePiece::SentencePiece(std::shared_ptr<const Vocabulary> vocabulary, std::vector<double> scores,
                             std::vector<TokenKind> kinds, const std::array<TokenId, 256>& byte_tokens,
                             const SentencePieceSettings& settings)
    : vocabulary_(std::move(vocabulary)),
      scores_(std::move(scores)),
      kinds_(std::move(kinds)),
      byte_tokens_(byte_tokens),
      settings_(settings) {
  for (std::size_t byte = 0; byte < byte_tokens_.size(); ++byte) {
    if (byte_tokens_[byte] >= 0) bytes_of_.emplace(byte_tokens_[byte], static_cast<unsigned char>(byte));
  }
}

std::optional<TokenId> SentencePiece::find(std::string_view text) const {
  const auto id = vocabulary_->find(text);
  // Text never becomes a control token, however it reads.
  if (!id || (kinds_[static_cast<std::size_t>(*id)] != TokenKind::normal &&
              kinds_[static_cast<std::size_t>(*id)] != TokenKind::user_defined)) {
    return std::nullopt;
  }
  return id;
}

void SentencePiece::append_unknown(std::string_view character, std::vector<TokenId>& ids) const {
  if (!bytes_of_.empty()) {
    for (const char byte : character) ids.push_back(byte_tokens_[static_cast<unsigned char>(byte)]);
  } else if (ids.empty() || ids.back() != settings_.unknown) {
    ids.push_back(settings_.unknown);  // one for all that are next to each other
  }
}

void SentencePiece::encode(std::string_view text, bool begins, std::vector<TokenId>& ids) const {
  std::string escaped(begins && settings_.add_space_prefix ? kSpace : "");
  for (const char byte : text) {
    if (byte == ' ') {
      escaped += kSpace;
    } else {
      escaped += byte;
    }
  }
  const std::string_view whole = escaped;
  Merger merger([&](const Symbol& left, const Symbol& right) -> std::optional<Merge> {
    const auto id = find(whole.substr(left.begin, left.size + right.size));
    if (!id) return std::nullopt;
    return Merge{-scores_[static_cast<std::size_t>(*id)], *id};
  });
  std::size_t at = 0;
  for (const Character& character : characters(whole)) {
    merger.add(character.size, find(whole.substr(at, character.size)).value_or(-1));
    at += character.size;
  }
  for (const Symbol& symbol : merger.merged()) {
    if (symbol.size == 0) continue;
    if (symbol.id >= 0) {
      ids.push_back(symbol.id);
    } else {
      append_unknown(whole.substr(symbol.begin, symbol.size), ids);
    }
  }
}

std::string SentencePiece::bytes(TokenId id, bool first) const {
  const TokenKind kind = kinds_[static_cast<std::size_t>(id)];
  if (kind == TokenKind::unknown) return std::string(kUnknownText);
  if (const auto byte = bytes_of_.find(id); byte != bytes_of_.end()) return {static_cast<char>(byte->second)};
  std::string_view text = vocabulary_->text(id);
  if (first && settings_.add_space_prefix && text.starts_with(kSpace)) text.remove_prefix(kSpace.size());
  std::string bytes;
  while (!text.empty()) {
    const std::size_t space = std::min(text.find(kSpace), text.size());
    bytes += text.substr(0, space);
    text.remove_prefix(space);
    if (text.empty()) break;
    bytes += ' ';
    text.remove_prefix(kSpace.size());
  }
  return bytes;
}

}  // namespace tilewise::io
