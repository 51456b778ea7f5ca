// Text to tokens and back.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf.h"
#include "io/tokenizer/token_model.h"
#include "io/tokenizer/utf8.h"
#include "io/tokenizer/vocabulary.h"

namespace tilewise::io {

struct EncodeOptions {
  bool add_special = true;     ///< What the file puts around a text: [CLS] and [SEP], or a token for its beginning.
  bool parse_control = false;  ///< Read "<|im_start|>" in the text as that token. Only for text that we wrote: in a
                               ///< user's it would let him speak as the system does.
};

/// A token that is found in the text before anything else happens to it.
struct AddedToken {
  TokenId id = 0;
  bool control = false;     ///< Not text: found only with parse_control, left out by decoding.
  bool left_strip = false;  ///< Takes the white space before it along.
  bool right_strip = false;
};

/// A tokenizer as a model's file describes it. Constant; threads may share it.
///
/// Bytes that are no UTF-8 read as U+FFFD, as the reference tokenizers have it (utf8.h).
class Tokenizer {
 public:
  struct Parts {
    std::shared_ptr<const Vocabulary> vocabulary{};
    std::unique_ptr<const TokenModel> model{};
    std::vector<AddedToken> added{};
    std::vector<TokenId> before{}, behind{};  ///< What add_special puts around a text.
    std::optional<TokenId> begin{}, end{};    ///< What the file says begins and ends a text.
  };
  explicit Tokenizer(Parts parts);

  /// The tokens of a text; neither cut off nor padded.
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const;

  /// The text of tokens, without control tokens unless asked for: what a Detokenizer gives. Throws
  /// Error(invalid_argument) on a number that is no token.
  std::string decode(std::span<const TokenId> ids, bool with_control = false) const;

  /// One above the largest number; gaps are no tokens.
  std::int64_t size() const { return parts_.vocabulary->size(); }
  bool has(TokenId id) const { return parts_.vocabulary->has(id); }
  bool is_control(TokenId id) const { return control_[static_cast<std::size_t>(id)]; }

  /// A token as the file writes it; nullopt where no token is written so.
  const std::string& text(TokenId id) const { return parts_.vocabulary->text(id); }
  std::optional<TokenId> find(std::string_view text) const { return parts_.vocabulary->find(text); }

  std::optional<TokenId> begin_token() const { return parts_.begin; }
  std::optional<TokenId> end_token() const { return parts_.end; }

  const TokenModel& model() const { return *parts_.model; }

 private:
  struct Found {
    std::size_t begin, end;  // bytes
    const AddedToken* token;
  };
  /// The leftmost added token from `at` on, the longest of those.
  std::optional<Found> find_added(std::string_view text, std::size_t at, bool parse_control) const;

  Parts parts_;
  std::array<std::vector<std::size_t>, 256> added_by_first_;  // indices, by first byte, the longest first
  std::vector<bool> control_;                                 // [tokens]
};

/// Text as tokens come: never half a character. All that add() and finish() return together is decode()'s text.
class Detokenizer {
 public:
  /// The tokenizer must outlive it.
  explicit Detokenizer(const Tokenizer& tokenizer, bool with_control = false);

  /// The characters that this token completes, perhaps none. Throws Error(invalid_argument) on a number that is none.
  std::string add(TokenId id);

  /// The rest: U+FFFD for bytes that no character came of.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool with_control_;
  bool first_ = true;
  Utf8Stream stream_;
};

/// The tokenizer of a GGUF file: kinds "gpt2" (pre-tokenizers gpt-2, smollm, llama-bpe, qwen2) and "llama"; of a file
/// that names no kind, the tokenizer.json in its setting kTokenizerJsonKey. Throws Error(parse) naming file and setting
/// where something is missing or contradictory, Error(unsupported) on other kinds.
std::unique_ptr<const Tokenizer> load_tokenizer(const GgufFile& file);

/// That of a tokenizer.json: models BPE (byte-level, with the same pre-tokenizers) and WordPiece with BERT's
/// normaliser. Truncation and padding, which it may describe too, are the caller's. Throws as above, naming the place
/// in the file.
std::unique_ptr<const Tokenizer> load_tokenizer_json(const std::string& path);

/// Likewise, of the text of such a file; `path` is for messages.
std::unique_ptr<const Tokenizer> load_tokenizer_json_text(std::string_view text, const std::string& path);

/// Where GGUF keeps the whole text of a tokenizer.json (ggml's documentation of GGUF).
inline constexpr std::string_view kTokenizerJsonKey = "tokenizer.huggingface.json";

}  // namespace tilewise::io
