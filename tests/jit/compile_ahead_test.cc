#include "jit/compile_ahead.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/jit/support.h"

namespace tilewise::jit {
namespace {

DiskCacheOptions in(const TemporaryFolder& folder) {
  DiskCacheOptions options;
  options.folder = folder.path();
  return options;
}

TEST(CompileAhead, CompilesSideBySideWhatIsAskedForLater) {
  const TemporaryFolder folder;
  std::atomic<int> inside = 0, compiled = 0;
  Compiler compiler({[] { return std::string("nvrtc-13.0"); },
                     [&](const Program& program) {
                       ++inside;
                       // Who compiles waits for the other one; long before the end of this, or never.
                       for (int i = 0; i < 2000 && inside < 2; ++i)
                         std::this_thread::sleep_for(std::chrono::milliseconds(10));
                       EXPECT_EQ(inside, 2) << "programs were compiled one after another";
                       ++compiled;
                       return made_up_binary(program.source, "nvrtc-13.0");
                     }},
                    in(folder));
  {
    const CompileAhead ahead(compiler, {[] { return small_program("a"); }, [] { return small_program("b"); }});
    EXPECT_EQ(compiler.get(small_program("b"))->cubin, small_program("b").source);
  }
  EXPECT_EQ(compiler.get(small_program("a"))->cubin, small_program("a").source);
  EXPECT_EQ(compiled, 2);
}

TEST(CompileAhead, LeavesFailuresToWhoAsks) {
  const TemporaryFolder folder;
  Compiler compiler({[] { return std::string("nvrtc-13.0"); },
                     [](const Program&) -> Binary { throw Error(ErrorCode::device, "no room"); }},
                    in(folder));
  {
    const CompileAhead ahead(compiler, {[] { return small_program(); },
                                        []() -> Program { throw Error(ErrorCode::unsupported, "not that shape"); }});
  }
  EXPECT_THROW(compiler.get(small_program()), Error);
}

}  // namespace
}  // namespace tilewise::jit
