// What a kind of tokenizer does with text, and with tokens.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/tokenizer/utf8.h"
#include "io/tokenizer/vocabulary.h"

namespace tilewise::io {

/// Byte-level BPE, WordPiece, SentencePiece's BPE. Constant; threads may share it.
class TokenModel {
 public:
  virtual ~TokenModel() = default;

  /// Appends the tokens of valid UTF-8 that holds no added token and is not empty. `begins`: no text stands before it,
  /// or a control token does.
  virtual void encode(std::string_view text, bool begins, std::vector<TokenId>& ids) const = 0;

  /// The bytes that a token adds to a text. `first`: it stands at its beginning.
  virtual std::string bytes(TokenId id, bool first) const = 0;

  virtual Replacement replacement() const = 0;
};

}  // namespace tilewise::io
