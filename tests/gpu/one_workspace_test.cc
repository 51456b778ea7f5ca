// Calls one behind the other in one workspace, where the second finds what the first has left.
#include <gtest/gtest.h>

#include "tests/gpu/gpu_caller.h"
#include "tests/gpu/same_values.h"
#include "tests/gpu/with_gpu.h"
#include "tilewise/zoo.h"

namespace tilewise::attention::testing {
namespace {

/// One tile of keys adds to each sum of d_q, so that gradients have the same bits in every run.
reference::Shape one_tile() { return uniform(2, 4, 2, 100, 60, 64, 64); }

class OneWorkspaceOnGpu : public jit::WithGpu {};

TEST_F(OneWorkspaceOnGpu, ServesBackwardPassesOfOtherInputs) {
  for (const Variant& variant : {Variant(), zoo::causal(), zoo::window(40)}) {
    SCOPED_TRACE(to_string(variant));
    const Plan plan = Attention(variant).plan(plan_shape(one_tile(), DType::bfloat16, true, {}), Device::cuda());
    const jit::CurrentContext current(*context_);
    Workspace workspace(plan.workspace_bytes(), Device::cuda());
    for (unsigned seed = 1; seed <= 12; ++seed) {
      SCOPED_TRACE(seed);
      reference::AttentionData data(one_tile(), seed, DType::bfloat16, DType::float32), again = data;
      GpuCaller caller(context_);
      caller.forward(plan, data.inputs, data.outputs());
      caller.backward(plan, data.inputs, data.given_with_outputs(), data.gradients());

      GpuCopies copies(context_);
      const ForwardInputs inputs = copies.in(again.inputs);
      const ForwardOutputs outputs{.o = copies.out(again.o.tensor()), .lse = copies.out(again.lse.tensor())};
      const BackwardInputs given{.o = outputs.o,
                                 .lse = outputs.lse,
                                 .d_o = copies.in(again.d_o.view()),
                                 .d_lse = copies.in(again.d_lse.view())};
      const BackwardOutputs gradients{.d_q = copies.out(again.d_q.tensor()),
                                      .d_k = copies.out(again.d_k.tensor()),
                                      .d_v = copies.out(again.d_v.tensor())};
      plan.forward(inputs, outputs, workspace);
      plan.backward(inputs, given, gradients, workspace);
      copies.copy_back();
      expect_same(data.d_q, again.d_q);
      expect_same(data.d_k, again.d_k);
      expect_same(data.d_v, again.d_v);
    }
  }
}

}  // namespace
}  // namespace tilewise::attention::testing
