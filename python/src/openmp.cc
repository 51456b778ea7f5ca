#include "openmp.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>

namespace tilewise::python {

namespace {

// GCC's entry point for a parallel region, which LLVM's and Intel's libraries have too. They are looked up because the
// library is PyTorch's, which a build of this package does not know.
struct OpenMp {
  void (*parallel)(void (*body)(void*), void* data, unsigned threads, unsigned flags);
  int (*most_threads)();
  int (*is_in_parallel)();

  OpenMp() {
    find(parallel, "GOMP_parallel");
    find(most_threads, "omp_get_max_threads");
    find(is_in_parallel, "omp_in_parallel");
  }
  bool is_there() const { return parallel != nullptr && most_threads != nullptr && is_in_parallel != nullptr; }

 private:
  template <class Function>
  static void find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
  }
};

// PyTorch may be imported after the first call, so a library that is missing is looked for again.
const OpenMp* openmp() {
  static std::atomic<const OpenMp*> found{nullptr};
  if (const OpenMp* known = found.load()) return known;
  const OpenMp now;
  if (!now.is_there()) return nullptr;
  found.store(new OpenMp(now));
  return found.load();
}

class OpenMpExecutor final : public Executor {
 public:
  OpenMpExecutor(const OpenMp& library, int workers) : library_(library), workers_(workers) {}

  int workers() const override { return workers_; }

  void run(int jobs, Job job, void* context) override {
    struct Region {
      std::atomic<int> next{0};
      int jobs;
      Job job;
      void* context;
    } region{.jobs = jobs, .job = job, .context = context};
    const auto body = [](void* data) {
      Region& shared = *static_cast<Region*>(data);
      for (int index = shared.next++; index < shared.jobs; index = shared.next++) shared.job(shared.context, index);
    };
    if (jobs <= 1 || workers_ == 1 || library_.is_in_parallel() != 0) {
      body(&region);
    } else {
      // Always the whole team, whose threads would end and start again with its size.
      library_.parallel(body, &region, static_cast<unsigned>(workers_), 0);
    }
  }

 private:
  const OpenMp& library_;
  int workers_;
};

class CallingThread final : public Executor {
 public:
  int workers() const override { return 1; }
  void run(int jobs, Job job, void* context) override {
    for (int index = 0; index < jobs; ++index) job(context, index);
  }
};

}  // namespace

Executor& calling_thread() {
  static auto* executor = new CallingThread();  // as above, for the process's life
  return *executor;
}

Executor* openmp_executor() {
  const OpenMp* library = openmp();
  if (library == nullptr) return nullptr;
  static std::mutex lock;
  static auto* executors = new std::map<int, OpenMpExecutor>();  // plans may outlive everything that ends at exit
  const int threads = std::max(1, library->most_threads());
  const std::scoped_lock locked(lock);
  return &executors->try_emplace(threads, *library, threads).first->second;
}

}  // namespace tilewise::python
