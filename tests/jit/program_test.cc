#include "jit/program.h"

#include <gtest/gtest.h>

#include "tests/jit/support.h"
#include "tests/refusal.h"

namespace tilewise::jit {
namespace {

std::vector<std::string> names_used(const Program& program) {
  std::vector<std::string> names;
  for (const Header* header : headers_used(program)) names.push_back(header->name);
  return names;
}

std::string refusal(const Program& program) {
  return tilewise::refusal([&] {
    validate(program);
    headers_used(program);
  });
}

Program including(const std::string& source, std::vector<Header> headers) {
  Program program = small_program();
  program.source = source;
  program.headers = std::move(headers);
  return program;
}

TEST(Program, HeadersAreFollowedThroughHeadersAndCountOnce) {
  const Program program =
      including("#include \"b.h\"\n  #  include <c/d.h>\nint x;", {{"unused.h", ""},
                                                                   {"c/d.h", "#include \"b.h\""},
                                                                   {"b.h", "int y;\n#include \"a.h\"\n"},
                                                                   {"a.h", "#include \"b.h\"\n"}});
  EXPECT_EQ(names_used(program), (std::vector<std::string>{"a.h", "b.h", "c/d.h"}));
}

TEST(Program, AWordThatOnlyLooksLikeAnIncludeIsNone) {
  EXPECT_TRUE(names_used(including("// #include \"a.h\"\nint include; #define include\n", {})).empty());
}

TEST(Program, AnIncludeThatIsNotOnOfferIsRefusedWithItsLine) {
  const std::string message = refusal(including("\n#include <cuda_bf16.h>\n", {{"a.h", ""}, {"b.h", ""}}));
  EXPECT_NE(message.find("add_one.cu(2)"), std::string::npos) << message;
  EXPECT_NE(message.find("\"cuda_bf16.h\""), std::string::npos) << message;
  EXPECT_NE(message.find("(a.h, b.h)"), std::string::npos) << message;
}

TEST(Program, AnIncludeWithoutALiteralNameIsRefused) {
  EXPECT_NE(refusal(including("#include HEADER\n", {{"a.h", ""}})), "");
  EXPECT_NE(refusal(including("#include \"a.h\n", {{"a.h", ""}})), "");
}

TEST(Program, TwoHeadersOfOneNameAreRefused) { EXPECT_NE(refusal(including("", {{"a.h", "1"}, {"a.h", "2"}})), ""); }

TEST(Program, KernelsAreNeeded) {
  Program program = small_program();
  program.kernels.clear();
  EXPECT_NE(refusal(program).find("kernels"), std::string::npos);
}

TEST(Program, OptionsThatReachOutsideOfTheProgramAreRefused) {
  for (const char* option : {"-I/usr/include", "--include-path=/usr/include", "-include=x.h", "--pre-include=x.h",
                             "-arch=sm_70", "--gpu-architecture=sm_70"}) {
    Program program = small_program();
    program.options.push_back(option);
    EXPECT_NE(refusal(program).find(option), std::string::npos) << option;
  }
  Program program = small_program();
  program.options = {"--use_fast_math", "-DN=4", "--maxrregcount=32"};
  EXPECT_EQ(refusal(program), "");
}

TEST(Binary, AnUnknownKernelIsRefusedWithThoseThereAre) {
  const Binary binary = made_up_binary("code");
  EXPECT_EQ(binary.kernel("other").symbol, "other");
  expect_refused([&] { binary.kernel("add_two"); }, {"add_one, other"});
}

}  // namespace
}  // namespace tilewise::jit
