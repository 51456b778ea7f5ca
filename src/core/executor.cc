#include "tilewise/executor.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

namespace tilewise {
namespace {

/// The indices of one parallel_for, and the first failure among them.
class Indices {
 public:
  using Call = void (*)(const void* body, std::int64_t index, int worker);

  Indices(std::int64_t count, Call call, const void* body) : count_(count), call_(call), body_(body) {}

  void work(int worker) {
    for (;;) {
      const std::int64_t index = next_.fetch_add(1, std::memory_order_relaxed);
      if (index >= count_) return;
      try {
        call_(body_, index, worker);
      } catch (...) {
        fail(index, std::current_exception());
      }
    }
  }

  void pass_failure_on() {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void fail(std::int64_t index, std::exception_ptr failure) {
    const std::lock_guard lock(mutex_);
    // Indices are handed out in order, so those below a failing one are under way or done.
    next_.store(count_, std::memory_order_relaxed);
    if (failure_ && failed_index_ < index) return;
    failure_ = std::move(failure);
    failed_index_ = index;
  }

  const std::int64_t count_;
  const Call call_;
  const void* const body_;
  std::atomic<std::int64_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr failure_;
  std::int64_t failed_index_ = 0;
};

}  // namespace

void Executor::hand_out(std::int64_t count, Call call, const void* body) {
  if (count <= 0) return;
  Indices indices(count, call, body);
  const auto jobs = static_cast<int>(std::min<std::int64_t>(count, workers()));
  if (jobs <= 1) {
    indices.work(0);
  } else {
    run(
        jobs, [](void* context, int job) { static_cast<Indices*>(context)->work(job); }, &indices);
  }
  indices.pass_failure_on();
}

}  // namespace tilewise
