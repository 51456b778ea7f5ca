#include "variant/text/source.h"

#include <algorithm>

#include "core/fail.h"

namespace tilewise::variant {
namespace {

constexpr std::size_t kExcerpt = 96;  // bytes of a line that are shown: what fits a terminal of 100 columns

/// One printable ASCII character for each byte, so that the caret stands right and the message is valid in any
/// encoding.
std::string printable(std::string_view bytes) {
  std::string shown(bytes);
  std::replace(shown.begin(), shown.end(), '\t', ' ');
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return shown;
}

}  // namespace

void Source::fail(std::size_t place, std::string_view message) const {
  place = std::min(place, text_.size());
  const std::string_view before = text_.substr(0, place);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const std::size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0
  const std::size_t line_end = std::min(text_.find('\n', place), text_.size());
  const std::size_t column = place - line_begin;

  const std::size_t begin = line_begin + (column > kExcerpt * 3 / 4 ? column - kExcerpt / 2 : 0);
  const std::size_t end = std::min(line_end, begin + kExcerpt);
  const std::string_view cut_before = begin > line_begin ? "... " : "", cut_after = end < line_end ? " ..." : "";
  throw Error(ErrorCode::parse, fmt::format("variant, line {}, column {}: {}\n  {}{}{}\n  {:>{}}", line, column + 1,
                                            message, cut_before, printable(text_.substr(begin, end - begin)), cut_after,
                                            '^', cut_before.size() + place - begin + 1));
}

}  // namespace tilewise::variant
