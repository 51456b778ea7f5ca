// Cutting text into the pieces that byte-level BPE merges within.
#pragma once

#include <string_view>
#include <vector>

namespace tilewise::io {

/// How text is cut. Each is a regular expression of its model family, tried at each place in turn, leftmost first.
enum class Pretokenizer {
  gpt2,    ///< 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+   (Radford et al. 2019)
  smollm,  ///< Each \p{N} alone, and gpt2 on what lies between.
  llama3,  ///< (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
           ///< \s+(?!\S)|\s+   (Llama Team, "The Llama 3 Herd of Models", 2024; from tiktoken's cl100k)
  qwen2,   ///< llama3 with \p{N} for \p{N}{1,3}
};

/// The pieces of valid UTF-8, in order and without gaps; views into it.
std::vector<std::string_view> pretokenize(Pretokenizer pretokenizer, std::string_view text);

}  // namespace tilewise::io
