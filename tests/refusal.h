// Errors in tests: the code, and that the message says which value, what was expected and where.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "tilewise/error.h"

namespace tilewise {

/// The message of the Error that a call throws, which has the code; empty where it throws none.
template <class Function>
[[nodiscard]] std::string refusal(Function function, ErrorCode code = ErrorCode::invalid_argument) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "";
}

/// Expects Error(invalid_argument) whose message holds every one of the parts.
template <class Function>
void expect_refused(Function function, std::initializer_list<std::string> parts) {
  const std::string message = refusal(function);
  EXPECT_FALSE(message.empty()) << "nothing was refused; expected an error about " << *parts.begin();
  for (const std::string& part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' is not in: " << message;
  }
}

}  // namespace tilewise
