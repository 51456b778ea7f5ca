#include "core/thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <system_error>

#include "core/fail.h"

namespace tilewise {
namespace {

/// How often an idle thread looks for work before it sleeps, some 20 microseconds: waking one takes about as long, and
/// a call of attention is several parallel regions close together.
constexpr int kLooks = 2000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// How often a thread tries for the mutex before it sleeps. Whoever has it does a few steps; a thread that went to
/// sleep for them takes some 10 microseconds to wake, more than most jobs of a small region do.
constexpr int kTries = 200;

std::unique_lock<std::mutex> locked(std::mutex& mutex) {
  std::unique_lock lock(mutex, std::try_to_lock);
  for (int i = 1; i < kTries && !lock.owns_lock(); ++i) {
    pause();
    lock.try_lock();
  }
  if (!lock.owns_lock()) lock.lock();
  return lock;
}

}  // namespace

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::start_threads() {
  threads_.reserve(static_cast<std::size_t>(workers_ - 1));
  try {
    while (static_cast<int>(threads_.size()) < workers_ - 1) threads_.emplace_back([this] { serve(); });
  } catch (const std::system_error&) {
    // Fewer threads do the same work: callers do whatever nobody else takes.
  }
}

/// The next job of a run; to be called with the mutex held.
bool ThreadPool::take(Run& run, int* job) {
  if (run.next == run.jobs) return false;
  *job = run.next++;
  waiting_.fetch_sub(1, std::memory_order_relaxed);
  if (run.next == run.jobs) {  // nothing is left to take: out of the list
    Run** link = &first_;
    while (*link != &run) link = &(*link)->following;
    *link = run.following;
  }
  return true;
}

void ThreadPool::run(int jobs, Job job, void* context) {
  Run run{.job = job, .context = context, .jobs = jobs, .unfinished = jobs};
  std::unique_lock lock = locked(mutex_);
  if (threads_.empty() && jobs > 1) start_threads();
  Run** link = &first_;
  while (*link != nullptr) link = &(*link)->following;
  *link = &run;
  waiting_.fetch_add(jobs, std::memory_order_relaxed);
  for (int i = 1; i < jobs; ++i) work_.notify_one();

  for (int mine = 0; take(run, &mine);) {
    lock.unlock();
    job(context, mine);
    run.unfinished.fetch_sub(1, std::memory_order_acq_rel);
    lock = locked(mutex_);
  }
  lock.unlock();
  for (int look = 0; look < kLooks && run.unfinished.load(std::memory_order_acquire) > 0; ++look) pause();
  lock = locked(mutex_);
  done_.wait(lock, [&run] { return run.unfinished.load(std::memory_order_acquire) == 0; });
}

void ThreadPool::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (first_ == nullptr && !stopping_) {
      lock.unlock();
      for (int look = 0; look < kLooks && waiting_.load(std::memory_order_relaxed) == 0; ++look) pause();
      lock = locked(mutex_);
      work_.wait(lock, [this] { return first_ != nullptr || stopping_; });
    }
    if (first_ == nullptr) return;
    Run& run = *first_;
    int job = 0;
    take(run, &job);
    lock.unlock();
    run.job(run.context, job);
    lock = locked(mutex_);
    // Under the mutex: the caller, who needs it to leave, cannot end the run between this and the notification.
    if (run.unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) done_.notify_all();
  }
}

namespace {

/// How often this process and those before it have forked.
std::atomic<unsigned>& forks() {
  static std::atomic<unsigned> count = [] {
    pthread_atfork(nullptr, nullptr, [] { forks().fetch_add(1, std::memory_order_relaxed); });
    return 0u;
  }();
  return count;
}

/// A pool that a child process makes anew: it has none of its parent's threads, and the state they left may be locked
/// for good, so the old one is left alone.
class ForkedPool final : public Executor {
 public:
  explicit ForkedPool(int workers) : workers_(workers) { forks(); }
  ~ForkedPool() override {
    Made* made = made_.load();
    if (made != nullptr && made->forks == forks().load(std::memory_order_relaxed)) delete made;
  }
  ForkedPool(const ForkedPool&) = delete;
  ForkedPool& operator=(const ForkedPool&) = delete;

  int workers() const override { return workers_; }
  void run(int jobs, Job job, void* context) override { pool().run(jobs, job, context); }

 private:
  struct Made {
    ThreadPool pool;
    unsigned forks;  // when it was made
  };

  ThreadPool& pool() {
    const unsigned now = forks().load(std::memory_order_relaxed);
    Made* found = made_.load(std::memory_order_acquire);
    while (found == nullptr || found->forks != now) {
      auto made = std::unique_ptr<Made>(new Made{ThreadPool(workers_), now});
      // Where another thread is first its pool serves; no thread of this one has started yet.
      if (made_.compare_exchange_strong(found, made.get(), std::memory_order_acq_rel)) found = made.release();
    }
    return found->pool;
  }

  const int workers_;
  std::atomic<Made*> made_{nullptr};
};

}  // namespace

Executor& default_executor() {
  static ForkedPool pool(std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
  return pool;
}

std::unique_ptr<Executor> make_thread_pool(int workers) {
  if (workers < 1) fail_argument("workers is {}; expected at least 1", workers);
  return std::make_unique<ForkedPool>(workers);
}

}  // namespace tilewise
