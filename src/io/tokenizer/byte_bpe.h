// Byte-level BPE: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019); Sennrich et al.,
// "Neural Machine Translation of Rare Words with Subword Units" (2016).
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "io/tokenizer/merge.h"
#include "io/tokenizer/pretokenizer.h"
#include "io/tokenizer/token_model.h"

namespace tilewise::io {

struct ByteBpeSettings {
  Pretokenizer pretokenizer = Pretokenizer::gpt2;
  bool add_prefix_space = false;  ///< A space before a text that has none. gpt2 only.
  bool ignore_merges = false;     ///< A piece that is a token stays whole, whatever the merges say.
  bool nfc = false;               ///< Normal form C first.
  TokenId unknown = -1;           ///< For bytes without a token; -1: those are left out.
};

/// Two tokens to be merged, by text. Those earlier in the list go first.
using MergeText = std::pair<std::string_view, std::string_view>;

/// A vocabulary may lack tokens for some bytes (SmolLM's lacks most control characters). The reference leaves such
/// bytes out of the text, and so does this.
class ByteBpe : public TokenModel {
 public:
  /// Calls refuse(index, reason), which throws, on a merge whose parts or result are no tokens.
  ByteBpe(std::shared_ptr<const Vocabulary> vocabulary, const std::vector<MergeText>& merges,
          const ByteBpeSettings& settings, const std::function<void(std::size_t, const std::string&)>& refuse);

  void encode(std::string_view text, bool begins, std::vector<TokenId>& ids) const override;
  std::string bytes(TokenId id, bool first) const override;
  Replacement replacement() const override { return Replacement::maximal_part; }

 private:
  void encode_piece(std::string_view piece, std::vector<TokenId>& ids) const;
  std::optional<Merge> find_merge(TokenId left, TokenId right) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  ByteBpeSettings settings_;
  std::array<TokenId, 256> byte_tokens_{};           // -1: none
  std::unordered_map<std::uint64_t, Merge> merges_;  // by two numbers
};

}  // namespace tilewise::io
