#include "io/tokenizer/utf8.h"

namespace tilewise::io {
namespace {

constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

/// Bytes of a character by its first byte; 0 where no character begins so.
std::size_t size_by_first(unsigned char first) {
  if (first < 0x80) return 1;
  if (first < 0xC2) return 0;  // a continuation, or an overlong form
  if (first < 0xE0) return 2;
  if (first < 0xF0) return 3;
  return first < 0xF5 ? 4 : 0;
}

/// Whether `next` may be the second byte behind `first`: no overlong forms, surrogates, or codes above U+10FFFF.
bool may_follow(unsigned char first, unsigned char next) {
  unsigned char least = 0x80, most = 0xBF;
  if (first == 0xE0) least = 0xA0;
  if (first == 0xED) most = 0x9F;
  if (first == 0xF0) least = 0x90;
  if (first == 0xF4) most = 0x8F;
  return next >= least && next <= most;
}

bool continues(std::string_view pending, unsigned char next) {
  const auto first = static_cast<unsigned char>(pending[0]);
  return pending.size() == 1 ? may_follow(first, next) : next >= 0x80 && next <= 0xBF;
}

}  // namespace

void Utf8Stream::replace_pending(std::string& out) {
  const std::size_t count = replacement_ == Replacement::each_byte ? pending_.size() : (pending_.empty() ? 0 : 1);
  for (std::size_t i = 0; i < count; ++i) out += kReplacementCharacter;
  pending_.clear();
}

void Utf8Stream::add(std::string_view bytes, std::string& out) {
  for (const char byte : bytes) {
    const auto value = static_cast<unsigned char>(byte);
    if (!pending_.empty() && !continues(pending_, value)) replace_pending(out);
    if (pending_.empty() && size_by_first(value) == 0) {
      out += kReplacementCharacter;
      continue;
    }
    pending_ += byte;
    if (pending_.size() == size_by_first(static_cast<unsigned char>(pending_[0]))) {
      out += pending_;
      pending_.clear();
    }
  }
}

void Utf8Stream::finish(std::string& out) { replace_pending(out); }

std::string valid_utf8(std::string_view bytes, Replacement replacement) {
  std::string text;
  text.reserve(bytes.size());
  Utf8Stream stream(replacement);
  stream.add(bytes, text);
  stream.finish(text);
  return text;
}

Character character_at(std::string_view text, std::size_t at) {
  const auto first = static_cast<unsigned char>(text[at]);
  const std::size_t size = size_by_first(first);
  std::uint32_t code = size == 1 ? first : first & (0x7Fu >> size);
  for (std::size_t i = 1; i < size; ++i) code = code << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3Fu);
  return {code, static_cast<std::uint32_t>(size)};
}

std::vector<Character> characters(std::string_view text) {
  std::vector<Character> found;
  found.reserve(text.size());
  for (std::size_t at = 0; at < text.size(); at += found.back().size) found.push_back(character_at(text, at));
  return found;
}

void append_utf8(std::uint32_t code, std::string& out) {
  const auto add = [&out](std::uint32_t byte) { out += static_cast<char>(byte); };
  const auto continuation = [code](int shift) { return 0x80u | (code >> shift & 0x3Fu); };
  if (code < 0x80) {
    add(code);
  } else if (code < 0x800) {
    add(0xC0u | code >> 6), add(continuation(0));
  } else if (code < 0x10000) {
    add(0xE0u | code >> 12), add(continuation(6)), add(continuation(0));
  } else {
    add(0xF0u | code >> 18), add(continuation(12)), add(continuation(6)), add(continuation(0));
  }
}

}  // namespace tilewise::io
