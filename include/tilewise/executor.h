// Who runs the library's work: a pool of threads of its own, or the caller's.
#pragma once

#include <cstdint>
#include <memory>

namespace tilewise {

/// Runs jobs on threads. A caller with a pool of its own derives from this; `run` is all that it needs.
///
/// Results never depend on the executor: what is computed, and in which order it is added up, follows from the problem
/// alone.
class Executor {
 public:
  using Job = void (*)(void* context, int job);

  virtual ~Executor() = default;

  /// How many jobs of one run may be under way at a time, at least 1. It must stay the same: plans size their
  /// workspaces by it.
  virtual int workers() const = 0;

  /// Calls job(context, i) once for each i in [0, jobs), jobs <= workers(): on any threads, in any order, together or
  /// one after the other. Returns when all calls have returned. Jobs do not throw. May be called from several threads
  /// at once, and from within a job.
  virtual void run(int jobs, Job job, void* context) = 0;

  /// Calls body(index, worker) once for each index in [0, count). Indices are handed out in rising order to as many
  /// jobs as there is work for; calls with the same worker, in [0, workers()), do not overlap. Where bodies throw, the
  /// rest of the indices is given up and the exception of the lowest index is passed on. Allocates nothing.
  template <class Body>
  void parallel_for(std::int64_t count, const Body& body) {
    hand_out(
        count,
        [](const void* context, std::int64_t index, int worker) {
          (*static_cast<const Body*>(context))(index, worker);
        },
        &body);
  }

 private:
  using Call = void (*)(const void* body, std::int64_t index, int worker);
  void hand_out(std::int64_t count, Call call, const void* body);
};

/// The library's own pool, shared by all: one worker for each processor that this process may use. Its threads start
/// with the first run, and again in a child process after fork.
Executor& default_executor();

/// A pool of its own with this many workers, the calling thread being one of them; it too works in a child process
/// after fork, and may be destroyed there. Where the system starts fewer threads, those do the same work. Throws
/// Error(invalid_argument) below 1.
std::unique_ptr<Executor> make_thread_pool(int workers);

}  // namespace tilewise
