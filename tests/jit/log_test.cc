#include "jit/log.h"

#include <gtest/gtest.h>

#include "jit/compile_error.h"
#include "tests/jit/support.h"

// The logs are what NVRTC 13.0 wrote for programs with these mistakes, and for two kernels of which one spills.
namespace tilewise::jit {
namespace {

using Severity = Diagnostic::Severity;

constexpr const char* kErrors =
    R"(variant.h(10): error: identifier "y" is undefined
  float score(float s) { int unused; return y; }
                                            ^

variant.h(10): warning #177-D: variable "unused" was declared but never referenced
  float score(float s) { int unused; return y; }
                             ^

Remark: The warnings can be suppressed with "-diag-suppress <warning-number>"

forward.cu(11): catastrophic error: cannot open source file "nope.h"
  #include "nope.h"
                   ^

 and 1 catastrophic error detected in the compilation of "forward.cu".
Compilation terminated.
)";

TEST(CompilerLog, ErrorsAndWarningsCarryFileLineAndPlace) {
  const std::vector<Place> places = {
      {"variant.h", 12, "stage 3"}, {"variant.h", 9, "stage 2 of the score"}, {"other.h", 10, "elsewhere"}};
  const std::vector<Diagnostic> diagnostics = parse_diagnostics(kErrors, places);
  ASSERT_EQ(diagnostics.size(), 3u);
  EXPECT_EQ(diagnostics[0].severity, Severity::error);
  EXPECT_EQ(diagnostics[0].file, "variant.h");
  EXPECT_EQ(diagnostics[0].line, 10);
  EXPECT_EQ(diagnostics[0].message, "identifier \"y\" is undefined");
  EXPECT_EQ(diagnostics[0].place, "stage 2 of the score");
  EXPECT_EQ(diagnostics[1].severity, Severity::warning);
  EXPECT_EQ(diagnostics[1].message, "variable \"unused\" was declared but never referenced");
  EXPECT_EQ(diagnostics[2].severity, Severity::error);
  EXPECT_EQ(diagnostics[2].file, "forward.cu");
  EXPECT_EQ(diagnostics[2].place, "");
}

TEST(CompilerLog, AnErrorInATemplateTakesThePlaceOfItsInstantiation) {
  const std::string log =
      "forward.cu(1): error: expression must have class type but it has type \"float\"\n"
      "  template<class T> __device__ T g(T x){ return x.y; }\n"
      "                                                ^\n"
      "          detected during instantiation of \"T g(T) [with T=float]\" at line 2 of w.h\n";
  EXPECT_EQ(parse_diagnostics(log, {{"w.h", 2, "the bias"}}).at(0).place, "the bias");
  EXPECT_EQ(parse_diagnostics(log, {{"w.h", 3, "the bias"}}).at(0).place, "");
  EXPECT_EQ(parse_diagnostics(log, {{"w.h", 2, "the bias"}, {"forward.cu", 1, "its own"}}).at(0).place, "its own");
}

TEST(CompilerLog, TheAssemblersErrorsAreErrors) {
  const std::vector<Diagnostic> diagnostics = parse_diagnostics(
      "ptxas application ptx input, line 27; error   : Unknown modifier '.bar'\n"
      "ptxas fatal   : Ptx assembly aborted due to errors\n"
      "nvrtc: error: invalid value for --gpu-architecture (-arch)\n",
      {});
  ASSERT_EQ(diagnostics.size(), 3u);
  for (const Diagnostic& diagnostic : diagnostics) EXPECT_EQ(diagnostic.severity, Severity::error);
  EXPECT_EQ(diagnostics[0].message, "Unknown modifier '.bar'");
  EXPECT_EQ(diagnostics[0].line, 0);
}

TEST(CompilerLog, SourceLinesOfAnyLengthAreRead) {
  const std::string source(1 << 20, 'x');
  const std::string log = "a.cu(7): error: " + source + "\n  " + source + "(\n" + source + "): error: odd\n";
  EXPECT_EQ(parse_diagnostics(log, {}).size(), 1u);
}

TEST(CompilerLog, ThePlaceIsTheLastOneBegun) {
  const std::vector<Place> places = {{"a.h", 5, "five"}, {"a.h", 1, "one"}, {"a.h", 9, ""}};
  const auto place = [&](const std::string& line) {
    return parse_diagnostics("a.h(" + line + "): error: e\n", places).at(0).place;
  };
  EXPECT_EQ(place("1"), "one");
  EXPECT_EQ(place("4"), "one");
  EXPECT_EQ(place("5"), "five");
  EXPECT_EQ(place("8"), "five");
  EXPECT_EQ(place("9"), "");
}

TEST(CompilerLog, ResourcesAreReadOfEachKernel) {
  const std::map<std::string, Resources> kernels = parse_resources(
      R"(ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z1kILi7EEvPf' for 'sm_80'
ptxas info    : Function properties for _Z1kILi7EEvPf
ptxas         .     1536 bytes stack frame, 2132 bytes spill stores, 2528 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 1536 bytes cumulative stack size, 4096 bytes smem, 360 bytes cmem[0]
ptxas info    : Compile time = 109.100 ms
ptxas info    : Compiling entry function 'v' for 'sm_80'
ptxas info    : Function properties for v
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers, 360 bytes cmem[0]
ptxas info    : Compile time = 1.901 ms
)");
  ASSERT_EQ(kernels.size(), 2u);
  EXPECT_EQ(kernels.at("_Z1kILi7EEvPf"), (Resources{32, 2132, 2528, 1536, 4096}));
  EXPECT_EQ(kernels.at("v"), (Resources{8, 0, 0, 0, 0}));
}

TEST(CompilerLog, OtherFunctionsPropertiesAreNotTheKernels) {
  const std::string kernel =
      "ptxas info    : Compiling entry function 'k' for 'sm_90a'\n"
      "ptxas info    : Function properties for k\n"
      "ptxas         .     200 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n";
  const std::string used =
      "ptxas info    : Used 32 registers, used 1 barriers, 200 bytes cumulative stack size, 16 bytes smem\n";
  const std::string helper =
      "ptxas info    : Function properties for _Z1hPfi\n"
      "ptxas         .     400 bytes stack frame, 40 bytes spill stores, 40 bytes spill loads\n";
  for (const std::string& log : {kernel + used + helper, kernel + helper + used, helper + kernel + used}) {
    const std::map<std::string, Resources> kernels = parse_resources(log);
    ASSERT_EQ(kernels.size(), 1u) << log;
    EXPECT_EQ(kernels.at("k"), (Resources{32, 0, 0, 200, 16})) << log;
  }
}

TEST(CompileError, SaysProgramArchitectureFirstErrorPlaceAndLog) {
  Program program = small_program();
  program.places = {{"variant.h", 1, "stage 2 of the score"}};
  const CompileError error = compile_error(program, "NVRTC 13.0", kErrors);
  EXPECT_EQ(error.code(), ErrorCode::device);
  const std::string message = error.what();
  EXPECT_EQ(message.find("add_one.cu does not compile for sm_80 with NVRTC 13.0: variant.h(10): identifier \"y\" is "
                         "undefined, in stage 2 of the score (2 errors in all)\n"),
            0u)
      << message;
  EXPECT_NE(message.find("nope.h"), std::string::npos);
  EXPECT_EQ(error.log(), kErrors);
  EXPECT_EQ(error.diagnostics().size(), 3u);
}

}  // namespace
}  // namespace tilewise::jit
