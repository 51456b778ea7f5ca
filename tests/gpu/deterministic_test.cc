// Deterministic plans on a GPU: right, and with the same bits in every run.
#include <gtest/gtest.h>

#include <cstring>

#include "tests/gpu/gpu_caller.h"
#include "tests/gpu/with_gpu.h"
#include "tilewise/zoo.h"

namespace tilewise::attention::testing {
namespace {

class DeterministicOnGpu : public jit::WithGpu {
 protected:
  void SetUp() override {
    WithGpu::SetUp();
    if (context_ != nullptr) caller_.emplace(context_);
  }

  /// Gradients of one run, one behind the other.
  std::vector<double> run(const Plan& plan, reference::AttentionData& data, const Bound& bound) {
    VariantOutputs of_variant(bound);
    for (reference::Array* array : {&data.d_q, &data.d_k, &data.d_v}) array->fill(0);
    BackwardOutputs outputs = data.gradients();
    of_variant.add_to(outputs);
    const BackwardInputs given = data.given_with_outputs();
    caller_->backward(plan, data.inputs, given, outputs);
    std::vector<double> all;
    for (const reference::Array* array : {&data.d_q, &data.d_k, &data.d_v}) {
      for (std::int64_t i = 0; i < array->size(); ++i) all.push_back(array->get(i));
    }
    for (const auto& values : of_variant.values) all.insert(all.end(), values.begin(), values.end());
    return all;
  }

  /// So many runs of one deterministic plan give the bits of the first.
  void expect_same_bits(const Variant& variant, const reference::Shape& shape, int runs) {
    const Bound bound = bind_random(variant, problem_of(shape), 1);
    PlanShape planned = plan_shape(shape, DType::bfloat16, true, bound);
    planned.deterministic = true;
    const Plan plan = Attention(variant).plan(planned, Device::cuda());
    reference::AttentionData data(shape, 3, DType::bfloat16, DType::float32);
    data.inputs.tables = bound.tables;
    data.inputs.parameters = bound.parameters;
    caller_->forward(plan, data.inputs, data.outputs());
    const std::vector<double> first = run(plan, data, bound);
    for (int i = 1; i < runs; ++i) {
      const std::vector<double> again = run(plan, data, bound);
      ASSERT_EQ(std::memcmp(first.data(), again.data(), first.size() * sizeof(double)), 0)
          << to_string(variant) << ", d " << shape.d_qk << ", run " << i;
    }
  }

  std::optional<GpuCaller> caller_;
};

const Table by_distance("by_distance", DType::float32, 1);
const Parameter cap("cap", 1, 100);
Variant biased() {
  return zoo::causal() & score([](Expr s, const At& at) {
           return cap * tanh((s + by_distance(at.query_index - at.key_index + 8192)) / cap);
         });
}

TEST_F(DeterministicOnGpu, AreRight) {
  const Table bias("bias", DType::float32, 2);
  const Variant all[] = {Variant(), zoo::causal() & zoo::attention_sink(),
                         score([&](Expr s, const At& at) { return s + bias(at.head, at.key_index); }) & zoo::window(60),
                         score([&](Expr s, const At&) { return cap * tanh(s / cap); })};
  for (const Variant& variant : all) {
    Oracle oracle(DType::bfloat16, true, &*caller_);
    oracle.deterministic = true;
    for (std::uint64_t seed = 1; seed < 4; ++seed) {
      // Of 2100 keys there are two parts.
      const reference::Shape shape = seed == 1 ? uniform(1, 2, 1, 40, 2100, 16, 16) : uniform(2, 4, 2, 70, 90, 16, 16);
      oracle.run(variant, shape, bind_random(variant, problem_of(shape), seed), seed);
    }
    oracle.expect_close(to_string(variant));
  }
}

TEST_F(DeterministicOnGpu, GiveTheSameBitsWithManyHeadsAndMasks) {
  const Variant all[] = {Variant(), zoo::softcap(2) & zoo::causal(),
                         keep([](const At& at) { return at.key % (at.head + 2) == 0 || at.key + 64 > at.query; })};
  for (const int d : {64, 128, 256}) {
    // 162 blocks of 128 keys: more than run at a time.
    for (const Variant& variant : all)
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(variant, uniform(1, 36, 18, 200, 1100, d, d), 3));
  }
}

TEST_F(DeterministicOnGpu, GiveTheSameBitsAHundredTimes) {
  for (const Variant& variant : {zoo::causal(), biased()})
    ASSERT_NO_FATAL_FAILURE(expect_same_bits(variant, uniform(1, 4, 2, 300, 4100, 64, 64), 100));
}

}  // namespace
}  // namespace tilewise::attention::testing
