#include "io/tokenizer/byte_bpe.h"

#include <fmt/format.h>

#include "io/cursor.h"
#include "io/tokenizer/unicode.h"

namespace tilewise::io {
namespace {

/// GPT-2 writes bytes as printable characters: those of Latin-1 that are printable as themselves, all others as
/// U+0100 on, in order.
struct ByteAlphabet {
  std::array<std::uint32_t, 256> code_of{};
  std::array<int, 0x180> byte_of{};  // by code; -1: none

  ByteAlphabet() {
    byte_of.fill(-1);
    std::uint32_t next = 0x100;
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      const bool printable_byte =
          (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
      code_of[byte] = printable_byte ? byte : next++;
      byte_of[code_of[byte]] = static_cast<int>(byte);
    }
  }

  void append(std::string_view bytes, std::string& out) const {
    for (const char byte : bytes) append_utf8(code_of[static_cast<unsigned char>(byte)], out);
  }
};

const ByteAlphabet& alphabet() {
  static const ByteAlphabet kAlphabet;
  return kAlphabet;
}

std::uint64_t pair_of(TokenId left, TokenId right) {
  return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint64_t>(right);
}

}  // namespace

ByteBpe::ByteBpe(std::shared_ptr<const Vocabulary> vocabulary, const std::vector<MergeText>& merges,
                 const ByteBpeSettings& settings, const std::function<void(std::size_t, const std::string&)>& refuse)
    : vocabulary_(std::move(vocabulary)), settings_(settings) {
  for (std::size_t byte = 0; byte < 256; ++byte) {
    std::string text;
    append_utf8(alphabet().code_of[byte], text);
    byte_tokens_[byte] = vocabulary_->find(text).value_or(-1);
  }
  merges_.reserve(merges.size());
  std::string joined;
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const auto [left, right] = merges[i];
    const auto left_id = vocabulary_->find(left), right_id = vocabulary_->find(right);
    const auto id = vocabulary_->find(joined.assign(left).append(right));
    if (!left_id || !right_id || !id) {
      refuse(i, fmt::format("merges '{}' and '{}', which with their result must be tokens", printable(left),
                            printable(right)));
    }
    // Of equal pairs the reference keeps the last.
    merges_[pair_of(*left_id, *right_id)] = {static_cast<double>(i), *id};
  }
}

std::optional<Merge> ByteBpe::find_merge(TokenId left, TokenId right) const {
  const auto found = merges_.find(pair_of(left, right));
  if (found == merges_.end()) return std::nullopt;
  return found->second;
}

void ByteBpe::encode_piece(std::string_view piece, std::vector<TokenId>& ids) const {
  if (settings_.ignore_merges) {
    std::string text;
    alphabet().append(piece, text);
    if (const auto whole = vocabulary_->find(text)) {
      ids.push_back(*whole);
      return;
    }
  }
  Merger merger([this](const Symbol& left, const Symbol& right) { return find_merge(left.id, right.id); });
  for (const char byte : piece) {
    const auto value = static_cast<unsigned char>(byte);
    const TokenId id = byte_tokens_[value] < 0 ? settings_.unknown : byte_tokens_[value];
    if (id >= 0) merger.add(1, id);
  }
  for (const Symbol& symbol : merger.merged()) {
    if (symbol.size > 0) ids.push_back(symbol.id);
  }
}

void ByteBpe::encode(std::string_view text, bool, std::vector<TokenId>& ids) const {
  std::string changed;
  if (settings_.nfc) text = changed = nfc(text);
  if (settings_.add_prefix_space && !text.starts_with(' ')) text = changed = " " + std::string(text);
  for (const std::string_view piece : pretokenize(settings_.pretokenizer, text)) encode_piece(piece, ids);
}

std::string ByteBpe::bytes(TokenId id, bool) const {
  const std::string& text = vocabulary_->text(id);
  std::string bytes;
  for (const Character& character : characters(text)) {
    const int byte = character.code < alphabet().byte_of.size() ? alphabet().byte_of[character.code] : -1;
    // A token added later may be plain text instead.
    if (byte < 0) return text;
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

}  // namespace tilewise::io
