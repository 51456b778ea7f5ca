#include "io/cursor.h"

#include <algorithm>
#include <string>

namespace tilewise::io {

std::string printable(std::string_view name) {
  constexpr std::size_t kMost = 64;
  std::string text(name.substr(0, kMost));
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return name.size() > kMost ? text + "..." : text;
}

}  // namespace tilewise::io
