// Decoding with head dimensions beyond 256 on a GPU, and with values that are the keys' first columns.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/attention/cache.h"
#include "tests/gpu/gpu_caller.h"
#include "tests/gpu/with_gpu.h"
#include "tests/refusal.h"
#include "tilewise/error.h"
#include "tilewise/zoo.h"

namespace tilewise::attention::testing {
namespace {

class LatentOnGpu : public jit::WithGpu {
 protected:
  void SetUp() override {
    WithGpu::SetUp();
    if (context_ != nullptr) caller_.emplace(context_);
  }

  /// The first columns of k.
  static ConstTensor values_in(const ConstTensor& k, std::int64_t d_v) {
    ConstTensor v = k;
    v.extents[static_cast<std::size_t>(v.rank - 1)] = d_v;
    return v;
  }

  /// Decodes with v in k, by the rule of exactness.
  void expect_right(const Variant& variant, const reference::Shape& shape, DType dtype = DType::bfloat16) {
    reference::AttentionData data(shape, 7, dtype, DType::float32);
    data.inputs.v = values_in(data.inputs.k, shape.d_v);
    reference::AttentionData usual = data, exact(shape, 7, DType::float64, DType::float64);
    usual.inputs = exact.inputs = data.inputs;
    standard_attention(variant, usual.inputs, usual.outputs(), dtype);
    standard_attention(variant, exact.inputs, exact.outputs());

    const Plan plan = Attention(variant).plan(plan_shape(shape, dtype, false, {}), Device::cuda());
    Workspace workspace(plan.workspace_bytes(), Device::cuda());
    GpuCopies copies(context_);
    ForwardInputs inputs = copies.in(data.inputs);
    inputs.v = values_in(inputs.k, shape.d_v);
    const ForwardOutputs outputs{.o = copies.out(data.o.tensor()), .lse = copies.out(data.lse.tensor())};
    plan.forward(inputs, outputs, workspace);
    copies.copy_back();
    Errors errors;
    data.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
      for (std::int64_t c = 0; c < shape.d_v; ++c) {
        errors.add(exact.at_query(exact.o, i, head, row, c), data.at_query(data.o, i, head, row, c),
                   usual.at_query(usual.o, i, head, row, c));
      }
    });
    EXPECT_GT(errors.count, 0);
    EXPECT_LE(errors.largest, 2 * errors.usual_largest + 2 * 0x1p-7 * errors.magnitude) << to_string(variant);
    EXPECT_LE(errors.square, 4 * errors.usual_square) << to_string(variant);
  }

  /// The rows and lse, one behind the other, that decoding with v in k gives.
  std::vector<float> decoded(const Plan& plan, const ForwardInputs& inputs, reference::AttentionData& data,
                             std::int64_t d_v) {
    Workspace workspace(plan.workspace_bytes(), Device::cuda());
    GpuCopies copies(context_);
    ForwardInputs on_gpu = copies.in(inputs);
    on_gpu.v = values_in(on_gpu.k, d_v);
    data.o.fill(-768), data.lse.fill(-768);
    plan.forward(on_gpu, {.o = copies.out(data.o.tensor()), .lse = copies.out(data.lse.tensor())}, workspace);
    copies.copy_back();
    std::vector<float> all;
    for (const reference::Array* array : {&data.o, &data.lse}) {
      for (std::int64_t i = 0; i < array->size(); ++i) all.push_back(static_cast<float>(array->get(i)));
    }
    return all;
  }

  std::optional<GpuCaller> caller_;
};

TEST_F(LatentOnGpu, ReadsValuesFromKeys) {
  for (const Variant& variant : {Variant(), zoo::causal(), zoo::softcap(20) & zoo::causal(), zoo::window(100)}) {
    expect_right(variant, uniform(1, 72, 1, 1, 1000, 576, 512));
    expect_right(variant, uniform(2, 16, 1, 2, 300, 576, 512));
  }
  expect_right(zoo::causal(), uniform(1, 20, 1, 2, 500, 576, 512), DType::float16);
  expect_right(Variant(), uniform(1, 20, 2, 3, 700, 320, 128));
}

TEST_F(LatentOnGpu, ReadsValuesFromKeysInPages) {
  reference::Shape shape{.h_q = 72, .h_kv = 1, .d_qk = 576, .d_v = 512};
  shape.sequences = {{.s_q = 1, .s_kv = 1300}, {.s_q = 2, .s_kv = 300}, {.s_q = 3, .s_kv = 77, .key_start = 21}};
  reference::AttentionData data(shape, 5, DType::bfloat16, DType::float32);
  for (const Variant& variant : {Variant(), zoo::causal()}) {
    PlanShape planned = plan_shape(shape, DType::bfloat16, false, {});
    planned.query_tokens.reset(), planned.key_tokens.reset();
    const Plan plan = Attention(variant).plan(planned, Device::cuda());
    for (const std::int64_t page_tokens : {8, 64, 504}) {
      const Cache cache(data, false, {page_tokens, false}, 3);
      EXPECT_EQ(decoded(plan, cache.paged, data, shape.d_v), decoded(plan, cache.whole, data, shape.d_v))
          << to_string(variant) << ", pages of " << page_tokens;
    }
  }
}

TEST_F(LatentOnGpu, TakesValuesOfTheirOwnAndEveryNumberOfRows) {
  for (const DType dtype : {DType::bfloat16, DType::float16, DType::float32}) {
    for (const Variant& variant : {Variant(), zoo::causal()}) {
      Oracle oracle(dtype, false, &*caller_);
      for (const std::int64_t s_q : {1, 3, 16}) oracle.run(variant, uniform(2, 12, 2, s_q, 170, 576, 512), {}, 1);
      oracle.run(variant, uniform(2, 8, 8, 1, 65, 264, 520), {}, 2);
      oracle.run(variant, uniform(1, 40, 1, 1, 0, 320, 8), {}, 3);
      oracle.run(variant, uniform(1, 70, 1, 1, 33, 512, 512), {}, 4);
      oracle.expect_close(to_string(variant));
    }
  }
}

TEST_F(LatentOnGpu, KnowsLengthsAndLeftPadding) {
  reference::Shape shape{.h_q = 32, .h_kv = 1, .d_qk = 576, .d_v = 512};
  shape.sequences = {{.s_q = 1, .s_kv = 1300}, {.s_q = 4, .s_kv = 300}, {.s_q = 2, .s_kv = 777, .key_start = 521},
                     {.s_q = 0, .s_kv = 50},   {.s_q = 3, .s_kv = 0},   {.s_q = 1, .s_kv = 9, .key_start = 9}};
  for (const Variant& variant : {Variant(), zoo::causal(), zoo::causal() & zoo::attention_sink()}) {
    Oracle oracle(DType::bfloat16, false, &*caller_);
    oracle.run(variant, shape, bind_random(variant, problem_of(shape), 1), 1);
    oracle.expect_close(to_string(variant));
  }
}

TEST_F(LatentOnGpu, IsForDecodingAlone) {
  PlanShape shape{.dtype = DType::bfloat16, .h_q = 4, .h_kv = 1, .d_qk = 576, .d_v = 512, .s_q = 17, .s_kv = 100};
  const auto plan = [&] { Attention().plan(shape, Device::cuda()); };
  EXPECT_NE(refusal(plan, ErrorCode::unsupported).find("beyond 256"), std::string::npos);
  shape.s_q = 1;
  shape.backward = true;
  EXPECT_NE(refusal(plan, ErrorCode::unsupported).find("beyond 256"), std::string::npos);
  shape.backward = false;
  EXPECT_EQ(refusal(plan, ErrorCode::unsupported), "");
  shape.d_qk = 584;
  EXPECT_NE(refusal(plan, ErrorCode::unsupported).find("d_qk is 584"), std::string::npos);
}

}  // namespace
}  // namespace tilewise::attention::testing
