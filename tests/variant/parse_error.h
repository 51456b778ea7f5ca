// Errors of texts: their message, and where their caret stands.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "tilewise/error.h"

namespace tilewise {

inline std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines(1);
  for (char c : text) {
    if (c == '\n')
      lines.emplace_back();
    else
      lines.back() += c;
  }
  return lines;
}

/// `read` throws Error(parse) at that column (from 1) of the text's only line: "variant, line 1, column 6: <message>",
/// the text, and a caret that stands under the column.
template <class Read>
void expect_parse_error(Read read, std::string_view text, std::size_t column, std::string_view message) {
  SCOPED_TRACE(text);
  try {
    read();
    ADD_FAILURE() << "expected an error: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::parse);
    const std::vector<std::string> lines = lines_of(error.what());
    ASSERT_EQ(lines.size(), 3u) << error.what();
    const std::string begin = "variant, line 1, column " + std::to_string(column) + ": " + std::string(message);
    EXPECT_EQ(lines[0].substr(0, begin.size()), begin) << error.what();
    EXPECT_EQ(lines[1], "  " + std::string(text));
    EXPECT_EQ(lines[2], std::string(column + 1, ' ') + "^") << error.what();
  }
}

}  // namespace tilewise
