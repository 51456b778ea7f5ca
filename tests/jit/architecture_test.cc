#include "jit/architecture.h"

#include <gtest/gtest.h>

#include "tilewise/error.h"

namespace tilewise::jit {
namespace {

TEST(Architecture, NamesReadBack) {
  for (const char* name : {"sm_80", "sm_89", "sm_90", "sm_90a", "sm_100", "sm_100f", "sm_120a"}) {
    EXPECT_EQ(Architecture::parse(name).name(), name);
  }
}

TEST(Architecture, OtherTextIsRefusedByName) {
  for (const char* name :
       {"", "sm_", "sm_9", "90a", "sm_90b", "sm_90a ", "sm_90aa", "compute_90", "sm_-80", "sm_99999"}) {
    try {
      Architecture::parse(name);
      FAIL() << name << " was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::parse);
      EXPECT_NE(std::string(error.what()).find("\"" + std::string(name) + "\""), std::string::npos) << error.what();
    }
  }
}

TEST(Architecture, OnlyHopperGetsItsOwnInstructions) {
  EXPECT_EQ(Architecture::of_compute_capability(8, 0).name(), "sm_80");
  EXPECT_EQ(Architecture::of_compute_capability(8, 9).name(), "sm_89");
  EXPECT_EQ(Architecture::of_compute_capability(9, 0).name(), "sm_90a");
  EXPECT_EQ(Architecture::of_compute_capability(10, 3).name(), "sm_103");
  EXPECT_EQ(Architecture::of_compute_capability(12, 0).name(), "sm_120");
}

}  // namespace
}  // namespace tilewise::jit
