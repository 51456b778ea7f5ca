// Errors in a text: what is wrong, the line it is on, and a caret under the place.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "tilewise/error.h"

namespace tilewise::variant {

/// The text of a variant while it is read.
class Source {
 public:
  explicit Source(std::string_view text) : text_(text) {}

  std::string_view text() const { return text_; }

  /// Throws Error(parse): "variant, line 1, column 6: <message>", the line, and a caret under its byte `place`.
  [[noreturn]] void fail(std::size_t place, std::string_view message) const;

  /// Calls `function`; an Error that it throws is thrown on as one of this place.
  template <class Function>
  auto at(std::size_t place, Function function) const -> decltype(function()) {
    try {
      return function();
    } catch (const Error& error) {
      fail(place, error.what());
    }
  }

 private:
  std::string_view text_;
};

}  // namespace tilewise::variant
