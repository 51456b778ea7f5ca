// A pool of threads that several callers share.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "tilewise/executor.h"

namespace tilewise {

/// Callers take part in their own runs, so a run makes progress whatever else the threads do: runs may be nested and
/// may overlap.
class ThreadPool final : public Executor {
 public:
  /// `workers` - 1 threads start with the first run that can use them.
  explicit ThreadPool(int workers) : workers_(workers) {}
  ~ThreadPool() override;

  int workers() const override { return workers_; }
  void run(int jobs, Job job, void* context) override;

 private:
  /// One call of run(), on its caller's stack.
  struct Run {
    Job job;
    void* context;
    int jobs;
    int next = 0;                 // guarded by mutex_
    std::atomic<int> unfinished;  // jobs that have not returned
    Run* following = nullptr;     // in the list of runs with jobs left
  };

  void start_threads();
  void serve();
  bool take(Run& run, int* job);

  const int workers_;
  std::mutex mutex_;
  std::condition_variable work_, done_;
  std::vector<std::thread> threads_;
  bool stopping_ = false;
  Run* first_ = nullptr;         // runs with jobs left, oldest first
  std::atomic<int> waiting_{0};  // jobs in those runs: what idle threads look at before they sleep
};

}  // namespace tilewise
