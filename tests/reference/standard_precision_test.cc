// Where standard attention rounds to 16 bits, and how much error that makes; and the bytes it moves.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/dropout.h"
#include "core/half.h"
#include "tests/reference/attention_cases.h"
#include "tilewise/error.h"

namespace tilewise::reference {
namespace {

double bfloat16(double x) { return static_cast<double>(Bfloat16(x)); }

Tensor rows_of(std::vector<float>& values, std::int64_t columns) {
  return Tensor(values.data(), DType::float32, {1, 1, static_cast<std::int64_t>(values.size()) / columns, columns});
}

TEST(StandardPrecision, InputsAndProductsAreRounded) {
  // 256 + 1 needs 9 bits, and bfloat16 has 8: the product q.k rounds to 256, before it is scaled. 257 as an input does
  // too.
  std::vector<float> q{1, 1}, k{256, 1}, v{257}, o{0}, lse{0};
  const ForwardInputs inputs{.q = rows_of(q, 2), .k = rows_of(k, 2), .v = rows_of(v, 1), .scale = 1.0 / 512};
  const ForwardOutputs outputs{.o = rows_of(o, 1), .lse = Tensor(lse.data(), DType::float32, {1, 1, 1})};
  standard_attention({}, inputs, outputs, DType::bfloat16);
  EXPECT_EQ(lse[0], 0.5f);
  EXPECT_EQ(o[0], 256);
  standard_attention({}, inputs, outputs, DType::float16);
  EXPECT_EQ(lse[0], 257.0f / 512);
  EXPECT_EQ(o[0], 257);
  standard_attention({}, inputs, outputs, DType::float32);
  EXPECT_EQ(lse[0], 257.0f / 512);

  // Inputs too: 257 - 256 is 0 once 257 is loaded as 256.
  q = {257, -256}, k = {1, 1};
  standard_attention({}, inputs, outputs, DType::bfloat16);
  EXPECT_EQ(lse[0], 0);
  standard_attention({}, inputs, outputs, DType::float16);
  EXPECT_EQ(lse[0], 1.0f / 512);

  // 2^9 * 2^9 exceeds float16's range, and so becomes infinite before the scale could bring it back.
  q = {512, 0}, k = {512, 0};
  standard_attention({}, inputs, outputs, DType::float16);
  EXPECT_TRUE(std::isnan(o[0]));
  standard_attention({}, inputs, outputs, DType::bfloat16);
  EXPECT_EQ(lse[0], 512);
}

TEST(StandardPrecision, WeightsAreRoundedAndLseIsNot) {
  std::vector<float> q{0}, k{1, 1, 1}, v{1, 0, 0}, o{0}, lse{0}, d_v{0, 0, 0};
  ForwardInputs inputs{.q = rows_of(q, 1), .k = rows_of(k, 1), .v = rows_of(v, 1)};
  const ForwardOutputs outputs{.o = rows_of(o, 1), .lse = Tensor(lse.data(), DType::float32, {1, 1, 1})};
  standard_attention({}, inputs, outputs, DType::bfloat16);
  EXPECT_EQ(o[0], 0.333984375f);  // 171 / 512, the bfloat16 nearest to 1/3
  EXPECT_EQ(lse[0], std::log(3.0f));
  standard_attention({}, inputs, outputs, DType::float16);
  EXPECT_EQ(o[0], 0.333251953125f);  // 1365 / 4096
  standard_attention({}, inputs, outputs, DType::float32);
  EXPECT_EQ(o[0], 1.0f / 3);

  // A dropped weight is rounded once more: 171/512 * 256/230 = 0.37174.
  inputs.dropout_probability = 0.1;
  for (inputs.seed = 0; !dropout_keeps({0.9, inputs.seed, 0}, 0, 0, 0);) ++inputs.seed;
  standard_attention(dropout(0.5), inputs, outputs, DType::bfloat16);
  EXPECT_EQ(o[0], bfloat16(171.0 / 512 * 256 / 230));
  EXPECT_NE(o[0], 171.0f / 512 * 256 / 230);
  std::vector<float> d_o{3};
  standard_attention_backward(dropout(0.5), inputs, {.d_o = rows_of(d_o, 1)}, {.d_v = rows_of(d_v, 1)},
                              DType::bfloat16);
  EXPECT_EQ(d_v[0], bfloat16(3 * bfloat16(171.0 / 512 * 256 / 230)));
}

TEST(StandardPrecision, GradientsAreRoundedAsTheyAreHandedOver) {
  // Two keys with equal scores: weights 1/2. d_o v^T = 257 and 1, of which 257 rounds to 256: d_s = 1/4 (256 - 1),
  // scaled by 3 191.25, which rounds to 191.
  std::vector<float> q{1}, k{1, 1}, v{1, 256, 1, 0}, d_o{1, 1}, d_q{0}, d_k{0, 0};
  const ForwardInputs inputs{.q = rows_of(q, 1), .k = rows_of(k, 1), .v = rows_of(v, 2), .scale = 3};
  const BackwardOutputs outputs{.d_q = rows_of(d_q, 1), .d_k = rows_of(d_k, 1)};
  standard_attention_backward({}, inputs, {.d_o = rows_of(d_o, 2)}, outputs, DType::bfloat16);
  EXPECT_EQ(d_k, (std::vector<float>{191, -191}));
  EXPECT_EQ(d_q[0], 0);
  standard_attention_backward({}, inputs, {.d_o = rows_of(d_o, 2)}, outputs, DType::float32);
  EXPECT_EQ(d_k, (std::vector<float>{192, -192}));
}

TEST(StandardPrecision, GroupsAreSummedAfterRounding) {
  // Two query heads of two queries each, one key: d_v sums 256 + 1 in each head, which rounds to 256 before heads add
  // up.
  std::vector<float> q{1, 1, 1, 1}, k{1}, v{1}, d_o{256, 1, 256, 1}, d_v{0};
  const auto heads = [](std::vector<float>& values, std::int64_t count) {
    return Tensor(values.data(), DType::float32, {1, count, static_cast<std::int64_t>(values.size()) / count, 1});
  };
  const ForwardInputs inputs{.q = heads(q, 2), .k = heads(k, 1), .v = heads(v, 1)};
  standard_attention_backward({}, inputs, {.d_o = heads(d_o, 2)}, {.d_v = heads(d_v, 1)}, DType::bfloat16);
  EXPECT_EQ(d_v[0], 512);
  standard_attention_backward({}, inputs, {.d_o = heads(d_o, 2)}, {.d_v = heads(d_v, 1)}, DType::float32);
  EXPECT_EQ(d_v[0], 514);
}

/// The unit roundoff of what a precision stores.
double unit_of(DType precision) {
  switch (precision) {
    case DType::float32: return 0x1p-24;
    case DType::float16: return 0x1p-11;
    default: return 0x1p-8;
  }
}

TEST(StandardPrecision, ErrorsAreThoseOfTheRoundings) {
  // To first order in the unit u: a score is off by u |s| from rounding q.k, a weight by twice the largest of those and
  // u of its own, o by all that and u again, times the largest |v|. In float32 every one of the d + 2 s_kv + 10
  // operations rounds instead.
  const Shape shape{.h_q = 4, .h_kv = 2, .d_qk = 16, .d_v = 8, .sequences = {{.s_q = 24, .s_kv = 40}}};
  for (DType precision : {DType::float32, DType::float16, DType::bfloat16}) {
    // Inputs that the precision holds, so that their own rounding takes no part.
    AttentionData data(shape, 51, precision, DType::float64), exact(shape, 51);
    double largest_v = 0, largest_score = 0;
    for (std::int64_t i = 0; i < data.v.size(); ++i) largest_v = std::max(largest_v, std::fabs(data.v.get(i)));
    for (Array AttentionData::*array : {&AttentionData::q, &AttentionData::k, &AttentionData::v, &AttentionData::d_o}) {
      for (std::int64_t i = 0; i < (data.*array).size(); ++i) (exact.*array).set(i, (data.*array).get(i));
    }
    data.for_each_query([&](std::int64_t b, const Sequence& sequence, std::int64_t head, std::int64_t row) {
      for (std::int64_t j = 0; j < sequence.s_kv; ++j) {
        double magnitude = 0;
        for (std::int64_t i = 0; i < shape.d_qk; ++i)
          magnitude += std::fabs(data.at_query(data.q, b, head, row, i) * data.at_key(data.k, b, head / 2, j, i));
        largest_score = std::max(largest_score, magnitude / 4);
      }
    });
    standard_attention({}, data.inputs, data.outputs(), precision);
    standard_attention({}, exact.inputs, exact.outputs());
    double error = 0, lse_error = 0;
    for (std::int64_t i = 0; i < exact.o.size(); ++i)
      error = std::max(error, std::fabs(data.o.get(i) - exact.o.get(i)));
    for (std::int64_t i = 0; i < exact.lse.size(); ++i)
      lse_error = std::max(lse_error, std::fabs(data.lse.get(i) - exact.lse.get(i)));
    const double u = unit_of(precision);
    const double operations = precision == DType::float32 ? 16 + 2 * 40 + 10 : 2;
    const double bound = u * (2 * largest_score * (precision == DType::float32 ? 18 : 1) + operations) * largest_v;
    EXPECT_LE(error, bound) << to_string(precision);
    EXPECT_GE(error, u / 16) << to_string(precision);  // and not those of a finer precision
    EXPECT_LE(lse_error, bound) << to_string(precision);

    standard_attention_backward({}, data.inputs, data.given(), data.gradients(), precision);
    standard_attention_backward({}, exact.inputs, exact.given(), exact.gradients());
    for (Array AttentionData::*array : {&AttentionData::d_q, &AttentionData::d_k, &AttentionData::d_v}) {
      double gradient_error = 0, largest = 0;
      for (std::int64_t i = 0; i < (exact.*array).size(); ++i) {
        largest = std::max(largest, std::fabs((exact.*array).get(i)));
        gradient_error = std::max(gradient_error, std::fabs((data.*array).get(i) - (exact.*array).get(i)));
      }
      EXPECT_LE(gradient_error, 40 * u * largest) << to_string(precision);  // no bound, but an order of magnitude
      EXPECT_GE(gradient_error, u / 16) << to_string(precision);
    }
  }
}

TEST(StandardPrecision, OnlyFloatingDTypesAreAPrecision) {
  AttentionData data({}, 1);
  try {
    standard_attention({}, data.inputs, data.outputs(), DType::int32);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "precision is int32; expected float64, float32, float16 or bfloat16");
  }
  EXPECT_THROW(standard_attention_backward({}, data.inputs, data.given(), data.gradients(), DType::boolean), Error);
}

/// Bytes by the algorithm's own lines, for `heads` query heads of `group` a key head.
struct Traffic {
  std::int64_t s_q, s_kv, d_qk, d_v, heads, group, element, row_number;

  std::int64_t q() const { return s_q * d_qk * element; }
  std::int64_t k() const { return s_kv * d_qk * element; }
  std::int64_t v() const { return s_kv * d_v * element; }
  std::int64_t o() const { return s_q * d_v * element; }
  std::int64_t s() const { return s_q * s_kv * element; }
  std::int64_t p(bool sink) const { return s_q * (s_kv + (sink ? 1 : 0)) * element; }
  std::int64_t rows() const { return s_q * row_number; }

  StandardTraffic forward(bool sink) const {
    return {heads * (q() + k() + s() + p(sink) + v()), heads * (s() + p(sink) + o() + rows())};
  }
  StandardTraffic backward(bool sink, bool score) const {
    const std::int64_t read =
        (p(sink) + o()) + (o() + v()) + (p(sink) + s() + rows() + (score ? s() : 0)) + (s() + k()) + (s() + q());
    const std::int64_t written = v() + s() + s() + q() + k();
    const std::int64_t sums = group == 1 ? 0 : heads / group;  // of k's and of v's gradients
    return {heads * read + sums * group * (k() + v()), heads * written + sums * (k() + v())};
  }
};

TEST(TrafficOfStandardAttention, IsThatOfTheAlgorithm) {
  for (std::int64_t group : {1, 3}) {
    for (DType precision : {DType::float64, DType::float32, DType::bfloat16}) {
      const Shape shape{.h_q = 2 * group, .h_kv = 2, .d_qk = 5, .d_v = 3, .sequences = {{.s_q = 7, .s_kv = 11}}};
      AttentionData data(shape, 61);
      const Traffic expected{7, 11, 5, 3, 2 * group, group, size_of(precision), precision == DType::float64 ? 8 : 4};
      const auto cases = attention_cases(shape, 62);
      for (std::size_t i : {0, 4, 8}) {  // without a score stage; with one; with a sink too
        const Case& c = cases[i];
        c.bind(data.inputs);
        EXPECT_EQ(standard_attention(c.variant, data.inputs, data.outputs(), precision), expected.forward(i == 8));
        EXPECT_EQ(standard_attention_backward(c.variant, data.inputs, data.given(), data.gradients(), precision),
                  expected.backward(i == 8, i != 0))
            << c.name;
      }
    }
  }
  // Sequences add up.
  AttentionData two({.sequences = {{.s_q = 3, .s_kv = 4}, {.s_q = 2, .s_kv = 6}}}, 63);
  const StandardTraffic a = Traffic{3, 4, 2, 2, 1, 1, 8, 8}.forward(false);
  const StandardTraffic b = Traffic{2, 6, 2, 2, 1, 1, 8, 8}.forward(false);
  EXPECT_EQ(standard_attention({}, two.inputs, two.outputs()),
            (StandardTraffic{a.bytes_read + b.bytes_read, a.bytes_written + b.bytes_written}));
}

}  // namespace
}  // namespace tilewise::reference
