// Plans that cannot be made, and calls that do not fit theirs: a typed error, before anything is written.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/attention/full_call.h"
#include "tests/refusal.h"

namespace tilewise::attention::testing {
namespace {

using reference::Array;

TEST(Refusals, OfCallsThatThePlanWasNotMadeFor) {
  const Spoilt all[] = {
      {"s_q is 30; the plan was made for at most 29", [](FullCall& call) { call.planned.s_q = 29; }},
      {"s_kv is 40; the plan was made for at most 39", [](FullCall& call) { call.planned.s_kv = 39; }},
      {"b is 2; the plan was made for at most 1", [](FullCall& call) { call.planned.b = 1; }},
      {"h_q is 4; the plan was made for 2", [](FullCall& call) { call.planned.h_q = 2; }},
      {"h_kv is 2; the plan was made for 4", [](FullCall& call) { call.planned.h_kv = 4; }},
      {"d_qk is 8; the plan was made for 16", [](FullCall& call) { call.planned.d_qk = 16; }},
      {"d_v is 4; the plan was made for 3", [](FullCall& call) { call.planned.d_v = 3; }},
      {"q has dtype float16; the plan was made for", [](FullCall& call) { call.inputs.q.dtype = DType::float16; }},
      {"v has dtype float16; the plan was made for", [](FullCall& call) { call.inputs.v.dtype = DType::float16; }},
  };
  for (const DType dtype : {DType::float32, DType::bfloat16, DType::float64}) {
    for (const Spoilt& spoilt : all) {
      SCOPED_TRACE(std::string(spoilt.message) + ", " + to_string(dtype));
      FullCall call(dtype);
      spoilt.change(call);
      const Plan plan = Attention(call.variant).plan(call.planned);
      tilewise::expect_refused([&] { plan.forward(call.inputs, call.outputs); }, {spoilt.message});
      tilewise::expect_refused([&] { plan.backward(call.inputs, call.given, call.gradients); }, {spoilt.message});
      call.expect_untouched();
    }
    FullCall call(dtype);
    const Plan plan = Attention(call.variant).plan(call.planned);
    call.outputs.o.dtype = DType::float16;
    tilewise::expect_refused([&] { plan.forward(call.inputs, call.outputs); }, {"o has dtype float16; the plan was"});
    call.gradients.d_k->dtype = DType::float16;
    tilewise::expect_refused([&] { plan.backward(call.inputs, call.given, call.gradients); },
                             {"d_k has dtype float16; the plan was"});
    call.expect_untouched();
  }
}

TEST(Refusals, OfGradientsThatWereNotPlanned) {
  FullCall call(DType::float32);
  call.planned.tables[0].extents = {4, 40};
  const Plan planned = Attention(call.variant).plan(call.planned);
  // A longer table than the plan knows of.
  std::vector<float> longer(4 * 41), d_longer(4 * 41, FullCall::kPoison);
  call.inputs.tables[0].data = ConstTensor(longer.data(), DType::float32, {4, 41});
  call.gradients.d_tables[0].gradient = Tensor(d_longer.data(), DType::float32, {4, 41});
  tilewise::expect_refused([&] { planned.backward(call.inputs, call.given, call.gradients); },
                           {"d_tables names 'bias', whose data has 164 elements; expected at most the 160"});
  call.expect_untouched();
  for (const float value : d_longer) ASSERT_EQ(value, FullCall::kPoison);
}

TEST(Refusals, OfScalesThatFloat32CannotHold) {
  for (const DType dtype : {DType::float32, DType::bfloat16}) {
    FullCall call(dtype);
    const Plan plan = Attention(call.variant).plan(call.planned);
    call.inputs.scale = -1e39;
    tilewise::expect_refused([&] { plan.forward(call.inputs, call.outputs); }, {"scale is -1e+39"});
    tilewise::expect_refused([&] { plan.backward(call.inputs, call.given, call.gradients); }, {"scale is -1e+39"});
    call.expect_untouched();
  }
}

TEST(Refusals, OfPlansOfSizesThatNoMachineHas) {
  const Table bias("bias", DType::float32, 3);
  const Variant variant =
      score([&](Expr s, const At& at) { return s + bias.clamped(at.head, at.query_index, at.key_index); });
  const auto refuse = [&](const std::string& message, auto change) {
    for (const DType dtype : {DType::float32, DType::bfloat16}) {
      PlanShape shape{
          .dtype = dtype, .b = 2, .h_q = 4, .h_kv = 2, .d_qk = 8, .d_v = 4, .s_q = 30, .s_kv = 40, .backward = true};
      change(shape);
      tilewise::expect_refused([&] { Attention(variant).plan(shape); }, {message});
    }
  };
  refuse("b is 2147483648", [](PlanShape& shape) { shape.b = kMost + 1; });
  refuse("s_kv is 9223372036854775807", [](PlanShape& shape) { shape.s_kv = kHuge; });
  refuse("d_qk is 2147483647", [](PlanShape& shape) { shape.d_qk = kMost; });
  refuse("d_v is 2147483647", [](PlanShape& shape) { shape.d_v = kMost; });
  refuse("h_q is 2147483646", [](PlanShape& shape) { shape.h_q = kMost - 1, shape.s_q = kMost; });
  refuse("b is 2147483647 and h_q is 2147483646",
         [](PlanShape& shape) { shape.b = kMost, shape.h_q = shape.h_kv = kMost - 1; });
  refuse("tables: 'bias' has extents [2147483647, 2147483647, 2147483647]", [&](PlanShape& shape) {
    shape.tables = {{bias, {kMost, kMost, kMost}}};
  });
}

/// Says that it has no workers.
class Idle final : public Executor {
 public:
  int workers() const override { return 0; }
  void run(int, Job, void*) override {}
};

TEST(Refusals, OfAnExecutorWithoutWorkers) {
  Idle idle;
  tilewise::expect_refused([&] { Attention().plan({.s_q = 3, .s_kv = 3}, Device::cpu(idle)); },
                           {"the executor has 0 workers; expected at least 1"});
}

TEST(Refusals, LeaveAWorkspaceUsable) {
  FullCall call(DType::float32);
  const Plan plan = Attention(call.variant).plan(call.planned);
  Workspace workspace(plan.workspace_bytes());
  plan.forward(call.inputs, call.outputs, workspace);
  const Array expected = call.data.o;
  for (const double scale : {std::nan(""), 0.3}) {
    call.inputs.scale = scale;
    if (std::isnan(scale)) {
      EXPECT_THROW(plan.forward(call.inputs, call.outputs, workspace), Error);
      continue;
    }
    call.inputs.scale.reset();
    plan.forward(call.inputs, call.outputs, workspace);
    for (std::int64_t i = 0; i < expected.size(); ++i) ASSERT_EQ(call.data.o.get(i), expected.get(i));
  }
}

}  // namespace
}  // namespace tilewise::attention::testing
