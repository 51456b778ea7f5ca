#include "io/tokenizer/pretokenizer.h"

#include <algorithm>
#include <cstdint>

#include "io/tokenizer/unicode.h"
#include "io/tokenizer/utf8.h"

namespace tilewise::io {
namespace {

enum class Class : std::uint8_t { letter, number, space, other };

Class class_of(std::uint32_t code) {
  if (is_letter(code)) return Class::letter;
  if (is_number(code)) return Class::number;
  return is_white_space(code) ? Class::space : Class::other;
}

struct Classified {
  std::uint32_t code;
  std::uint32_t size;  // bytes
  Class type;
};

/// Characters [0, size) of a text, to be cut as if nothing stood before or behind them.
class Matcher {
 public:
  Matcher(const Classified* characters, std::size_t size) : characters_(characters), size_(size) {}

  std::size_t size() const { return size_; }

  bool is(std::size_t at, Class type) const { return at < size_ && characters_[at].type == type; }
  bool is_code(std::size_t at, std::uint32_t code) const { return at < size_ && characters_[at].code == code; }
  bool is_line_end(std::size_t at) const { return is_code(at, '\n') || is_code(at, '\r'); }

  /// One behind the run of a class from `at` on.
  std::size_t run(std::size_t at, Class type) const {
    while (is(at, type)) ++at;
    return at;
  }

  /// 's|'t|'re|'ve|'m|'ll|'d: one behind it, or `at`.
  std::size_t contraction(std::size_t at, bool any_case) const {
    if (!is_code(at, '\'')) return at;
    const auto letter = [&](std::size_t place, std::uint32_t wanted) {
      if (is_code(place, wanted)) return true;
      // Case folding also takes U+017F, the long s, for an s.
      return any_case && (is_code(place, wanted - 0x20) || (wanted == 's' && is_code(place, 0x17F)));
    };
    for (const char one : {'s', 't', 'm', 'd'}) {
      if (letter(at + 1, static_cast<std::uint32_t>(one))) return at + 2;
    }
    for (const std::string_view two : {"re", "ve", "ll"}) {
      if (letter(at + 1, static_cast<std::uint32_t>(two[0])) && letter(at + 2, static_cast<std::uint32_t>(two[1]))) {
        return at + 3;
      }
    }
    return at;
  }

  /// \s+(?!\S)|\s+: a run of spaces, which leaves its last one to what follows.
  std::size_t spaces(std::size_t at) const {
    const std::size_t end = run(at, Class::space);
    return end < size_ && end - at > 1 ? end - 1 : end;
  }

 private:
  const Classified* characters_;  // [size]
  std::size_t size_;
};

std::size_t gpt2_piece(const Matcher& text, std::size_t at) {
  if (const std::size_t end = text.contraction(at, false); end > at) return end;
  const std::size_t behind_space = at + (text.is_code(at, ' ') ? 1 : 0);
  for (const Class type : {Class::letter, Class::number, Class::other}) {
    if (text.is(behind_space, type)) return text.run(behind_space, type);
  }
  return text.spaces(at);
}

std::size_t llama3_piece(const Matcher& text, std::size_t at, std::size_t most_digits) {
  if (const std::size_t end = text.contraction(at, true); end > at) return end;
  const bool may_lead = !text.is_line_end(at) && !text.is(at, Class::letter) && !text.is(at, Class::number);
  if (const std::size_t first = at + (may_lead ? 1 : 0); text.is(first, Class::letter)) {
    return text.run(first, Class::letter);
  }
  if (text.is(at, Class::number)) return std::min(text.run(at, Class::number), at + most_digits);
  if (const std::size_t first = at + (text.is_code(at, ' ') ? 1 : 0); text.is(first, Class::other)) {
    std::size_t end = text.run(first, Class::other);
    while (text.is_line_end(end)) ++end;
    return end;
  }
  // \s*[\r\n]+ reaches as far as the last line end of the run of spaces.
  std::size_t behind_line_end = text.run(at, Class::space);
  while (behind_line_end > at && !text.is_line_end(behind_line_end - 1)) --behind_line_end;
  return behind_line_end > at ? behind_line_end : text.spaces(at);
}

std::size_t piece(Pretokenizer pretokenizer, const Matcher& text, std::size_t at) {
  if (pretokenizer == Pretokenizer::llama3) return llama3_piece(text, at, 3);
  if (pretokenizer == Pretokenizer::qwen2) return llama3_piece(text, at, 1);
  return gpt2_piece(text, at);
}

}  // namespace

std::vector<std::string_view> pretokenize(Pretokenizer pretokenizer, std::string_view text) {
  std::vector<Classified> classified;
  for (const Character& character : characters(text)) {
    classified.push_back({character.code, character.size, class_of(character.code)});
  }
  std::vector<std::string_view> pieces;
  std::size_t offset = 0;  // in bytes
  const auto cut = [&](std::size_t first, std::size_t end) {
    std::size_t size = 0;
    for (std::size_t i = first; i < end; ++i) size += classified[i].size;
    pieces.push_back(text.substr(offset, size));
    offset += size;
  };
  for (std::size_t begin = 0; begin < classified.size();) {
    // A stretch that the expression sees alone: all, or with smollm what lies between numbers.
    std::size_t end = classified.size();
    if (pretokenizer == Pretokenizer::smollm) {
      end = begin;
      while (end < classified.size() && classified[end].type != Class::number) ++end;
      if (end == begin) {
        cut(begin, begin + 1);
        ++begin;
        continue;
      }
    }
    const Matcher stretch(classified.data() + begin, end - begin);
    for (std::size_t at = 0; at < stretch.size();) {
      const std::size_t next = piece(pretokenizer, stretch, at);
      cut(begin + at, begin + next);
      at = next;
    }
    begin = end;
  }
  return pieces;
}

}  // namespace tilewise::io
