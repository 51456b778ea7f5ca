// Calls of plans captured in a CUDA graph: nothing of a call waits, copies from the host or allocates.
#include <gtest/gtest.h>

#include "tests/gpu/captured_graph.h"
#include "tests/gpu/gpu_caller.h"
#include "tests/gpu/with_gpu.h"
#include "tilewise/zoo.h"

namespace tilewise::attention::testing {
namespace {

class GraphsOnGpu : public jit::WithGpu {
 protected:
  /// Captures a call, then replays it over poisoned outputs.
  void expect_replayed(const Variant& variant, const reference::Shape& shape, bool backward) {
    SCOPED_TRACE(to_string(variant));
    reference::AttentionData data(shape, 3, DType::bfloat16, DType::float32), replayed = data;
    const Plan plan = Attention(variant).plan(plan_shape(shape, DType::bfloat16, backward, {}), Device::cuda());
    GpuCaller caller(context_);
    caller.forward(plan, data.inputs, data.outputs());

    const jit::CurrentContext current(*context_);
    jit::CapturedGraph graph;
    Workspace workspace(plan.workspace_bytes(), Device::cuda(), graph.stream());
    GpuCopies copies(context_);
    const ForwardInputs inputs = copies.in(replayed.inputs);
    const ForwardOutputs outputs{.o = copies.out(replayed.o.tensor()), .lse = copies.out(replayed.lse.tensor())};
    graph.capture([&] { plan.forward(inputs, outputs, workspace); });
    if (HasFatalFailure()) return;
    for (int i = 0; i < 2; ++i) graph.replay();
    copies.copy_back();
    // Rows of no sequence stay NaN.
    const auto same = [](double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); };
    for (std::int64_t i = 0; i < data.lse.size(); ++i) ASSERT_TRUE(same(data.lse.get(i), replayed.lse.get(i))) << i;
    for (std::int64_t i = 0; i < data.o.size(); ++i) ASSERT_TRUE(same(data.o.get(i), replayed.o.get(i))) << i;
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
