// The words, numbers and symbols of a text, and a cursor that walks them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "variant/text/source.h"

namespace tilewise::variant {

struct Token {
  enum class Kind : std::uint8_t { end, name, number, symbol };
  Kind kind = Kind::end;
  bool is_real = false;     // a number with a point or an exponent
  std::string_view text{};  // as it stands; empty at the end
  std::size_t place = 0;    // of its first byte
  double value = 0;         // of a number

  bool is(std::string_view word) const { return kind != Kind::end && text == word; }
};

/// A number with its sign.
struct Number {
  bool is_real = false;
  double value = 0;
  std::size_t place = 0;
};

/// Texts are at most this long: a variant is a page of mathematics, and what is longer is data.
inline constexpr std::size_t kMaxText = std::size_t{1} << 20;

/// A text as tokens, with a cursor. All that goes wrong throws Error(parse) with the place.
class Lexer {
 public:
  explicit Lexer(std::string_view text);

  const Source& source() const { return source_; }

  /// The next token, or one after it; the end goes on for ever.
  const Token& peek(std::size_t ahead = 0) const;
  Token take();

  /// Takes the next token if it reads like this.
  bool take_if(std::string_view word);

  /// Takes the next token, which must read like this; `expected` says in the message what could have stood here.
  Token expect(std::string_view word, std::string_view expected);
  Token expect_name(std::string_view expected);

  /// A number, inf or nan, with an optional minus.
  Number expect_number(std::string_view expected);
  bool number_is_next(std::size_t ahead = 0) const;

  /// A number that must be an int32.
  std::int32_t expect_int(std::string_view expected);
  std::int32_t as_int(const Number& number) const;

  /// The text between two places.
  std::string_view text(std::size_t begin, std::size_t end) const { return source_.text().substr(begin, end - begin); }

  /// Throws "expected <expected>, found <the next token>".
  [[noreturn]] void fail_expected(std::string_view expected) const;
  [[noreturn]] void fail(const Token& token, std::string_view message) const { source_.fail(token.place, message); }

 private:
  Token number_at(std::size_t place) const;
  Token symbol_at(std::size_t place) const;

  Source source_;
  std::vector<Token> tokens_;  // the last one is the end
  std::size_t next_ = 0;
};

}  // namespace tilewise::variant
