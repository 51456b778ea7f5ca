// Errors in tests: the code, and that the message says which value, what was expected and where.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "tilewise/error.h"

namespace tilewise {

/// Expects Error(invalid_argument) whose message holds every one of the parts.
template <class Function>
void expect_refused(Function function, std::initializer_list<std::string> parts) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    for (const std::string& part : parts) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
          << "'" << part << "' is not in: " << error.what();
    }
    return;
  }
  ADD_FAILURE() << "nothing was refused; expected an error about " << *parts.begin();
}

}  // namespace tilewise
