// Calls of plans captured in a CUDA graph: nothing of a call waits, copies from the host or allocates.
#include <gtest/gtest.h>

#include "tests/gpu/captured_graph.h"
#include "tests/gpu/gpu_caller.h"
#include "tests/gpu/same_values.h"
#include "tests/gpu/with_gpu.h"
#include "tilewise/zoo.h"

namespace tilewise::attention::testing {
namespace {

/// Calls that a graph is captured of, and what they work on: copies of the data.
struct Replayed {
  Replayed(const std::shared_ptr<const jit::Context>& context, const Plan& plan, reference::AttentionData& data)
      : current(*context),
        workspace(plan.workspace_bytes(), Device::cuda(), graph.stream()),
        copies(context),
        inputs(copies.in(data.inputs)),
        outputs{.o = copies.out(data.o.tensor()), .lse = copies.out(data.lse.tensor())} {}

  template <class Calls>
  void replay(const Calls& calls) {
    graph.capture(calls);
    if (::testing::Test::HasFatalFailure()) return;
    for (int i = 0; i < 2; ++i) graph.replay();
    copies.copy_back();
  }

  const jit::CurrentContext current;
  jit::CapturedGraph graph;
  Workspace workspace;
  GpuCopies copies;
  const ForwardInputs inputs;
  const ForwardOutputs outputs;
};

class GraphsOnGpu : public jit::WithGpu {
 protected:
  /// Captures a call, then replays it over poisoned outputs.
  void expect_replayed(const Variant& variant, const reference::Shape& shape) {
    SCOPED_TRACE(to_string(variant));
    reference::AttentionData data(shape, 3, DType::bfloat16, DType::float32), replayed = data;
    const Plan plan = Attention(variant).plan(plan_shape(shape, DType::bfloat16, false, {}), Device::cuda());
    GpuCaller caller(context_);
    caller.forward(plan, data.inputs, data.outputs());

    Replayed calls(context_, plan, replayed);
    calls.replay([&] { plan.forward(calls.inputs, calls.outputs, calls.workspace); });
    if (HasFatalFailure()) return;
    expect_same(data.lse, replayed.lse);
    expect_same(data.o, replayed.o);
  }

  /// Captures a forward and a backward call of a deterministic plan, whose gradients have the same bits in every run.
  void expect_gradients_replayed(const Variant& variant, const reference::Shape& shape) {
    SCOPED_TRACE(to_string(variant));
    reference::AttentionData data(shape, 3, DType::bfloat16, DType::float32), replayed = data;
    PlanShape planned = plan_shape(shape, DType::bfloat16, true, {});
    planned.deterministic = true;
    const Plan plan = Attention(variant).plan(planned, Device::cuda());
    GpuCaller caller(context_);
    caller.forward(plan, data.inputs, data.outputs());
    caller.backward(plan, data.inputs, data.given_with_outputs(), data.gradients());

    Replayed calls(context_, plan, replayed);
    GpuCopies& copies = calls.copies;
    const BackwardInputs given{.o = calls.outputs.o,
                               .lse = calls.outputs.lse,
                               .d_o = copies.in(replayed.d_o.view()),
                               .d_lse = copies.in(replayed.d_lse.view())};
    const BackwardOutputs gradients{.d_q = copies.out(replayed.d_q.tensor()),
                                    .d_k = copies.out(replayed.d_k.tensor()),
                                    .d_v = copies.out(replayed.d_v.tensor())};
    calls.replay([&] {
      plan.forward(calls.inputs, calls.outputs, calls.workspace);
      plan.backward(calls.inputs, given, gradients, calls.workspace);
    });
    if (HasFatalFailure()) return;
    expect_same(data.d_q, replayed.d_q);
    expect_same(data.d_k, replayed.d_k);
    expect_same(data.d_v, replayed.d_v);
  }
};

TEST_F(GraphsOnGpu, GiveWhatCallsGive) {
  reference::Shape ragged = uniform(3, 4, 2, 130, 200, 64, 64);
  ragged.sequences[1] = {.s_q = 50, .s_kv = 77};
  for (const Variant& variant : {Variant(), zoo::causal(), zoo::window(40)}) {
    expect_replayed(variant, uniform(2, 4, 2, 130, 200, 64, 64));
    expect_replayed(variant, ragged);
    expect_replayed(variant, uniform(2, 8, 2, 1, 3000, 64, 64));
  }
}

TEST_F(GraphsOnGpu, GiveTheGradientsThatCallsGive) {
  reference::Shape ragged = uniform(3, 4, 2, 130, 200, 64, 64);
  ragged.sequences[1] = {.s_q = 50, .s_kv = 77};
  for (const Variant& variant : {Variant(), zoo::causal(), zoo::softcap(5) & zoo::window(40)}) {
    expect_gradients_replayed(variant, uniform(2, 4, 2, 130, 200, 64, 64));
    expect_gradients_replayed(variant, ragged);
  }
}

}  // namespace
}  // namespace tilewise::attention::testing
