// What plans and calls refuse, before anything is written, and what a plan says of itself.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "tests/attention/oracle.h"
#include "tilewise/error.h"
#include "tilewise/reference.h"

namespace tilewise::attention::testing {
namespace {

using reference::Array;
using reference::AttentionData;

template <class Function>
void expect_refused(ErrorCode code, const std::string& message, Function function) {
  try {
    function();
    FAIL() << "nothing was thrown; expected: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
  }
}

constexpr ErrorCode kInvalid = ErrorCode::invalid_argument;

PlanShape usual() {
  return {.b = 2, .h_q = 4, .h_kv = 2, .d_qk = 8, .d_v = 4, .s_q = 30, .s_kv = 40, .backward = true};
}

TEST(Plans, RefuseShapesThatMakeNoSense) {
  const auto refuse = [](const std::string& message, auto change) {
    expect_refused(kInvalid, message, [&] {
      PlanShape shape = usual();
      change(shape);
      Attention().plan(shape);
    });
  };
  refuse("h_q is 4 and h_kv is 3; expected h_kv to divide h_q", [](PlanShape& shape) { shape.h_kv = 3; });
  refuse("h_q is 0", [](PlanShape& shape) { shape.h_q = 0; });
  refuse("d_qk is 0", [](PlanShape& shape) { shape.d_qk = 0; });
  refuse("s_kv is -1", [](PlanShape& shape) { shape.s_kv = -1; });
  refuse("s_q is 2147483648", [](PlanShape& shape) { shape.s_q = std::int64_t{1} << 31; });
  refuse("dtype is int32; expected float64", [](PlanShape& shape) { shape.dtype = DType::int32; });
  refuse("kv_dtype is int32; expected float64", [](PlanShape& shape) { shape.kv_dtype = DType::int32; });
  refuse("kv_dtype is int8 and backward is true", [](PlanShape& shape) { shape.kv_dtype = DType::int8; });
  const Table stranger("stranger", DType::float32, 1);
  refuse("tables names 'stranger'", [&](PlanShape& shape) { shape.tables = {{stranger, {3}}}; });
}

TEST(Plans, SayWhyNoBackendTakesAShape) {
  PlanShape shape = usual();
  shape.kv_dtype = DType::float64;
  expect_refused(ErrorCode::unsupported, "cpu: computes in float32", [&] { Attention().plan(shape); });
  expect_refused(ErrorCode::unsupported, "reference: takes float64 alone", [&] { Attention().plan(shape); });
}

TEST(Plans, ProveThatTablesAreReadInside) {
  const Table bias("bias", DType::float32, 1);
  const Variant variant = score([&](Expr s, const At& at) { return s + bias(at.key_index); });
  PlanShape shape = usual();
  expect_refused(kInvalid, "tables lacks 'bias'", [&] { Attention(variant).plan(shape); });
  shape.tables = {{bias, {39}}};
  expect_refused(kInvalid, "table 'bias': index 1 of a read", [&] { Attention(variant).plan(shape); });
  shape.tables = {{bias, {40}}};
  const Plan plan = Attention(variant).plan(shape);
  // At the call the data are as long as its own keys; one less is too few.
  AttentionData data(uniform(2, 4, 2, 30, 20, 8, 4), 1, DType::float32, DType::float32);
  std::vector<float> values(20);
  data.inputs.tables = {{bias, ConstTensor(values.data(), DType::float32, {20})}};
  plan.forward(data.inputs, data.outputs());
  data.inputs.tables = {{bias, ConstTensor(values.data(), DType::float32, {19})}};
  expect_refused(kInvalid, "table 'bias': index 1 of a read", [&] { plan.forward(data.inputs, data.outputs()); });
}

TEST(Plans, TellWhatTheyDo) {
  const std::string text = Attention(keep([](const At& at) { return at.query >= at.key; })).plan(usual()).explain();
  for (const char* part : {"backend: cpu", "instruction set", "tiles of", "splits", "workspace: ", "traffic forward",
                           "not taken: reference"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  PlanShape shape = usual();
  shape.dtype = DType::float64;
  const std::string of_reference = Attention().plan(shape).explain();
  EXPECT_NE(of_reference.find("backend: reference"), std::string::npos) << of_reference;
  EXPECT_NE(of_reference.find("not taken: cpu: computes in float32"), std::string::npos) << of_reference;
}

TEST(Plans, OfNothingTellWhatTheyDo) {
  for (const DType dtype : {DType::float32, DType::bfloat16, DType::float64}) {
    for (const bool backward : {false, true}) {
      for (int which = 0; which < 8; ++which) {
        PlanShape shape = usual();
        shape.dtype = dtype;
        shape.backward = backward;
        shape.b = (which & 1) != 0 ? 0 : 2;
        shape.s_q = (which & 2) != 0 ? 0 : 30;
        shape.s_kv = (which & 4) != 0 ? 0 : 40;
        for (const Variant& variant : {Variant(), keep([](const At& at) { return at.query >= at.key; })}) {
          const Plan plan = Attention(variant).plan(shape);
          EXPECT_LE(plan.touched_bytes(), plan.workspace_bytes());
          EXPECT_NE(plan.explain().find("workspace: "), std::string::npos);
        }
      }
    }
  }
}

TEST(Plans, GiveFloat64ToTheReference) {
  AttentionData found(uniform(2, 4, 2, 30, 40, 8, 4), 1), expected = found;
  expected.inputs = found.inputs;
  PlanShape shape = usual();
  shape.dtype = DType::float64;
  const Plan plan = Attention().plan(shape);
  plan.forward(found.inputs, found.outputs());
  standard_attention({}, expected.inputs, expected.outputs());
  for (std::int64_t i = 0; i < found.o.size(); ++i) ASSERT_EQ(found.o.get(i), expected.o.get(i));
  plan.backward(found.inputs, found.given(), found.gradients());
  standard_attention_backward({}, expected.inputs, expected.given(), expected.gradients());
  for (std::int64_t i = 0; i < found.d_k.size(); ++i) ASSERT_EQ(found.d_k.get(i), expected.d_k.get(i));
}

/// A call that fits `usual()`, to be spoilt; its outputs must stay as they are.
class Calls : public ::testing::Test {
 protected:
  Calls()
      : data(uniform(2, 4, 2, 30, 40, 8, 4), 1, DType::float32, DType::float32),
        plan(Attention().plan(usual())),
        workspace(plan.workspace_bytes()) {
    for (Array* array : {&data.o, &data.lse, &data.d_q, &data.d_k, &data.d_v}) array->fill(5);
    given = data.given_with_outputs();
  }

  void forward_refused(const std::string& message) { forward_refused(message, workspace); }
  void forward_refused(const std::string& message, Workspace& in) {
    expect_refused(kInvalid, message, [&] { plan.forward(data.inputs, data.outputs(), in); });
    expect_untouched();
  }
  void backward_refused(const std::string& message) {
    expect_refused(kInvalid, message, [&] { plan.backward(data.inputs, given, data.gradients(), workspace); });
    expect_untouched();
  }
  void expect_untouched() {
    for (const Array* array : {&data.o, &data.lse, &data.d_q, &data.d_k, &data.d_v}) {
      for (std::int64_t i = 0; i < array->size(); ++i) ASSERT_EQ(array->get(i), 5);
    }
  }

  AttentionData data;
  BackwardInputs given;
  Plan plan;
  Workspace workspace;
};

TEST_F(Calls, RefuseWhatThePlanWasNotMadeFor) {
  AttentionData longer(uniform(2, 4, 2, 31, 40, 8, 4), 1, DType::float32, DType::float32);
  expect_refused(kInvalid, "s_q is 31; the plan was made for at most 30",
                 [&] { plan.forward(longer.inputs, longer.outputs()); });
  AttentionData more(uniform(3, 4, 2, 30, 40, 8, 4), 1, DType::float32, DType::float32);
  expect_refused(kInvalid, "b is 3; the plan was made for at most 2",
                 [&] { plan.forward(more.inputs, more.outputs()); });
  AttentionData wider(uniform(2, 4, 2, 30, 40, 16, 4), 1, DType::float32, DType::float32);
  expect_refused(kInvalid, "d_qk is 16; the plan was made for 8", [&] { plan.forward(wider.inputs, wider.outputs()); });
  AttentionData halves(uniform(2, 4, 2, 30, 40, 8, 4), 1, DType::bfloat16, DType::float32);
  expect_refused(kInvalid, "q has dtype bfloat16; the plan was made for float32",
                 [&] { plan.forward(halves.inputs, halves.outputs()); });
}

TEST_F(Calls, RefuseArgumentsThatDoNotFit) {
  const ForwardInputs good = data.inputs;
  data.inputs.scale = NAN;
  forward_refused("scale is nan");
  data.inputs = good;
  data.inputs.dropout_probability = 0.5;
  forward_refused("dropout_probability is 0.5, but the variant has no dropout");
  data.inputs = good;
  data.inputs.k.data = nullptr;
  forward_refused("k ");
  data.inputs = good;
  Workspace small(plan.workspace_bytes() - 1);
  forward_refused("workspace has", small);
  given.lse.reset();
  backward_refused("lse is missing");
  given.lse = data.lse.view();
  given.o.reset();
  backward_refused("o is missing");
}

TEST_F(Calls, RefuseABackwardPassThatWasNotPlanned) {
  PlanShape shape = usual();
  shape.backward = false;
  const Plan forward_only = Attention().plan(shape);
  expect_refused(kInvalid, "the plan was made for the forward pass",
                 [&] { forward_only.backward(data.inputs, given, data.gradients()); });
}

TEST_F(Calls, WriteOnlyTheGradientsThatAreAskedFor) {
  plan.forward(data.inputs, data.outputs());
  plan.backward(data.inputs, given, data.gradients());
  const Array all_d_q = data.d_q, all_d_k = data.d_k, all_d_v = data.d_v;
  for (int which = 0; which < 3; ++which) {
    for (Array* array : {&data.d_q, &data.d_k, &data.d_v}) array->fill(5);
    BackwardOutputs outputs;
    if (which == 0) outputs.d_q = data.d_q.tensor();
    if (which == 1) outputs.d_k = data.d_k.tensor();
    if (which == 2) outputs.d_v = data.d_v.tensor();
    plan.backward(data.inputs, given, outputs);
    for (std::int64_t i = 0; i < all_d_q.size(); ++i) ASSERT_EQ(data.d_q.get(i), which == 0 ? all_d_q.get(i) : 5);
    for (std::int64_t i = 0; i < all_d_k.size(); ++i) ASSERT_EQ(data.d_k.get(i), which == 1 ? all_d_k.get(i) : 5);
    for (std::int64_t i = 0; i < all_d_v.size(); ++i) ASSERT_EQ(data.d_v.get(i), which == 2 ? all_d_v.get(i) : 5);
  }
}

TEST(Workspaces, MustBeAligned) {
  alignas(64) std::byte memory[256];
  expect_refused(kInvalid, "memory begins at", [&] { Workspace workspace(std::span(memory + 1, 128)); });
  expect_refused(kInvalid, "bytes is -1", [] { Workspace workspace(-1); });
}

TEST(Workspaces, ServeSeveralPlans) {
  AttentionData a(uniform(2, 4, 2, 30, 40, 8, 4), 1, DType::float32, DType::float32);
  const Plan plain = Attention().plan(usual());
  const Plan causal = Attention(keep([](const At& at) { return at.query >= at.key; })).plan(usual());
  Workspace workspace(std::max(plain.workspace_bytes(), causal.workspace_bytes()));
  plain.forward(a.inputs, a.outputs(), workspace);
  const Array of_plain = a.o;
  causal.forward(a.inputs, a.outputs(), workspace);
  const Array of_causal = a.o;
  for (int i = 0; i < 3; ++i) {
    plain.forward(a.inputs, a.outputs(), workspace);
    for (std::int64_t at = 0; at < a.o.size(); ++at) ASSERT_EQ(a.o.get(at), of_plain.get(at));
    causal.forward(a.inputs, a.outputs(), workspace);
    for (std::int64_t at = 0; at < a.o.size(); ++at) ASSERT_EQ(a.o.get(at), of_causal.get(at));
  }
}

TEST(Devices, HaveNames) {
  EXPECT_EQ(Device::cpu().text(), "cpu");
  EXPECT_EQ(Device::cuda(2).text(), "cuda:2");
  EXPECT_TRUE(Device::cuda(2).is_cuda());
  EXPECT_FALSE(Device::cpu().is_cuda());
  expect_refused(kInvalid, "ordinal is -1", [] { Device::cuda(-1); });
}

// On a machine without GPU 60, which is all but the very largest.
TEST(Devices, ThatAreNotThereAreTypedErrorsAndTheProcessorGoesOn) {
  PlanShape shape = usual();
  expect_refused(ErrorCode::device, "", [&] { Attention().plan(shape, Device::cuda(60)); });
  expect_refused(ErrorCode::device, "", [] { Workspace(1024, Device::cuda(60)); });
  EXPECT_NE(Attention().plan(shape).explain().find("backend: cpu"), std::string::npos);
}

TEST(Devices, OfAWorkspaceAndItsPlanMustBeTheSame) {
  const Plan plan = Attention().plan(usual());
  std::vector<std::byte> memory(64 + static_cast<std::size_t>(plan.workspace_bytes()));
  void* begin = memory.data();
  std::size_t room = memory.size();
  std::align(64, static_cast<std::size_t>(plan.workspace_bytes()), begin, room);
  Workspace of_a_gpu({static_cast<std::byte*>(begin), static_cast<std::size_t>(plan.workspace_bytes())},
                     Device::cuda(1));
  AttentionData data(uniform(2, 4, 2, 30, 40, 8, 4), 1, DType::float32, DType::float32);
  expect_refused(kInvalid, "workspace lies on cuda:1; the plan was made for cpu",
                 [&] { plan.forward(data.inputs, data.outputs(), of_a_gpu); });
  expect_refused(kInvalid, "stream is given for the processor", [&] { Workspace(64, Device::cpu(), memory.data()); });
}

}  // namespace
}  // namespace tilewise::attention::testing
