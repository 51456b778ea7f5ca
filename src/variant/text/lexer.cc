#include "variant/text/lexer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "core/fail.h"
#include "variant/text/words.h"

namespace tilewise::variant {
namespace {

// Not those of <cctype>, which follow the locale.
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/// What people write who think in another language, and what it is called here.
using Translation = std::pair<std::string_view, std::string_view>;
constexpr auto kForeign =
    std::to_array<Translation>({{"&&", "and"}, {"||", "or"}, {"<>", "!="}, {"!", "not"}, {"{", "("}, {"}", ")"}});

}  // namespace

Lexer::Lexer(std::string_view text) : source_(text) {
  if (text.size() > kMaxText)
    source_.fail(kMaxText, fmt::format("the text has {} bytes, expected at most {}", text.size(), kMaxText));
  for (std::size_t place = 0; place < text.size();) {
    const char c = text[place];
    if (is_space(c)) {
      ++place;
      continue;
    }
    Token token;
    if (is_letter(c)) {
      const auto end = std::find_if_not(text.begin() + static_cast<std::ptrdiff_t>(place), text.end(),
                                        [](char letter) { return is_letter(letter) || is_digit(letter); });
      const auto size = static_cast<std::size_t>(end - text.begin()) - place;
      token = {.kind = Token::Kind::name, .text = text.substr(place, size), .place = place};
    } else {
      const bool is_number = is_digit(c) || (c == '.' && place + 1 < text.size() && is_digit(text[place + 1]));
      token = is_number ? number_at(place) : symbol_at(place);
    }
    tokens_.push_back(token);
    place += token.text.size();
  }
  tokens_.push_back({.place = text.size()});
}

Token Lexer::number_at(std::size_t place) const {
  const std::string_view rest = source_.text().substr(place);
  Token token{.kind = Token::Kind::number, .place = place};
  const auto [end, failure] = std::from_chars(rest.data(), rest.data() + rest.size(), token.value);
  token.text = rest.substr(0, static_cast<std::size_t>(end - rest.data()));
  token.is_real = token.text.find_first_of(".eE") != std::string_view::npos;
  if (failure != std::errc()) source_.fail(place, "the number is too large or too small for float64");
  if (token.text.size() < rest.size() && (is_letter(rest[token.text.size()]) || rest[token.text.size()] == '.'))
    source_.fail(place + token.text.size(), "expected the number to end here, or a space");
  return token;
}

Token Lexer::symbol_at(std::size_t place) const {
  const std::string_view rest = source_.text().substr(place);
  for (const auto& [foreign, here] : kForeign) {
    if (rest.starts_with(foreign) && !rest.starts_with("!="))
      source_.fail(place, fmt::format("'{}' is not used here; write '{}'", foreign, here));
  }
  for (std::string_view symbol : symbols()) {
    if (rest.starts_with(symbol))
      return {.kind = Token::Kind::symbol, .text = rest.substr(0, symbol.size()), .place = place};
  }
  const auto byte = static_cast<unsigned char>(rest[0]);
  if (byte > ' ' && byte <= '~') source_.fail(place, fmt::format("the character '{}' has no meaning here", rest[0]));
  source_.fail(place, fmt::format("the byte 0x{:02x} has no meaning here, expected ASCII text", byte));
}

const Token& Lexer::peek(std::size_t ahead) const { return tokens_[std::min(next_ + ahead, tokens_.size() - 1)]; }

Token Lexer::take() {
  const Token token = peek();
  if (token.kind != Token::Kind::end) ++next_;
  return token;
}

bool Lexer::take_if(std::string_view word) {
  if (!peek().is(word)) return false;
  take();
  return true;
}

Token Lexer::expect(std::string_view word, std::string_view expected) {
  if (!peek().is(word)) fail_expected(expected);
  return take();
}

Token Lexer::expect_name(std::string_view expected) {
  if (peek().kind != Token::Kind::name) fail_expected(expected);
  return take();
}

bool Lexer::number_is_next(std::size_t ahead) const {
  return peek(ahead).kind == Token::Kind::number || peek(ahead).is("inf") || peek(ahead).is("nan");
}

Number Lexer::expect_number(std::string_view expected) {
  if (!number_is_next(peek().is("-") ? 1 : 0)) fail_expected(expected);
  Number number{.place = peek().place};
  const double sign = take_if("-") ? -1 : 1;
  const Token token = take();
  number.is_real = token.is_real || token.kind == Token::Kind::name;
  const double magnitude = token.is("inf")   ? std::numeric_limits<double>::infinity()
                           : token.is("nan") ? std::numeric_limits<double>::quiet_NaN()
                                             : token.value;
  number.value = sign * magnitude;
  return number;
}

std::int32_t Lexer::expect_int(std::string_view expected) { return as_int(expect_number(expected)); }

std::int32_t Lexer::as_int(const Number& number) const {
  if (number.is_real) source_.fail(number.place, fmt::format("{} is a real, expected an int", number.value));
  using Limits = std::numeric_limits<std::int32_t>;
  if (number.value < Limits::min() || number.value > Limits::max()) {
    source_.fail(number.place, fmt::format("the int {:.0f} does not fit int32; expected {} to {}, or a real: {:.1f}",
                                           number.value, Limits::min(), Limits::max(), number.value));
  }
  return static_cast<std::int32_t>(number.value);
}

void Lexer::fail_expected(std::string_view expected) const {
  const Token& found = peek();
  if (found.kind == Token::Kind::end) fail(found, fmt::format("expected {}, found the end of the text", expected));
  constexpr std::size_t kShown = 40;
  const std::string_view ellipsis = found.text.size() > kShown ? "..." : "";
  fail(found, fmt::format("expected {}, found '{}{}'", expected, found.text.substr(0, kShown), ellipsis));
}

}  // namespace tilewise::variant
