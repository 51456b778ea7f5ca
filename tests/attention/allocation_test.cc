// A call allocates nothing: operator new is counted.
#include <gtest/gtest.h>

#include <array>
#include <new>
#include <optional>
#include <thread>
#include <vector>

#include "tests/attention/cache.h"
#include "tests/attention/oracle.h"
#include "tests/counted_allocations.h"
#include "tilewise/error.h"

namespace tilewise::attention::testing {
namespace {

using reference::AttentionData;

TEST(Allocations, AreNotMadeByCallsOnACache) {
  const reference::Shape shape{
      .h_q = 2, .h_kv = 1, .d_qk = 8, .d_v = 8, .sequences = {{.s_q = 90, .s_kv = 300}, {.s_q = 1, .s_kv = 250}}};
  AttentionData data(shape, 1, DType::float32, DType::float32);
  const Variant window = keep([](const At& at) { return at.query - at.key < 100; });
  for (const bool is_int8 : {false, true}) {
    const Cache cache(data, is_int8, {.holes = {0, 1, 2}}, 1);
    PlanShape planned = plan_shape(shape, DType::float32, false, {});
    if (is_int8) planned.kv_dtype = DType::int8;
    const Plan plan = Attention(window).plan(planned);
    Workspace workspace(plan.workspace_bytes());
    const ForwardOutputs outputs = data.outputs();
    plan.forward(cache.paged, outputs, workspace);
    const std::int64_t before = allocations;
    plan.forward(cache.paged, outputs, workspace);
    EXPECT_EQ(allocations - before, 0);
  }
}

/// Lets each allocation of attempt() fail once, the first, the second, ...: all are errors of the type. Returns how
/// many.
template <class Attempt>
int failures_told(const Attempt& attempt) {
  for (int failures = 0; failures < 10000; ++failures) {
    failing_allocation = allocations + failures;
    try {
      attempt();
      failing_allocation = -1;
      return failures;
    } catch (const tilewise::Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::out_of_memory) << error.what();
    } catch (const std::bad_alloc&) {
      ADD_FAILURE() << "allocation " << failures << " was not told by type";
    }
    failing_allocation = -1;
  }
  return -1;
}

TEST(Allocations, ThatFailAreToldByType) {
  const reference::Shape shape = uniform(1, 1, 1, 40, 60, 8, 8);
  AttentionData data(shape, 1, DType::float32, DType::float32);
  const Table bias("bias", DType::float32, 1);
  const std::vector<float> biases(60);
  data.inputs.tables = {{bias, ConstTensor(biases.data(), DType::float32, {60})}};
  const Attention attention(keep([](const At& at) { return at.query >= at.key; }) &
                            score([&](Expr s, const At& at) { return s + bias.clamped(at.key_index); }));
  const PlanShape planned = plan_shape(shape, DType::float32, true, {});
  EXPECT_GT(failures_told([&] { attention.plan(planned); }), 10);

  const Plan plan = attention.plan(planned);
  EXPECT_GT(failures_told([&] { Workspace workspace(plan.workspace_bytes()); }), 0);

  const ForwardOutputs outputs = data.outputs();
  const BackwardInputs given = data.given_with_outputs();
  const BackwardOutputs gradients = data.gradients();
  Workspace warm(plan.workspace_bytes());
  plan.forward(data.inputs, outputs, warm);  // threads start with it
  std::optional<Workspace> workspace;
  const auto anew = [&] { workspace.emplace(plan.workspace_bytes()); };
  EXPECT_GT(failures_told([&] { anew(), plan.forward(data.inputs, outputs, *workspace); }), 1);
  EXPECT_GT(failures_told([&] { anew(), plan.backward(data.inputs, given, gradients, *workspace); }), 1);
  // After each failure the workspace serves.
  Workspace reused(plan.workspace_bytes());
  EXPECT_GT(failures_told([&] { plan.forward(data.inputs, outputs, reused); }), 1);
  // In a workspace that the thread keeps: this one has none yet.
  std::thread([&] {
    EXPECT_GT(failures_told([&] { plan.forward(data.inputs, outputs); }), 1);
    EXPECT_EQ(failures_told([&] { plan.forward(data.inputs, outputs); }), 0);
  }).join();
}

TEST(Allocations, AreNotMadeByCalls) {
  const std::array slopes{0.5f, 0.25f};
  const Table frozen_slopes = Table::frozen("slopes", ConstTensor(slopes.data(), DType::float32, {2}));
  const Variant causal = keep([](const At& at) { return at.query >= at.key; });
  const Variant biased =
      causal & score([&](Expr s, const At& at) { return s - frozen_slopes.clamped(at.head) * (at.query - at.key); });
  // Bound by calls: a mask's table, a bias and a factor; lengths change from call to call.
  const Table bias("bias", DType::float32, 3), group("group", DType::int32, 1);
  const Parameter gain("gain");
  const Variant bound =
      keep([&](const At& at) { return group(at.query_index) >= group(at.key_index); }) &
      score([&](Expr s, const At& at) { return gain * s + bias(at.head, at.query_index, at.key_index); });
  const std::vector<float> bias_data(2 * 200 * 300, 0.25f);
  std::vector<std::int32_t> group_data(300);
  for (std::size_t i = 0; i < group_data.size(); ++i) group_data[i] = static_cast<std::int32_t>(i / 40);
  for (const Variant& variant : {Variant(), causal, biased, biased & dropout(0.1), bound}) {
    for (const bool backward : {false, true}) {
      // Of different lengths, as many as the plan allows; a decoded sequence among them.
      reference::Shape shape{.h_q = 2, .h_kv = 1, .d_qk = 8, .d_v = 8, .sequences = {}};
      shape.sequences = {{.s_q = 200, .s_kv = 300}, {.s_q = 1, .s_kv = 250}};
      AttentionData data(shape, 1, DType::float32, DType::float32);
      AttentionData longest(uniform(2, 2, 1, 200, 300, 8, 8), 1, DType::float32, DType::float32);
      Bound bindings;
      if (!variant.parameters().empty()) {
        bindings.shapes = {{bias, {2, 200, 300}}, {group, {300}}};
        bindings.tables = {{bias, ConstTensor(bias_data.data(), DType::float32, {2, 200, 300})},
                           {group, ConstTensor(group_data.data(), DType::int32, {300})}};
        bindings.parameters = {{gain, 0.75}};
      }
      for (AttentionData* call : {&data, &longest}) {
        call->inputs.tables = bindings.tables;
        call->inputs.parameters = bindings.parameters;
      }
      const Plan plan = Attention(variant).plan(plan_shape(shape, DType::float32, backward, bindings));
      Workspace workspace(plan.workspace_bytes());
      const auto call = [&](AttentionData& with) {
        const ForwardOutputs outputs = with.outputs();
        const BackwardInputs given = with.given_with_outputs();
        const BackwardOutputs gradients = with.gradients();
        const std::int64_t before = allocations;
        plan.forward(with.inputs, outputs, workspace);
        if (backward) plan.backward(with.inputs, given, gradients, workspace);
        return allocations - before;
      };
      call(longest);  // the first one in a workspace sets up what calls keep there, and starts the threads
      EXPECT_EQ(call(longest), 0) << to_string(variant);
      EXPECT_EQ(call(data), 0) << to_string(variant);
    }
  }
}

}  // namespace
}  // namespace tilewise::attention::testing
