#include "tilewise/error.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "core/fail.h"

namespace tilewise {
namespace {

TEST(Error, CodesReadAsTheyAreSpelled) {
  EXPECT_STREQ(to_string(ErrorCode::invalid_argument), "invalid_argument");
  EXPECT_STREQ(to_string(ErrorCode::parse), "parse");
  EXPECT_STREQ(to_string(ErrorCode::unsupported), "unsupported");
  EXPECT_STREQ(to_string(ErrorCode::out_of_memory), "out_of_memory");
  EXPECT_STREQ(to_string(ErrorCode::io), "io");
  EXPECT_STREQ(to_string(ErrorCode::device), "device");
}

TEST(Error, ACodeOutsideTheEnumerationHasANameToo) { EXPECT_STREQ(to_string(static_cast<ErrorCode>(1000)), "unknown"); }

TEST(Error, FailFormatsItsMessageAndKeepsItsCode) {
  try {
    fail(ErrorCode::io, "file '{}': expected {} bytes, found {}", "weights.npy", 80, 12);
    FAIL() << "fail() returned";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::io);
    EXPECT_STREQ(error.what(), "file 'weights.npy': expected 80 bytes, found 12");
  }
}

TEST(Error, FailArgumentIsAnInvalidArgument) {
  try {
    fail_argument("s_q = {}: expected 0 or more", -1);
    FAIL() << "fail_argument() returned";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_STREQ(error.what(), "s_q = -1: expected 0 or more");
  }
}

TEST(Error, IsCaughtAsAStandardException) { EXPECT_THROW(fail_argument("any"), std::runtime_error); }

}  // namespace
}  // namespace tilewise
