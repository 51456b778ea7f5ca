// Tokenizer files small enough to read, with all 256 bytes and a few merges.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/gguf_writer.h"
#include "io/tokenizer/utf8.h"
#include "tests/io/temporary.h"

namespace tilewise::io {

/// A byte as GPT-2 writes it.
inline std::string byte_text(int byte) {
  int shifted = 0;
  for (int other = 0; other < byte; ++other) {
    const bool printable = (other >= '!' && other <= '~') || (other >= 0xA1 && other <= 0xAC) || other >= 0xAE;
    shifted += printable ? 0 : 1;
  }
  const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
  std::string text;
  append_utf8(static_cast<std::uint32_t>(printable ? byte : 0x100 + shifted), text);
  return text;
}

/// Tokens 0 to 255 are the bytes; then "he", "ll", "hell", "\xC4\xA0w" (a space and w), "<|end|>" (control), "[user]".
inline std::vector<std::string> small_tokens() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(byte_text(byte));
  for (const char* more : {"he", "ll", "hell", "\xC4\xA0w", "<|end|>", "[user]"}) tokens.emplace_back(more);
  return tokens;
}
constexpr std::int32_t kHell = 258, kSpaceW = 259, kEnd = 260, kUser = 261;

inline std::vector<std::string> small_merges() { return {"h e", "l l", "he ll", "\xC4\xA0 w"}; }

inline std::vector<std::string_view> views(const std::vector<std::string>& texts) {
  return {texts.begin(), texts.end()};
}

/// Settings of a GGUF file with that tokenizer. Their views refer to what is static.
inline GgufMetadata small_settings(const char* pretokenizer = "smollm") {
  static const std::vector<std::string> kTokens = small_tokens(), kMerges = small_merges();
  static const std::vector<std::int32_t> kKinds = [] {
    std::vector<std::int32_t> kinds(kTokens.size(), 1);
    kinds[kEnd] = 3;
    kinds[kUser] = 4;
    return kinds;
  }();
  return {{"tokenizer.ggml.model", GgufValue::of_string("gpt2")},
          {"tokenizer.ggml.pre", GgufValue::of_string(pretokenizer)},
          {"tokenizer.ggml.tokens", GgufValue::of_strings(views(kTokens))},
          {"tokenizer.ggml.token_type", GgufValue::of_int32s(kKinds)},
          {"tokenizer.ggml.merges", GgufValue::of_strings(views(kMerges))},
          {"tokenizer.ggml.eos_token_id", GgufValue::of_uint32(kEnd)}};
}

/// SentencePiece's: <unk> and <s>, the bytes, and a few pieces.
inline GgufMetadata small_sentence_piece() {
  static const std::vector<std::string> kTokens = [] {
    std::vector<std::string> tokens{"<unk>", "<s>"};
    for (int byte = 0; byte < 256; ++byte) tokens.push_back(fmt::format("<0x{:02X}>", byte));
    for (const char* more : {"\xE2\x96\x81", "a", "b", "ab",
                             "\xE2\x96\x81"
                             "ab"}) {
      tokens.emplace_back(more);
    }
    return tokens;
  }();
  static const std::vector<std::int32_t> kKinds = [] {
    std::vector<std::int32_t> kinds(kTokens.size(), 1);
    kinds[0] = 2, kinds[1] = 3;
    std::fill_n(kinds.begin() + 2, 256, 6);
    return kinds;
  }();
  static const std::vector<float> kScores = [] {
    std::vector<float> scores(kTokens.size(), 0.0F);
    for (std::size_t i = 258; i < scores.size(); ++i) scores[i] = -static_cast<float>(i);
    return scores;
  }();
  return {{"tokenizer.ggml.model", GgufValue::of_string("llama")},
          {"tokenizer.ggml.tokens", GgufValue::of_strings(views(kTokens))},
          {"tokenizer.ggml.token_type", GgufValue::of_int32s(kKinds)},
          {"tokenizer.ggml.scores", GgufValue::of_floats(kScores)},
          {"tokenizer.ggml.bos_token_id", GgufValue::of_uint32(1)}};
}

/// A tokenizer.json of byte-level BPE.
inline nlohmann::ordered_json small_json() {
  nlohmann::ordered_json vocab;
  const std::vector<std::string> tokens = small_tokens();
  for (std::size_t i = 0; i < kEnd; ++i) vocab[tokens[i]] = i;
  return {{"version", "1.0"},
          {"added_tokens",
           {{{"id", kEnd}, {"content", "<|end|>"}, {"special", true}, {"normalized", false}},
            {{"id", kUser}, {"content", "[user]"}, {"special", false}, {"rstrip", true}, {"lstrip", true}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", nullptr},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", small_merges()}}}};
}

/// A tokenizer.json of BERT's.
inline nlohmann::ordered_json small_word_piece() {
  return {{"added_tokens", {{{"id", 1}, {"content", "[CLS]"}, {"special", true}, {"normalized", false}}}},
          {"normalizer", {{"type", "BertNormalizer"}, {"lowercase", true}}},
          {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single", {{{"SpecialToken", {{"id", "[CLS]"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}}}}}},
            {"special_tokens", {{"[CLS]", {{"ids", {1}}}}}}}},
          {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
          {"model",
           {{"type", "WordPiece"},
            {"unk_token", "[UNK]"},
            {"continuing_subword_prefix", "##"},
            {"max_input_chars_per_word", 100},
            {"vocab", {{"[UNK]", 0}, {"[CLS]", 1}, {"play", 2}, {"##ing", 3}, {"!", 4}, {"resume", 5}}}}}};
}

}  // namespace tilewise::io
