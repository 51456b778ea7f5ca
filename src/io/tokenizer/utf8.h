// UTF-8 that may be broken, and the characters in it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tilewise::io {

/// What stands for bytes that are no UTF-8. The reference tokenizers differ, and their ids follow.
enum class Replacement {
  maximal_part,  ///< One U+FFFD for the longest run of bytes that could have begun a character (Unicode 15.0, 3.9,
                 ///< U+FFFD Substitution of Maximal Subparts), as Python and the Hugging Face tokenizers do.
  each_byte,     ///< One U+FFFD for each byte, as SentencePiece does.
};

/// Turns a stream of bytes into whole characters: bytes of an unfinished one are kept until they are complete or known
/// to be broken.
class Utf8Stream {
 public:
  explicit Utf8Stream(Replacement replacement) : replacement_(replacement) {}

  /// Appends to `out` the characters that these bytes complete.
  void add(std::string_view bytes, std::string& out);

  /// Nothing follows: appends the replacement of what is unfinished.
  void finish(std::string& out);

 private:
  void replace_pending(std::string& out);

  Replacement replacement_;
  std::string pending_;  // the valid beginning of a character: at most 3 bytes
};

/// The text with all that is broken replaced.
std::string valid_utf8(std::string_view bytes, Replacement replacement);

/// A character of valid UTF-8 and where it stands.
struct Character {
  std::uint32_t code = 0;
  std::uint32_t size = 0;  // bytes
};

/// The one that begins at byte `at` of valid UTF-8.
Character character_at(std::string_view text, std::size_t at);

/// The characters of valid UTF-8.
std::vector<Character> characters(std::string_view text);

/// Appends a code point as UTF-8.
void append_utf8(std::uint32_t code, std::string& out);

}  // namespace tilewise::io
