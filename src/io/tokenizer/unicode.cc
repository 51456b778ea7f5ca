#include "io/tokenizer/unicode.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>
#include <new>

#include "io/tokenizer/utf8.h"

namespace tilewise::io {
namespace {

utf8proc_category_t category(std::uint32_t code) { return utf8proc_category(static_cast<utf8proc_int32_t>(code)); }

struct FreeMemory {
  void operator()(utf8proc_uint8_t* memory) const { std::free(memory); }
};

std::string mapped(std::string_view text, int options) {
  utf8proc_uint8_t* result = nullptr;
  const auto size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &result, static_cast<utf8proc_option_t>(options | UTF8PROC_STABLE));
  const std::unique_ptr<utf8proc_uint8_t, FreeMemory> owner(result);
  // The text is valid, so that only memory can be missing.
  if (size < 0) throw std::bad_alloc();
  return {reinterpret_cast<const char*>(result), static_cast<std::size_t>(size)};
}

}  // namespace

bool is_letter(std::uint32_t code) {
  if (code < 0x80) return (code | 0x20) >= 'a' && (code | 0x20) <= 'z';
  const auto found = category(code);
  return found >= UTF8PROC_CATEGORY_LU && found <= UTF8PROC_CATEGORY_LO;
}

bool is_number(std::uint32_t code) {
  if (code < 0x80) return code >= '0' && code <= '9';
  const auto found = category(code);
  return found >= UTF8PROC_CATEGORY_ND && found <= UTF8PROC_CATEGORY_NO;
}

bool is_white_space(std::uint32_t code) {
  if (code < 0x80) return code == ' ' || (code >= '\t' && code <= '\r');
  if (code == 0x85) return true;
  const auto found = category(code);
  return found >= UTF8PROC_CATEGORY_ZS && found <= UTF8PROC_CATEGORY_ZP;
}

void append_lower(std::uint32_t code, std::string& out) {
  constexpr std::uint32_t kCapitalIWithDot = 0x130, kDotAbove = 0x307;
  if (code == kCapitalIWithDot) {
    out += 'i';
    append_utf8(kDotAbove, out);
  } else {
    append_utf8(static_cast<std::uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))), out);
  }
}

std::string nfd(std::string_view text) { return mapped(text, UTF8PROC_DECOMPOSE); }
std::string nfc(std::string_view text) { return mapped(text, UTF8PROC_COMPOSE); }

}  // namespace tilewise::io
