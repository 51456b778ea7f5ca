// Lengths, positions, seeds and block tables that lie on the GPU.
#include <gtest/gtest.h>

#include <cstring>

#include "tests/attention/cache.h"
#include "tests/gpu/captured_graph.h"
#include "tests/gpu/gpu_caller.h"
#include "tests/gpu/with_gpu.h"
#include "tests/refusal.h"
#include "tilewise/error.h"
#include "tilewise/zoo.h"

namespace tilewise::attention::testing {
namespace {

/// Sequences as columns on the GPU.
class Columns {
 public:
  Columns(const std::shared_ptr<const jit::Context>& context, const std::vector<Sequence>& sequences) {
    given_.b = static_cast<std::int64_t>(sequences.size());
    const auto add = [&](std::optional<ConstTensor> DeviceSequences::*column, auto number_of) {
      std::vector<std::int32_t> numbers;
      for (const Sequence& sequence : sequences) numbers.push_back(static_cast<std::int32_t>(number_of(sequence)));
      numbers.push_back(0);  // never empty
      memory_.push_back(cuda::DeviceMemory::of(context, numbers));
      given_.*column = ConstTensor(memory_.back().as<const void>(), DType::int32, {given_.b});
    };
    add(&DeviceSequences::s_q, [](const Sequence& s) { return s.s_q; });
    add(&DeviceSequences::s_kv, [](const Sequence& s) { return s.s_kv; });
    add(&DeviceSequences::query_offset, [](const Sequence& s) { return s.first_query_position(); });
    add(&DeviceSequences::key_offset, [](const Sequence& s) { return s.key_offset; });
    add(&DeviceSequences::key_start, [](const Sequence& s) { return s.key_start; });
    add(&DeviceSequences::first_query_token, [](const Sequence& s) { return s.first_query_token; });
    add(&DeviceSequences::first_key_token, [](const Sequence& s) { return s.first_key_token; });
  }

  const DeviceSequences& given() const { return given_; }
  cuda::DeviceMemory& keys() { return memory_[1]; }

 private:
  DeviceSequences given_;
  std::vector<cuda::DeviceMemory> memory_;
};

/// Hands over on the GPU what a call has on the host.
class DeviceArgumentsCaller final : public Caller {
 public:
  explicit DeviceArgumentsCaller(std::shared_ptr<const jit::Context> context)
      : context_(std::move(context)), caller_(context_) {}
  Device device() const override { return caller_.device(); }
  void forward(const Plan& plan, const ForwardInputs& inputs, const ForwardOutputs& outputs) override {
    const auto given = moved(inputs);
    caller_.forward(plan, given, outputs);
  }
  void backward(const Plan& plan, const ForwardInputs& inputs, const BackwardInputs& given,
                const BackwardOutputs& outputs) override {
    caller_.backward(plan, moved(inputs), given, outputs);
  }

  bool validate = true;

 private:
  ForwardInputs moved(const ForwardInputs& inputs) {
    ForwardInputs given = inputs;
    given.validate = validate;
    if (!inputs.sequences.empty()) {
      columns_.emplace(context_, inputs.sequences);
      given.device_sequences = columns_->given();
      given.sequences.clear();
    }
    seed_ = cuda::DeviceMemory::of(context_, std::vector<std::int64_t>{static_cast<std::int64_t>(inputs.seed),
                                                                       static_cast<std::int64_t>(inputs.seed_offset)});
    given.device_seed = ConstTensor(seed_.as<const void>(), DType::int64, {2});
    given.seed = given.seed_offset = 0;
    return given;
  }

  std::shared_ptr<const jit::Context> context_;
  GpuCaller caller_;
  std::optional<Columns> columns_;
  cuda::DeviceMemory seed_;
};

class DeviceArguments : public jit::WithGpu {
 protected:
  void SetUp() override {
    WithGpu::SetUp();
    if (context_ != nullptr) caller_.emplace(context_);
  }
  std::optional<DeviceArgumentsCaller> caller_;
};

TEST_F(DeviceArguments, GiveWhatTheHostsGive) {
  reference::Shape shape{.h_q = 4, .h_kv = 2, .d_qk = 24, .d_v = 16};
  shape.sequences = uneven_sequences();
  for (const Variant& variant : {Variant(), zoo::causal(), zoo::causal() & tilewise::dropout(0.4)}) {
    for (int storage = 0; storage < 4; ++storage) {
      shape.queries_packed = (storage & 1) != 0;
      shape.keys_packed = (storage & 2) != 0;
      Oracle oracle(DType::bfloat16, !shape.keys_packed, &*caller_);
      oracle.run(variant, shape, {}, static_cast<std::uint64_t>(storage + 1));
      caller_->validate = false;
      oracle.run(variant, shape, {}, static_cast<std::uint64_t>(storage + 1));
      caller_->validate = true;
      oracle.expect_close(to_string(variant));
    }
  }
}

TEST_F(DeviceArguments, DecodeFromPages) {
  reference::Shape shape{.h_q = 8, .h_kv = 2, .d_qk = 64, .d_v = 64};
  shape.sequences = {{.s_q = 1, .s_kv = 1300}, {.s_q = 3, .s_kv = 300}, {.s_q = 5, .s_kv = 77, .key_start = 21}};
  const reference::AttentionData data(shape, 5, DType::bfloat16, DType::float32);
  for (const Variant& variant : {Variant(), zoo::causal(), zoo::window(50)}) {
    PlanShape planned = plan_shape(shape, DType::bfloat16, false, {});
    planned.query_tokens.reset(), planned.key_tokens.reset();
    const Plan plan = Attention(variant).plan(planned, Device::cuda());
    const Cache cache(data, false, {16, false}, 3);
    reference::Array host_o = data.o, host_lse = data.lse, device_o = data.o, device_lse = data.lse;
    for (reference::Array* array : {&host_o, &host_lse, &device_o, &device_lse}) array->fill(-768);
    GpuCaller(context_).forward(plan, cache.paged, {.o = host_o.tensor(), .lse = host_lse.tensor()});
    caller_->forward(plan, cache.paged, {.o = device_o.tensor(), .lse = device_lse.tensor()});
    for (std::int64_t i = 0; i < host_o.size(); ++i) ASSERT_EQ(host_o.get(i), device_o.get(i)) << i;
    for (std::int64_t i = 0; i < host_lse.size(); ++i) ASSERT_EQ(host_lse.get(i), device_lse.get(i)) << i;
  }
}

TEST_F(DeviceArguments, ChangeBetweenReplaysOfAGraph) {
  reference::Shape shape{.h_q = 4, .h_kv = 2, .d_qk = 64, .d_v = 64};
  shape.sequences = {{.s_q = 1, .s_kv = 900}, {.s_q = 1, .s_kv = 900}};
  const reference::AttentionData data(shape, 5, DType::bfloat16, DType::float32);
  const Plan plan = Attention(zoo::window(700)).plan(plan_shape(shape, DType::bfloat16, false, {}), Device::cuda());
  const jit::CurrentContext current(*context_);
  jit::CapturedGraph graph;
  Workspace workspace(plan.workspace_bytes(), Device::cuda(), graph.stream());
  reference::Array o = data.o, expected = data.o;
  Columns columns(context_, shape.sequences);
  GpuCopies copies(context_);
  ForwardInputs inputs = copies.in(data.inputs);
  inputs.sequences.clear();
  inputs.device_sequences = columns.given();
  inputs.device_sequences->query_offset.reset();  // it follows the lengths
  const ForwardOutputs outputs{.o = copies.out(o.tensor())};
  graph.capture([&] { plan.forward(inputs, outputs, workspace); });
  if (HasFatalFailure()) return;
  for (const auto& lengths : {std::array<std::int32_t, 2>{900, 10}, {65, 640}, {0, 1}}) {
    columns.keys().copy_from(std::as_bytes(std::span(lengths)));
    graph.replay();
    copies.copy_back();
    ForwardInputs usual = data.inputs;
    usual.sequences = {{.s_q = 1, .s_kv = lengths[0]}, {.s_q = 1, .s_kv = lengths[1]}};
    GpuCaller(context_).forward(plan, usual, {.o = expected.tensor()});
    for (std::int64_t i = 0; i < o.size(); ++i) {
      // Splits follow the most keys that a call may have, so the last bits may differ.
      ASSERT_NEAR(o.get(i), expected.get(i), 0x1p-7 * std::max(1.0, std::abs(expected.get(i)))) << lengths[0];
    }
  }
}

TEST_F(DeviceArguments, AreClampedOrRefused) {
  const reference::Shape shape = uniform(2, 2, 1, 3, 100, 16, 16);
  reference::AttentionData data(shape, 5, DType::bfloat16, DType::float32);
  const Plan plan = Attention(zoo::causal()).plan(plan_shape(shape, DType::bfloat16, false, {}), Device::cuda());
  const Columns columns(context_, {{.s_q = 3000, .s_kv = 100000, .key_start = -5}, {.s_q = -1, .s_kv = -7}});
  Workspace workspace(plan.workspace_bytes(), Device::cuda());
  GpuCopies copies(context_);
  ForwardInputs inputs = copies.in(data.inputs);
  inputs.sequences.clear();
  inputs.device_sequences = columns.given();
  const ForwardOutputs outputs{.o = copies.out(data.o.tensor())};
  plan.forward(inputs, outputs, workspace);
  copies.copy_back();
  const auto refuse = [&](const std::string& part, auto change) {
    ForwardInputs bad = inputs;
    change(bad);
    const std::string message = refusal([&] { plan.forward(bad, outputs, workspace); }, ErrorCode::invalid_argument);
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  refuse("key_start is -5", [](ForwardInputs& bad) { bad.validate = true; });
  refuse("device_sequences has b = 3", [](ForwardInputs& bad) { bad.device_sequences->b = 3; });
  refuse("both given", [](ForwardInputs& bad) { bad.sequences = {{.s_q = 1}, {.s_q = 1}}; });
  refuse("expected int32", [](ForwardInputs& bad) { bad.device_sequences->s_q->dtype = DType::int64; });
  refuse("host's memory", [&](ForwardInputs& bad) { bad.device_sequences->s_kv->data = &shape; });
}

}  // namespace
}  // namespace tilewise::attention::testing
