// Tokenizers out of a GGUF file's settings.
#include <algorithm>
#include <cstdlib>
#include <limits>

#include "core/fail.h"
#include "io/cursor.h"
#include "io/tokenizer/byte_bpe.h"
#include "io/tokenizer/sentence_piece.h"
#include "io/tokenizer/tokenizer.h"

namespace tilewise::io {
namespace {

constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kKinds = "tokenizer.ggml.token_type";
constexpr std::string_view kMerges = "tokenizer.ggml.merges";
constexpr std::string_view kScores = "tokenizer.ggml.scores";
constexpr std::string_view kPretokenizer = "tokenizer.ggml.pre";

template <class... Args>
[[noreturn]] void fail_setting(const GgufFile& file, std::string_view key, fmt::format_string<Args...> message,
                               Args&&... args) {
  fail(ErrorCode::parse, "{}: setting '{}': {}", file.path(), key, fmt::format(message, std::forward<Args>(args)...));
}

std::shared_ptr<const Vocabulary> read_vocabulary(const GgufFile& file) {
  const auto& texts = file.strings(kTokens);
  if (texts.empty()) fail_setting(file, kTokens, "is empty");
  if (texts.size() > static_cast<std::size_t>(std::numeric_limits<TokenId>::max())) {
    fail_setting(file, kTokens, "has {} tokens; expected at most 2^31 - 1", texts.size());
  }
  auto vocabulary = std::make_shared<Vocabulary>();
  vocabulary->reserve(texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (valid_utf8(texts[i], Replacement::each_byte) != texts[i])
      fail_setting(file, kTokens, "token {} is no UTF-8", i);
    if (!vocabulary->add(static_cast<TokenId>(i), texts[i])) {
      fail_setting(file, kTokens, "token {}, '{}', is token {} already", i, printable(texts[i]),
                   *vocabulary->find(texts[i]));
    }
  }
  return vocabulary;
}

std::vector<TokenKind> read_kinds(const GgufFile& file, std::int64_t tokens) {
  std::vector<TokenKind> kinds(static_cast<std::size_t>(tokens), TokenKind::normal);
  if (!file.has(kKinds)) return kinds;
  const std::vector<std::int64_t> numbers = file.integers(kKinds);
  if (numbers.size() != kinds.size()) {
    fail_setting(file, kKinds, "has {} elements; expected {}, one a token", numbers.size(), kinds.size());
  }
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    if (numbers[i] < 1 || numbers[i] > 6)
      fail_setting(file, kKinds, "element {} is {}; expected 1 to 6", i, numbers[i]);
    kinds[i] = static_cast<TokenKind>(numbers[i]);
  }
  return kinds;
}

std::optional<TokenId> read_id(const GgufFile& file, std::string_view key, std::int64_t tokens) {
  if (!file.has(key)) return std::nullopt;
  return static_cast<TokenId>(file.integer(key, 0, tokens - 1));
}

/// Puts the tokens for beginning and end around a text where the file says so, or, where it says nothing, the family
/// does.
void read_ends(const GgufFile& file, bool begin_by_default, Tokenizer::Parts& parts) {
  const std::int64_t tokens = parts.vocabulary->size();
  parts.begin = read_id(file, "tokenizer.ggml.bos_token_id", tokens);
  parts.end = read_id(file, "tokenizer.ggml.eos_token_id", tokens);
  const auto add = [&](std::string_view key, bool by_default, std::optional<TokenId> id, std::vector<TokenId>& ids) {
    if (!file.boolean_or(key, by_default)) return;
    if (!id) fail_setting(file, key, "asks for a token that the file does not name");
    ids.push_back(*id);
  };
  add("tokenizer.ggml.add_bos_token", begin_by_default, parts.begin, parts.before);
  add("tokenizer.ggml.add_eos_token", false, parts.end, parts.behind);
}

std::vector<AddedToken> added_tokens(const std::vector<TokenKind>& kinds) {
  std::vector<AddedToken> added;
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    if (kinds[i] == TokenKind::control || kinds[i] == TokenKind::user_defined) {
      added.push_back({.id = static_cast<TokenId>(i), .control = kinds[i] == TokenKind::control});
    }
  }
  return added;
}

ByteBpeSettings byte_bpe_settings(const GgufFile& file) {
  const std::string_view name = file.string(kPretokenizer);
  if (name == "gpt-2") return {.pretokenizer = Pretokenizer::gpt2};
  if (name == "smollm") return {.pretokenizer = Pretokenizer::smollm};
  if (name == "qwen2") return {.pretokenizer = Pretokenizer::qwen2};
  if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") {
    return {.pretokenizer = Pretokenizer::llama3, .ignore_merges = true};
  }
  fail(ErrorCode::unsupported, "{}: setting '{}' is '{}'; supported are gpt-2, smollm, llama-bpe, qwen2", file.path(),
       kPretokenizer, printable(name));
}

std::unique_ptr<const TokenModel> read_byte_bpe(const GgufFile& file, const Tokenizer::Parts& parts,
                                                const ByteBpeSettings& settings) {
  std::vector<MergeText> merges;
  merges.reserve(file.strings(kMerges).size());
  for (const std::string_view merge : file.strings(kMerges)) {
    // Tokens are written without spaces (byte_bpe.cc), so the one that is there parts the two.
    const std::size_t space = merge.find(' ');
    if (space == std::string_view::npos || merge.find(' ', space + 1) != std::string_view::npos) {
      fail_setting(file, kMerges, "element {}, '{}': expected two tokens and a space between them", merges.size(),
                   printable(merge));
    }
    merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return std::make_unique<ByteBpe>(parts.vocabulary, merges, settings,
                                   [&](std::size_t index, const std::string& reason) {
                                     fail_setting(file, kMerges, "element {} {}", index, reason);
                                   });
}

/// The byte tokens <0x00> to <0xFF>: all of them, or none.
std::array<TokenId, 256> read_byte_tokens(const GgufFile& file, const Vocabulary& vocabulary,
                                          const std::vector<TokenKind>& kinds) {
  std::array<TokenId, 256> byte_tokens{};
  byte_tokens.fill(-1);
  std::size_t found = 0;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const auto id = vocabulary.find(fmt::format("<0x{:02X}>", byte));
    if (!id || kinds[static_cast<std::size_t>(*id)] != TokenKind::byte) continue;
    byte_tokens[byte] = *id;
    ++found;
  }
  if (found != 0 && found != 256) {
    fail_setting(file, kTokens, "has {} of the 256 byte tokens <0x00> to <0xFF>; expected all or none", found);
  }
  return byte_tokens;
}

std::unique_ptr<const TokenModel> read_sentence_piece(const GgufFile& file, const Tokenizer::Parts& parts,
                                                      const std::vector<TokenKind>& kinds) {
  std::vector<double> scores = file.reals(kScores);
  if (scores.size() != kinds.size()) {
    fail_setting(file, kScores, "has {} elements; expected {}, one a token", scores.size(), kinds.size());
  }
  const SentencePieceSettings settings{
      .add_space_prefix = file.boolean_or("tokenizer.ggml.add_space_prefix", true),
      .unknown = read_id(file, "tokenizer.ggml.unknown_token_id", parts.vocabulary->size()).value_or(0)};
  return std::make_unique<SentencePiece>(parts.vocabulary, std::move(scores), kinds,
                                         read_byte_tokens(file, *parts.vocabulary, kinds), settings);
}

}  // namespace

std::unique_ptr<const Tokenizer> load_tokenizer(const GgufFile& file) {
  constexpr std::string_view kKind = "tokenizer.ggml.model";
  if (!file.has(kKind) && file.has(kTokenizerJsonKey)) {
    return load_tokenizer_json_text(file.string(kTokenizerJsonKey), file.path());
  }
  const std::string_view kind = file.string(kKind);
  if (kind != "gpt2" && kind != "llama") {
    fail(ErrorCode::unsupported, "{}: setting 'tokenizer.ggml.model' is '{}'; supported are gpt2, llama", file.path(),
         printable(kind));
  }
  Tokenizer::Parts parts;
  parts.vocabulary = read_vocabulary(file);
  const std::vector<TokenKind> kinds = read_kinds(file, parts.vocabulary->size());
  parts.added = added_tokens(kinds);
  if (kind == "gpt2") {
    const ByteBpeSettings settings = byte_bpe_settings(file);
    read_ends(file, settings.pretokenizer == Pretokenizer::llama3, parts);
    parts.model = read_byte_bpe(file, parts, settings);
  } else {
    read_ends(file, true, parts);
    parts.model = read_sentence_piece(file, parts, kinds);
  }
  return std::make_unique<Tokenizer>(std::move(parts));
}

}  // namespace tilewise::io
