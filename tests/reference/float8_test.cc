// Codes of float8_e4m3 and their scales: the reference computes attention of their products, and calls whose scales do
// not fit are refused.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "core/element.h"
#include "core/float8.h"
#include "tests/refusal.h"
#include "tilewise/attention.h"
#include "tilewise/reference.h"
#include "tilewise/zoo.h"

namespace tilewise {
namespace {

constexpr std::int64_t kB = 2, kHQ = 4, kHKv = 2, kSQ = 150, kSKv = 270, kD = 4;

/// Codes [b, h, s, d], scales [h] or [b, h, blocks], and their products.
struct Scaled {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
  std::vector<double> products;
  ConstTensor view, scale_view, product_view;

  Scaled(std::int64_t heads, std::int64_t rows, bool of_blocks, std::mt19937_64& random) {
    const std::int64_t blocks = (rows + kScaleRows - 1) / kScaleRows;
    std::uniform_real_distribution<float> scale(0.1f, 3);
    scales.resize(static_cast<std::size_t>(of_blocks ? kB * heads * blocks : heads));
    for (float& one : scales) one = scale(random);
    std::normal_distribution<double> normal;
    for (std::int64_t i = 0; i < kB * heads * rows * kD; ++i) {
      const std::int64_t row = i / kD % rows, head = i / kD / rows;  // of b * heads
      codes.push_back(Float8E4m3(normal(random)).bits);
      const auto at = static_cast<std::size_t>(of_blocks ? head * blocks + row / kScaleRows : head % heads);
      products.push_back(static_cast<double>(Float8E4m3::from_bits(codes.back())) * scales[at]);
    }
    view = ConstTensor(codes.data(), DType::float8_e4m3, {kB, heads, rows, kD});
    scale_view = of_blocks ? ConstTensor(scales.data(), DType::float32, {kB, heads, blocks})
                           : ConstTensor(scales.data(), DType::float32, {heads});
    product_view = ConstTensor(products.data(), DType::float64, {kB, heads, rows, kD});
  }
  Scaled(const Scaled&) = delete;
  Scaled& operator=(const Scaled&) = delete;
};

struct Call {
  std::mt19937_64 random{3};
  Scaled q, k, v;
  ForwardInputs inputs;

  explicit Call(bool of_blocks)
      : q(kHQ, kSQ, of_blocks, random), k(kHKv, kSKv, of_blocks, random), v(kHKv, kSKv, of_blocks, random) {
    inputs = {.q = q.view,
              .k = k.view,
              .v = v.view,
              .q_scales = q.scale_view,
              .k_scales = k.scale_view,
              .v_scales = v.scale_view};
  }
};

std::vector<double> attention_of(const ForwardInputs& inputs) {
  std::vector<double> o(static_cast<std::size_t>(kB * kHQ * kSQ * kD));
  standard_attention(zoo::causal(), inputs, {.o = Tensor(o.data(), DType::float64, {kB, kHQ, kSQ, kD})});
  return o;
}

TEST(Float8Attention, IsThatOfCodesTimesScales) {
  for (const bool of_blocks : {false, true}) {
    const Call call(of_blocks);
    EXPECT_EQ(attention_of(call.inputs),
              attention_of({.q = call.q.product_view, .k = call.k.product_view, .v = call.v.product_view}));
  }
}

TEST(Float8Attention, WrongScalesAreRefused) {
  const auto refuse = [](const std::string& message, auto change) {
    Call call(true);
    change(call.inputs);
    expect_refused([&] { attention_of(call.inputs); }, {message});
  };
  const std::vector<float> some(64, 1);
  const auto scales = [&](std::initializer_list<std::int64_t> extents) {
    return ConstTensor(some.data(), DType::float32, extents);
  };
  refuse("q_scales is missing", [](ForwardInputs& inputs) { inputs.q_scales.reset(); });
  refuse("v_scales is missing", [](ForwardInputs& inputs) { inputs.v_scales.reset(); });
  refuse("k_scales has extents [3]", [&](ForwardInputs& inputs) { inputs.k_scales = scales({3}); });
  refuse("k_scales has rank 2", [&](ForwardInputs& inputs) { inputs.k_scales = scales({2, 2}); });
  refuse("q_scales has extents [2, 4, 1]", [&](ForwardInputs& inputs) { inputs.q_scales = scales({2, 4, 1}); });
  refuse("k_scales has extents [1, 2, 3]", [&](ForwardInputs& inputs) { inputs.k_scales = scales({1, 2, 3}); });
  refuse("v_scales has extents [2, 4, 3]", [&](ForwardInputs& inputs) { inputs.v_scales = scales({2, 4, 3}); });
  refuse("q_scales has dtype float64", [](ForwardInputs& inputs) { inputs.q_scales->dtype = DType::float64; });
  refuse("q_scales is given, but q has dtype float32", [&](ForwardInputs& inputs) {
    inputs.q = ConstTensor(some.data(), DType::float32, {kB, kHQ, 1, kD});
  });
}

TEST(Float8Attention, PlansRefuseItByName) {
  PlanShape shape{.dtype = DType::float8_e4m3, .d_qk = 16, .d_v = 16, .s_q = 5, .s_kv = 5};
  const auto refused = [&](ErrorCode code) { return refusal([&] { Attention().plan(shape); }, code); };
  EXPECT_NE(refused(ErrorCode::unsupported).find("cpu: has no products of float8_e4m3"), std::string::npos);
  shape.backward = true;
  EXPECT_NE(refused(ErrorCode::invalid_argument).find("dtype is float8_e4m3 and backward is true"), std::string::npos);
  shape.backward = false;
  shape.o_dtype = DType::int8;
  EXPECT_NE(refused(ErrorCode::invalid_argument).find("o_dtype is int8"), std::string::npos);
  shape.dtype = DType::float32;
  shape.o_dtype = DType::bfloat16;
  EXPECT_NE(refused(ErrorCode::invalid_argument).find("o_dtype is bfloat16 and dtype is float32"), std::string::npos);
  EXPECT_NE(refusal([] { Table("t", DType::float8_e4m3, 1); }).find("the dtype is float8_e4m3"), std::string::npos);
}

}  // namespace
}  // namespace tilewise
