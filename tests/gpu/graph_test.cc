// Calls of plans captured in a CUDA graph: nothing of a call waits, copies from the host or allocates.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include "tests/gpu/gpu_caller.h"
#include "tests/gpu/with_gpu.h"
#include "tilewise/zoo.h"

namespace tilewise::attention::testing {
namespace {

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

class GraphsOnGpu : public jit::WithGpu {
 protected:
  /// Captures a call, then replays it over poisoned outputs.
  void expect_replayed(const Variant& variant, const reference::Shape& shape, bool backward) {
    SCOPED_TRACE(to_string(variant));
    reference::AttentionData data(shape, 3, DType::bfloat16, DType::float32), replayed = data;
    const Plan plan = Attention(variant).plan(plan_shape(shape, DType::bfloat16, backward, {}), Device::cuda());
    GpuCaller caller(context_);
    caller.forward(plan, data.inputs, data.outputs());

    const GraphApi api;
    const jit::CurrentContext current(*context_);
    void *stream = nullptr, *graph = nullptr, *executable = nullptr;
    constexpr unsigned kNonBlocking = 1;
    ASSERT_EQ(api.stream_create(&stream, kNonBlocking), 0);
    Workspace workspace(plan.workspace_bytes(), Device::cuda(), stream);
    GpuCopies copies(context_);
    const ForwardInputs inputs = copies.in(replayed.inputs);
    const ForwardOutputs outputs{.o = copies.out(replayed.o.tensor()), .lse = copies.out(replayed.lse.tensor())};
    constexpr int kThreadLocal = 1;  // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what would wait or allocate is an error
    ASSERT_EQ(api.begin_capture(stream, kThreadLocal), 0);
    plan.forward(inputs, outputs, workspace);
    ASSERT_EQ(api.end_capture(stream, &graph), 0);
    ASSERT_EQ(api.instantiate(&executable, graph, 0), 0);
    for (int i = 0; i < 2; ++i) ASSERT_EQ(api.launch(executable, stream), 0);
    ASSERT_EQ(api.synchronize(stream), 0);
    copies.copy_back();
    // Rows of no sequence stay NaN.
    const auto same = [](double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); };
    for (std::int64_t i = 0; i < data.lse.size(); ++i) ASSERT_TRUE(same(data.lse.get(i), replayed.lse.get(i))) << i;
    for (std::int64_t i = 0; i < data.o.size(); ++i) ASSERT_TRUE(same(data.o.get(i), replayed.o.get(i))) << i;
    api.stream_destroy(stream);
  }
};

TEST_F(GraphsOnGpu, GiveWhatCallsGive) {
  reference::Shape ragged = uniform(3, 4, 2, 130, 200, 64, 64);
  ragged.sequences[1] = {.s_q = 50, .s_kv = 77};
  for (const Variant& variant : {Variant(), zoo::causal(), zoo::window(40)}) {
    expect_replayed(variant, uniform(2, 4, 2, 130, 200, 64, 64), false);
    expect_replayed(variant, ragged, false);
    expect_replayed(variant, uniform(2, 8, 2, 1, 3000, 64, 64), false);
  }
}

}  // namespace
}  // namespace tilewise::attention::testing
