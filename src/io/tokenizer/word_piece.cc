#include "io/tokenizer/word_piece.h"

#include <algorithm>
#include <array>
#include <utility>

#include "io/tokenizer/unicode.h"

namespace tilewise::io {
namespace {

/// The blocks that BERT's reference takes for ideographs.
bool is_ideograph(std::uint32_t code) {
  constexpr std::array<std::pair<std::uint32_t, std::uint32_t>, 7> kBlocks = {{{0x3400, 0x4DBF},
                                                                               {0x4E00, 0x9FFF},
                                                                               {0xF900, 0xFAFF},
                                                                               {0x20000, 0x2A6DF},
                                                                               {0x2A700, 0x2B81F},
                                                                               {0x2B920, 0x2CEAF},
                                                                               {0x2F800, 0x2FA1F}}};
  return std::any_of(kBlocks.begin(), kBlocks.end(),
                     [code](const auto& block) { return code >= block.first && code <= block.second; });
}

/// The text with every character replaced by what append(code, out) appends for it.
template <class Append>
std::string changed(std::string_view text, const Append& append) {
  std::string out;
  out.reserve(text.size());
  for (const Character& character : characters(text)) append(character.code, out);
  return out;
}

void append_cleaned(std::uint32_t code, std::string& out) {
  constexpr std::uint32_t kReplacementCharacter = 0xFFFD;
  if (code == 0 || code == kReplacementCharacter || is_bert_control(code)) return;
  append_utf8(is_white_space(code) ? ' ' : code, out);
}

void append_apart(std::uint32_t code, std::string& out) {
  if (!is_ideograph(code)) return append_utf8(code, out);
  out += ' ';
  append_utf8(code, out);
  out += ' ';
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

/// The reference's list, in its order.
void clean_up(std::string& text) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kReplaced = {{{" .", "."},
                                                                                        {" ?", "?"},
                                                                                        {" !", "!"},
                                                                                        {" ,", ","},
                                                                                        {" ' ", "'"},
                                                                                        {" n't", "n't"},
                                                                                        {" 'm", "'m"},
                                                                                        {" do not", " don't"},
                                                                                        {" 's", "'s"},
                                                                                        {" 've", "'ve"},
                                                                                        {" 're", "'re"}}};
  for (const auto& [from, to] : kReplaced) replace_all(text, from, to);
}

}  // namespace

std::string bert_normalized(std::string_view text, const WordPieceSettings& settings) {
  std::string normalized(text);
  if (settings.clean_text) normalized = changed(normalized, append_cleaned);
  if (settings.handle_chinese_chars) normalized = changed(normalized, append_apart);
  if (settings.strip_accents) {
    normalized = changed(nfd(normalized), [](std::uint32_t code, std::string& out) {
      if (!is_nonspacing_mark(code)) append_utf8(code, out);
    });
  }
  if (settings.lowercase) normalized = changed(normalized, append_lower);
  return normalized;
}

WordPiece::WordPiece(std::shared_ptr<const Vocabulary> vocabulary, TokenId unknown, WordPieceSettings settings)
    : vocabulary_(std::move(vocabulary)), unknown_(unknown), settings_(std::move(settings)) {}

void WordPiece::encode(std::string_view text, bool, std::vector<TokenId>& ids) const {
  const std::string normalized = bert_normalized(text, settings_);
  std::size_t begin = 0, at = 0;
  const auto end_word = [&] {
    if (at > begin) encode_word(std::string_view(normalized).substr(begin, at - begin), ids);
  };
  for (const Character& character : characters(normalized)) {
    const bool space = is_white_space(character.code), punctuation = is_bert_punctuation(character.code);
    if (space || punctuation) {
      end_word();
      if (punctuation) encode_word(std::string_view(normalized).substr(at, character.size), ids);
      begin = at + character.size;
    }
    at += character.size;
  }
  end_word();
}

void WordPiece::encode_word(std::string_view word, std::vector<TokenId>& ids) const {
  const std::vector<Character> letters = characters(word);
  const std::size_t before = ids.size();
  bool known = static_cast<std::int64_t>(letters.size()) <= settings_.most_characters;
  std::string candidate;
  for (std::size_t first = 0, begin = 0; known && first < letters.size();) {
    std::size_t last = letters.size(), end = word.size();
    std::optional<TokenId> found;
    while (last > first) {
      candidate = first == 0 ? "" : settings_.continuing;
      candidate += word.substr(begin, end - begin);
      found = vocabulary_->find(candidate);
      if (found) break;
      --last;
      end -= letters[last].size;
    }
    known = found.has_value();
    if (known) ids.push_back(*found);
    first = last;
    begin = end;
  }
  if (known) return;
  ids.resize(before);
  ids.push_back(unknown_);
}

std::string WordPiece::bytes(TokenId id, bool first) const {
  std::string text = vocabulary_->text(id);
  if (!first) {
    const bool continues = !settings_.continuing.empty() && text.starts_with(settings_.continuing);
    text = continues ? text.substr(settings_.continuing.size()) : " " + text;
  }
  if (settings_.cleanup) clean_up(text);
  return text;
}

}  // namespace tilewise::io
