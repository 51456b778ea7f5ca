#include "jit/compiler.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "jit/compile_error.h"
#include "tests/jit/support.h"

namespace tilewise::jit {
namespace {

// A backend that counts, and makes of a program a binary with its source as code.
struct CountingBackend {
  std::atomic<int> compiled = 0;
  std::atomic<int> asked_for_identity = 0;
  std::string identity = "nvrtc-13.0";
  std::chrono::milliseconds takes{0};

  Backend backend() {
    return {[this] { return ++asked_for_identity, identity; },
            [this](const Program& program) {
              ++compiled;
              std::this_thread::sleep_for(takes);
              return made_up_binary(program.source, identity);
            }};
  }
};

Backend missing_backend() {
  return {[]() -> std::string { throw Error(ErrorCode::device, "no NVRTC"); },
          [](const Program&) -> Binary { throw Error(ErrorCode::device, "no NVRTC"); }};
}

DiskCacheOptions in(const std::string& folder, std::vector<std::string> shipped = {}) {
  DiskCacheOptions options;
  options.folder = folder;
  options.shipped = std::move(shipped);
  return options;
}

void expect_counts(const Compiler& compiler, int memory, int disk, int compiled) {
  EXPECT_EQ(compiler.counts().from_memory, memory);
  EXPECT_EQ(compiler.counts().from_disk, disk);
  EXPECT_EQ(compiler.counts().compiled, compiled);
}

TEST(Compiler, CompilesAProgramOnceInAProcessAndOnceOnADisk) {
  const TemporaryFolder folder;
  CountingBackend counting;
  Compiler first(counting.backend(), in(folder.path()));
  const std::shared_ptr<const Binary> binary = first.get(small_program());
  EXPECT_EQ(binary->cubin, small_program().source);
  EXPECT_EQ(first.get(small_program()), binary) << "the same object";
  expect_counts(first, 1, 0, 1);

  Compiler second(counting.backend(), in(folder.path()));
  EXPECT_EQ(*second.get(small_program()), *binary);
  EXPECT_EQ(second.get(small_program("other"))->cubin, small_program("other").source);
  expect_counts(second, 0, 1, 1);
  EXPECT_EQ(counting.compiled, 2);
  EXPECT_EQ(counting.asked_for_identity, 0) << "a compiler that need not be opened was";
}

TEST(Compiler, ADamagedEntryIsRebuilt) {
  const TemporaryFolder folder;
  CountingBackend counting;
  Compiler(counting.backend(), in(folder.path())).get(small_program());
  overwrite(files_below(folder.path()).at(0), "damaged");
  Compiler second(counting.backend(), in(folder.path()));
  EXPECT_EQ(second.get(small_program())->cubin, small_program().source);
  EXPECT_NE(second.take_cache_problem(), "");
  expect_counts(second, 0, 0, 1);
  Compiler third(counting.backend(), in(folder.path()));
  third.get(small_program());
  expect_counts(third, 0, 1, 0);
}

TEST(Compiler, AFilledCacheNeedsNoCompiler) {
  const TemporaryFolder shipped, own;
  CountingBackend counting;
  Compiler(counting.backend(), in(shipped.path())).get(small_program());
  Compiler compiler(missing_backend(), in(own.path(), {shipped.path()}));
  EXPECT_EQ(compiler.get(small_program())->cubin, small_program().source);
  expect_counts(compiler, 0, 1, 0);
}

TEST(Compiler, EntriesOfSeveralCompilersServeWhereNoneIsAtHand) {
  const TemporaryFolder folder;
  CountingBackend counting;
  for (const char* identity : {"nvrtc-12.9", "nvrtc-13.0"}) {
    counting.identity = identity;
    Compiler(counting.backend(), in(folder.path())).rebuild(small_program());
  }
  EXPECT_EQ(Compiler(missing_backend(), in(folder.path())).get(small_program())->compiler, "nvrtc-13.0");
  counting.identity = "nvrtc-12.9";
  EXPECT_EQ(Compiler(counting.backend(), in(folder.path())).get(small_program())->compiler, "nvrtc-12.9");
}

TEST(Compiler, RebuildingGoesPastMemoryAndDiskAndReplacesBoth) {
  const TemporaryFolder folder;
  CountingBackend counting;
  counting.identity = "nvrtc-99.0";
  Compiler(counting.backend(), in(folder.path())).get(small_program());
  counting.identity = "nvrtc-13.0";
  Compiler compiler(counting.backend(), in(folder.path()));
  EXPECT_EQ(compiler.get(small_program())->compiler, "nvrtc-99.0");
  EXPECT_EQ(compiler.rebuild(small_program())->compiler, "nvrtc-13.0");
  EXPECT_EQ(compiler.get(small_program())->compiler, "nvrtc-13.0");
  Compiler later(counting.backend(), in(folder.path()));
  EXPECT_EQ(later.get(small_program())->compiler, "nvrtc-13.0");
  expect_counts(later, 0, 1, 0);
}

TEST(Compiler, ManyThreadsThatAskAtOnceCompileOnce) {
  const TemporaryFolder folder;
  CountingBackend counting;
  counting.takes = std::chrono::milliseconds(20);
  Compiler compiler(counting.backend(), in(folder.path()));
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 16; ++thread) {
    threads.emplace_back([&, thread] {
      for (int round = 0; round < 8; ++round) {
        const Program program = small_program(std::to_string((thread + round) % 4));
        if (compiler.get(program)->cubin != program.source) ++wrong;
        compiler.take_cache_problem();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(counting.compiled, 4);
  expect_counts(compiler, 16 * 8 - 4, 0, 4);
}

TEST(Compiler, AFailureReachesAllWhoWaitAndIsNotKept) {
  const TemporaryFolder folder;
  std::atomic<int> attempts = 0;
  std::atomic<bool> broken = true;
  Compiler compiler({[] { return "nvrtc-13.0"; },
                     [&](const Program& program) {
                       ++attempts;
                       std::this_thread::sleep_for(std::chrono::milliseconds(20));
                       if (broken) throw compile_error(program, "NVRTC 13.0", "add_one.cu(3): error: a mistake\n");
                       return made_up_binary("code");
                     }},
                    in(folder.path()));
  std::atomic<int> told = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&] {
      try {
        compiler.get(small_program());
      } catch (const CompileError& error) {
        if (error.diagnostics().at(0).line == 3 && error.log().find("a mistake") != std::string::npos) ++told;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(told, 8);
  EXPECT_LT(attempts, 9);
  EXPECT_TRUE(files_below(folder.path()).empty());

  broken = false;
  EXPECT_EQ(compiler.get(small_program())->cubin, "code");
}

TEST(Compiler, AMissingCompilerIsSaid) {
  const TemporaryFolder folder;
  Compiler compiler(missing_backend(), in(folder.path()));
  try {
    compiler.get(small_program());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::device);
    EXPECT_STREQ(error.what(), "no NVRTC");
  }
}

TEST(Compiler, ABadProgramIsRefusedBeforeAnyWork) {
  const TemporaryFolder folder;
  CountingBackend counting;
  Compiler compiler(counting.backend(), in(folder.path()));
  Program program = small_program();
  program.headers.clear();
  EXPECT_THROW(compiler.get(program), Error);
  expect_counts(compiler, 0, 0, 0);
}

TEST(Compiler, ADiskThatFailsIsNoFailure) {
  const TemporaryFolder folder;
  overwrite(folder.path() + "/file", "not a folder");
  CountingBackend counting;
  Compiler compiler(counting.backend(), in(folder.path() + "/file"));
  EXPECT_EQ(compiler.get(small_program())->cubin, small_program().source);
  EXPECT_NE(compiler.take_cache_problem(), "");
  EXPECT_EQ(compiler.take_cache_problem(), "");
}

}  // namespace
}  // namespace tilewise::jit
