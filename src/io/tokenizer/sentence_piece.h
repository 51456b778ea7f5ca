// SentencePiece's BPE: Kudo and Richardson, "SentencePiece" (2018), as Llama 2's and Mistral's files have it.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "io/tokenizer/merge.h"
#include "io/tokenizer/token_model.h"

namespace tilewise::io {

/// What a token is, by GGUF's numbers.
enum class TokenKind : std::int32_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

struct SentencePieceSettings {
  bool add_space_prefix = true;
  TokenId unknown = 0;
};

/// Spaces are written as U+2581. Neighbours whose text together is a token are merged, the highest score first; what
/// is left and no token is written as its bytes' tokens, or, where there are none, as the unknown token.
class SentencePiece : public TokenModel {
 public:
  SentencePiece(std::shared_ptr<const Vocabulary> vocabulary, std::vector<double> scores, std::vector<TokenKind> kinds,
                const std::array<TokenId, 256>& byte_tokens, const SentencePieceSettings& settings);

  void encode(std::string_view text, bool begins, std::vector<TokenId>& ids) const override;
  std::string bytes(TokenId id, bool first) const override;
  Replacement replacement() const override { return Replacement::each_byte; }

 private:
  /// The number of a text that merging may arrive at.
  std::optional<TokenId> find(std::string_view text) const;
  void append_unknown(std::string_view character, std::vector<TokenId>& ids) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<double> scores_;                           // [tokens]
  std::vector<TokenKind> kinds_;                         // [tokens]
  std::array<TokenId, 256> byte_tokens_;                 // -1 in all: none
  std::unordered_map<TokenId, unsigned char> bytes_of_;  // of byte tokens
  SentencePieceSettings settings_;
};

}  // namespace tilewise::io
