// The executor: every index once, exceptions, nesting, many callers, fork, a caller's own pool.
#include "tilewise/executor.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tilewise/error.h"

namespace tilewise {
namespace {

/// How often each index was called, and whether two calls of a worker ever overlapped.
void expect_every_index_once(Executor& executor, std::int64_t count) {
  std::vector<std::atomic<int>> calls(static_cast<std::size_t>(count));
  std::vector<std::atomic<int>> busy(static_cast<std::size_t>(executor.workers()));
  std::atomic<int> overlaps = 0;
  executor.parallel_for(count, [&](std::int64_t index, int worker) {
    overlaps += busy[static_cast<std::size_t>(worker)].fetch_add(1);
    ++calls[static_cast<std::size_t>(index)];
    busy[static_cast<std::size_t>(worker)].fetch_sub(1);
  });
  EXPECT_EQ(overlaps, 0);
  for (const auto& of_index : calls) ASSERT_EQ(of_index, 1);
}

TEST(Executors, CallEveryIndexOnce) {
  for (const int workers : {1, 2, 3, 8}) {
    const auto pool = make_thread_pool(workers);
    EXPECT_EQ(pool->workers(), workers);
    for (const std::int64_t count : {0, 1, 2, 7, 1000}) expect_every_index_once(*pool, count);
  }
  for (int i = 0; i < 200; ++i) expect_every_index_once(default_executor(), i);
}

TEST(Executors, PassOnTheExceptionOfTheLowestIndex) {
  const auto pool = make_thread_pool(4);
  for (int i = 0; i < 50; ++i) {
    try {
      pool->parallel_for(1000, [](std::int64_t index, int) {
        if (index >= 10) throw std::runtime_error(std::to_string(index));
      });
      FAIL() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "10");
    }
  }
  expect_every_index_once(*pool, 100);
}

TEST(Executors, MayBeNestedAndSharedByManyThreads) {
  const auto pool = make_thread_pool(3);
  std::vector<std::thread> callers;
  std::atomic<std::int64_t> sum = 0;
  for (int caller = 0; caller < 6; ++caller) {
    callers.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        pool->parallel_for(10, [&](std::int64_t outer, int) {
          pool->parallel_for(10, [&](std::int64_t inner, int) { sum += outer * 10 + inner; });
        });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sum, 6 * 20 * 4950);
}

TEST(Executors, WorkInAChildProcess) {
  expect_every_index_once(default_executor(), 100);  // the threads are running
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    std::atomic<std::int64_t> sum = 0;
    default_executor().parallel_for(1000, [&](std::int64_t index, int) { sum += index; });
    _exit(sum == 499500 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  expect_every_index_once(default_executor(), 100);
}

TEST(Executors, MadeBeforeAForkWorkAndEndInAChildProcess) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the thread sanitizer ends a child whose thread takes the stack of one that the fork has ended";
#endif
  auto pool = make_thread_pool(3);
  expect_every_index_once(*pool, 100);  // the threads are running
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(20);  // rather than to hang
    std::atomic<std::int64_t> sum = 0;
    for (int i = 0; i < 3; ++i) pool->parallel_for(1000, [&](std::int64_t index, int) { sum += index; });
    pool.reset();
    _exit(sum == 3 * 499500 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  expect_every_index_once(*pool, 100);
}

/// A caller's own pool at its simplest and strangest: one job after the other, the last one first.
class Backwards final : public Executor {
 public:
  int workers() const override { return 5; }
  void run(int jobs, Job job, void* context) override {
    for (int i = jobs; i-- > 0;) job(context, i);
  }
};

TEST(Executors, MayBeTheCallers) {
  Backwards executor;
  expect_every_index_once(executor, 100);
}

TEST(Executors, RefuseToHaveNoWorker) {
  try {
    make_thread_pool(0);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_STREQ(error.what(), "workers is 0; expected at least 1");
  }
}

}  // namespace
}  // namespace tilewise
