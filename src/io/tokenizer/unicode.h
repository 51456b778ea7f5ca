// What tokenizers ask of Unicode: classes, normal forms, lower case. By utf8proc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tilewise::io {

bool is_letter(std::uint32_t code);       ///< \p{L}
bool is_number(std::uint32_t code);       ///< \p{N}
bool is_white_space(std::uint32_t code);  ///< \s: the property White_Space

/// Simple lower case, and U+0130 as the two characters of its full one: no other character has a longer one.
void append_lower(std::uint32_t code, std::string& out);

/// Normal forms of valid UTF-8.
std::string nfd(std::string_view text);
std::string nfc(std::string_view text);

// ---- BERT's classes ----
//
// Those of the reference's tables, which are Unicode 8.0's (docs/decisions/unicode.md): what was assigned later is no
// control, punctuation or mark to it.

bool is_bert_control(std::uint32_t code);      ///< Cc, Cf, Co; but not tab, line feed and carriage return
bool is_bert_punctuation(std::uint32_t code);  ///< P, and all of ASCII's symbols
bool is_nonspacing_mark(std::uint32_t code);   ///< Mn

}  // namespace tilewise::io
