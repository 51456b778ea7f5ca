#include "jit/key.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <functional>

#include "tests/jit/support.h"

namespace tilewise::jit {
namespace {

TEST(Key, IsTheSameOnEveryMachineAndInEveryVersion) {
  // From Python, apart from this code: xxhash.xxh3_128_hexdigest over the fields as key_of's comment lists them, each
  // string after its length and each list after its count, both struct.pack("<Q", n).
  EXPECT_EQ(key_of(small_program("golden")).hex(), "ba805c4737bfe6e75154f02eb149141a");
}

TEST(Key, EveryPartOfTheContentCounts) {
  const std::vector<std::function<void(Program&)>> edits = {
      [](Program& p) { p.source += " "; },
      [](Program& p) { p.name = "add_two.cu"; },
      [](Program& p) { p.headers[0].text += "\n"; },
      [](Program& p) { p.options.push_back("--use_fast_math"); },
      [](Program& p) { p.options = {"--std=c++20"}; },
      [](Program& p) { p.options.clear(); },
      [](Program& p) { p.architecture = Architecture::parse("sm_90"); },
      [](Program& p) { p.architecture = Architecture::parse("sm_90a"); },
      [](Program& p) { p.kernels.push_back("other"); },
      // The same text, divided otherwise.
      [](Program& p) { p.kernels = p.options, p.options = {"add_one"}; },
      [](Program& p) {
        p.options = {"--std=", "c++17"};
      },
  };
  std::vector<Key> keys = {key_of(small_program())};
  for (const auto& edit : edits) {
    Program program = small_program();
    edit(program);
    keys.push_back(key_of(program));
  }
  std::sort(keys.begin(), keys.end());
  EXPECT_EQ(std::adjacent_find(keys.begin(), keys.end()), keys.end());
}

TEST(Key, WhatTheCodeDoesNotDependOnDoesNotCount) {
  const Key key = key_of(small_program());
  Program program = small_program();
  program.headers.insert(program.headers.begin(), {"unused.h", "int unused;"});
  program.places = {{"add_one.cu", 1, "here"}};
  EXPECT_EQ(key_of(program), key);
}

TEST(Key, TheOrderInWhichHeadersAreOfferedDoesNotCount) {
  Program program = small_program();
  program.source += "#include \"a.h\"\n";
  program.headers.push_back({"a.h", "int a;"});
  const Key key = key_of(program);
  std::swap(program.headers[0], program.headers[1]);
  EXPECT_EQ(key_of(program), key);
}

RC_GTEST_PROP(KeyLaw, AnyOtherTextGivesAnotherKey, (const std::string& text, const std::string& other)) {
  Program one = small_program(), two = small_program();
  one.options = {text};
  two.options = {other};
  RC_ASSERT((key_of(one) == key_of(two)) == (text == other));
}

}  // namespace
}  // namespace tilewise::jit
