// Calls captured in a CUDA graph, by the part of the driver that the library has no use for.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <type_traits>

namespace tilewise::jit {

/// The part of the driver that the library has no use for.
struct GraphApi {
  int (*stream_create)(void** stream, unsigned flags);
  int (*stream_destroy)(void* stream);
  int (*begin_capture)(void* stream, int mode);
  int (*end_capture)(void* stream, void** graph);
  int (*instantiate)(void** executable, void* graph, unsigned long long flags);
  int (*launch)(void* executable, void* stream);
  int (*synchronize)(void* stream);

  GraphApi() {
    void* driver = dlopen("libcuda.so.1", RTLD_NOW);
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(driver == nullptr ? nullptr : dlsym(driver, name));
    };
    find(stream_create, "cuStreamCreate");
    find(stream_destroy, "cuStreamDestroy_v2");
    find(begin_capture, "cuStreamBeginCapture_v2");
    find(end_capture, "cuStreamEndCapture");
    find(instantiate, "cuGraphInstantiateWithFlags");
    find(launch, "cuGraphLaunch");
    find(synchronize, "cuStreamSynchronize");
  }
};

/// What a stream was given, to be launched again and again. The context is current throughout.
class CapturedGraph {
 public:
  CapturedGraph() {
    constexpr unsigned kNonBlocking = 1;
    EXPECT_EQ(api_.stream_create(&stream_, kNonBlocking), 0);
  }
  ~CapturedGraph() { api_.stream_destroy(stream_); }
  CapturedGraph(const CapturedGraph&) = delete;
  CapturedGraph& operator=(const CapturedGraph&) = delete;

  void* stream() const { return stream_; }

  /// Captures what `queue()` queues on stream(); what would wait or allocate fails.
  template <class Queue>
  void capture(Queue queue) {
    constexpr int kThreadLocal = 1;  // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    void* graph = nullptr;
    ASSERT_EQ(api_.begin_capture(stream_, kThreadLocal), 0);
    queue();
    ASSERT_EQ(api_.end_capture(stream_, &graph), 0);
    ASSERT_EQ(api_.instantiate(&executable_, graph, 0), 0);
  }

  /// Runs it and waits.
  void replay() {
    ASSERT_EQ(api_.launch(executable_, stream_), 0);
    ASSERT_EQ(api_.synchronize(stream_), 0);
  }

 private:
  GraphApi api_;
  void *stream_ = nullptr, *executable_ = nullptr;
};

}  // namespace tilewise::jit
