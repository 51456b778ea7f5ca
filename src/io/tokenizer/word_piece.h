// WordPiece as BERT has it: Devlin et al., "BERT" (2019); Schuster and Nakajima, "Japanese and Korean Voice Search"
// (2012).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/tokenizer/token_model.h"

namespace tilewise::io {

struct WordPieceSettings {
  bool clean_text = true;            ///< Drops control characters; every space becomes ' '.
  bool handle_chinese_chars = true;  ///< Each ideograph is a word.
  bool strip_accents = true;
  bool lowercase = true;
  std::int64_t most_characters = 100;  ///< Longer words are unknown.
  std::string continuing = "##";       ///< Before a token that continues a word.
  bool cleanup = true;                 ///< Decoding joins punctuation and English contractions to the word before.
};

/// BERT's normaliser: text as the words are looked for in.
std::string bert_normalized(std::string_view text, const WordPieceSettings& settings);

class WordPiece : public TokenModel {
 public:
  WordPiece(std::shared_ptr<const Vocabulary> vocabulary, TokenId unknown, WordPieceSettings settings);

  void encode(std::string_view text, bool begins, std::vector<TokenId>& ids) const override;
  std::string bytes(TokenId id, bool first) const override;
  Replacement replacement() const override { return Replacement::maximal_part; }

 private:
  /// The longest token from the word's beginning, again and again; all of it is unknown where that ends too early.
  void encode_word(std::string_view word, std::vector<TokenId>& ids) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  TokenId unknown_;
  WordPieceSettings settings_;
};

}  // namespace tilewise::io
