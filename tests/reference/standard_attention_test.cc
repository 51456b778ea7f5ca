// Standard attention in float64 on problems small enough to be worked out by hand, and on what must hold exactly: rows
// that keep nothing, NaN and infinity in the inputs, storage.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/dropout.h"
#include "tests/reference/attention_data.h"
#include "tilewise/error.h"

namespace tilewise::reference {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kUlp = 0x1p-52;

Variant causal() {
  return keep([](const At& at) { return at.query >= at.key; });
}

/// One head, d_qk = d_v = 1, scale 1: everything is a list of numbers.
struct Tiny {
  std::vector<double> q, k, v;
  std::vector<double> o = std::vector<double>(q.size(), kNaN);
  std::vector<double> lse = std::vector<double>(q.size(), kNaN);
  std::vector<double> d_q = o, d_k = std::vector<double>(k.size(), kNaN), d_v = d_k;

  static Tensor tensor(std::vector<double>& values) {
    return Tensor(values.data(), DType::float64, {1, 1, static_cast<std::int64_t>(values.size()), 1});
  }
  static Tensor row_tensor(std::vector<double>& values) {
    return Tensor(values.data(), DType::float64, {1, 1, static_cast<std::int64_t>(values.size())});
  }
  ForwardInputs inputs() { return {.q = tensor(q), .k = tensor(k), .v = tensor(v), .scale = 1.0}; }
  void forward(const Variant& variant) {
    standard_attention(variant, inputs(), {.o = tensor(o), .lse = row_tensor(lse)});
  }
  void backward(const Variant& variant, std::vector<double> d_o, std::vector<double> d_lse) {
    standard_attention_backward(variant, inputs(), {.d_o = tensor(d_o), .d_lse = row_tensor(d_lse)},
                                {.d_q = tensor(d_q), .d_k = tensor(d_k), .d_v = tensor(d_v)});
  }
};

TEST(StandardAttention, IsSoftmaxOfTwoKeys) {
  // Scores 0 and ln 3: weights 1/4 and 3/4. o = 4/4 + 3 * 8/4 = 7, lse = ln 4.
  Tiny tiny{{1}, {0, std::log(3.0)}, {4, 8}};
  tiny.forward({});
  EXPECT_NEAR(tiny.o[0], 7, 8 * kUlp);
  EXPECT_NEAR(tiny.lse[0], std::log(4.0), 4 * kUlp);

  // With d_o = 1: d_v = weights; the weights' gradients are v, 4 and 8, their mean 7; d_s = 1/4 (4 - 7) = -3/4 and
  // 3/4 (8 - 7) = 3/4; d_q = 3/4 ln 3; d_k = d_s. d_lse = 2 adds the weights twice: d_s = -1/4, 9/4.
  tiny.backward({}, {1}, {0});
  EXPECT_NEAR(tiny.d_v[0], 0.25, 2 * kUlp);
  EXPECT_NEAR(tiny.d_v[1], 0.75, 2 * kUlp);
  EXPECT_NEAR(tiny.d_q[0], 0.75 * std::log(3.0), 16 * kUlp);
  EXPECT_NEAR(tiny.d_k[0], -0.75, 16 * kUlp);
  EXPECT_NEAR(tiny.d_k[1], 0.75, 16 * kUlp);
  tiny.backward({}, {1}, {2});
  EXPECT_NEAR(tiny.d_k[0], -0.25, 16 * kUlp);
  EXPECT_NEAR(tiny.d_k[1], 2.25, 16 * kUlp);
}

TEST(StandardAttention, SinkTakesItsShareOfTheDenominator) {
  // Scores 0 and ln 3 and a sink of ln 4: weights 1/8, 3/8, and 1/2 that goes nowhere.
  Table logit("logit", DType::float64, 1);
  const Variant variant = sink([&](const At& at) { return logit(at.head); });
  Tiny tiny{{1}, {0, std::log(3.0)}, {4, 8}};
  double value = std::log(4.0), d_logit = kNaN, d_o = 1, d_lse = 3;
  ForwardInputs inputs = tiny.inputs();
  inputs.tables = {{logit, ConstTensor(&value, DType::float64, {1})}};
  standard_attention(variant, inputs, {.o = Tiny::tensor(tiny.o), .lse = Tiny::row_tensor(tiny.lse)});
  EXPECT_NEAR(tiny.o[0], 3.5, 8 * kUlp);
  EXPECT_NEAR(tiny.lse[0], std::log(8.0), 8 * kUlp);

  // delta = 1/8 4 + 3/8 8 = 3.5; d_logit = 1/2 (d_lse - delta) = -1/4; d_s = 1/8 (4 - 3.5 + 3), 3/8 (8 - 3.5 + 3).
  standard_attention_backward(
      variant, inputs,
      {.d_o = ConstTensor(&d_o, DType::float64, {1, 1, 1, 1}), .d_lse = ConstTensor(&d_lse, DType::float64, {1, 1, 1})},
      {.d_k = Tiny::tensor(tiny.d_k), .d_tables = {{logit, Tensor(&d_logit, DType::float64, {1})}}});
  EXPECT_NEAR(d_logit, -0.25, 16 * kUlp);
  EXPECT_NEAR(tiny.d_k[0], 3.5 / 8, 16 * kUlp);
  EXPECT_NEAR(tiny.d_k[1], 22.5 / 8, 32 * kUlp);
}

TEST(StandardAttention, RowsThatKeepNothingAreZero) {
  const Variant nothing_in_row_0 = keep([](const At& at) { return at.query_index > 0; });
  Tiny tiny{{5, 1}, {1, 2}, {kNaN, 3}};
  tiny.v[0] = 7;
  tiny.forward(nothing_in_row_0);
  EXPECT_EQ(tiny.o[0], 0);
  EXPECT_EQ(tiny.lse[0], -kInfinity);
  EXPECT_TRUE(std::isfinite(tiny.o[1]) && std::isfinite(tiny.lse[1]));
  tiny.backward(nothing_in_row_0, {1, 0}, {1, 0});  // only the empty row has gradients to give
  for (const auto* gradient : {&tiny.d_q, &tiny.d_k, &tiny.d_v}) {
    for (double value : *gradient) EXPECT_EQ(value, 0);
  }

  // With a sink, lse is its logit, and d_lse reaches it whole.
  Parameter logit("logit");
  const Variant with_sink = nothing_in_row_0 & sink([&](const At&) { return logit; });
  ForwardInputs inputs = tiny.inputs();
  inputs.parameters = {{logit, -2.5}};
  standard_attention(with_sink, inputs, {.o = Tiny::tensor(tiny.o), .lse = Tiny::row_tensor(tiny.lse)});
  EXPECT_EQ(tiny.o[0], 0);
  EXPECT_EQ(tiny.lse[0], -2.5);
  std::vector<double> d_o{1, 0}, d_lse{1.5, 0};
  double d_logit = kNaN;
  standard_attention_backward(
      with_sink, inputs, {.d_o = Tiny::tensor(d_o), .d_lse = Tiny::row_tensor(d_lse)},
      {.d_k = Tiny::tensor(tiny.d_k), .d_parameters = {{logit, Tensor(&d_logit, DType::float64, {})}}});
  EXPECT_EQ(d_logit, 1.5);
  EXPECT_EQ(tiny.d_k, (std::vector<double>{0, 0}));
}

TEST(StandardAttention, WithoutKeysOrQueriesThereIsNothingToDo) {
  AttentionData no_keys({.sequences = {{.s_q = 2, .s_kv = 0}}}, 1);
  standard_attention({}, no_keys.inputs, no_keys.outputs());
  for (std::int64_t i = 0; i < no_keys.o.size(); ++i) EXPECT_EQ(no_keys.o.get(i), 0);
  for (std::int64_t i = 0; i < no_keys.lse.size(); ++i) EXPECT_EQ(no_keys.lse.get(i), -kInfinity);
  standard_attention_backward({}, no_keys.inputs, no_keys.given(), no_keys.gradients());
  for (std::int64_t i = 0; i < no_keys.d_q.size(); ++i) EXPECT_EQ(no_keys.d_q.get(i), 0);

  AttentionData no_queries({.sequences = {{.s_q = 0, .s_kv = 2}}}, 1);
  EXPECT_EQ(standard_attention({}, no_queries.inputs, no_queries.outputs()).bytes_written, 0);
  standard_attention_backward({}, no_queries.inputs, no_queries.given(), no_queries.gradients());
  for (std::int64_t i = 0; i < no_queries.d_k.size(); ++i) EXPECT_EQ(no_queries.d_k.get(i), 0);
  for (std::int64_t i = 0; i < no_queries.d_v.size(); ++i) EXPECT_EQ(no_queries.d_v.get(i), 0);

  // A batch of none.
  const ForwardInputs none{.q = ConstTensor(nullptr, DType::float32, {0, 2, 3, 4}),
                           .k = ConstTensor(nullptr, DType::float32, {0, 2, 3, 4}),
                           .v = ConstTensor(nullptr, DType::float32, {0, 2, 3, 4})};
  EXPECT_EQ(standard_attention({}, none, {.o = Tensor(nullptr, DType::float32, {0, 2, 3, 4})}), StandardTraffic{});
}

TEST(StandardAttention, WhatIsRemovedNeverReachesARow) {
  // Causal over three positions; key 2 and value 2 are NaN: only row 2 may see them.
  Tiny tiny{{1, 2, 3}, {0.5, -1, kNaN}, {4, 8, kNaN}};
  tiny.forward(causal());
  EXPECT_EQ(tiny.o[0], 4);
  EXPECT_EQ(tiny.lse[0], 0.5);
  EXPECT_TRUE(std::isfinite(tiny.o[1]) && std::isfinite(tiny.lse[1]));
  EXPECT_TRUE(std::isnan(tiny.o[2]) && std::isnan(tiny.lse[2]));

  // Without a gradient from row 2 its NaN weights still make NaN: it is row 2 that is lost, and what it keeps.
  tiny.backward(causal(), {1, 1, 1}, {0, 0, 0});
  EXPECT_EQ(tiny.d_q[0], 0);
  EXPECT_TRUE(std::isfinite(tiny.d_q[1]));
  EXPECT_TRUE(std::isnan(tiny.d_q[2]));
  // With key 2 removed everywhere, NaN is nowhere.
  const Variant without_key_2 = causal() & keep([](const At& at) { return at.key_index != 2; });
  tiny.forward(without_key_2);
  tiny.backward(without_key_2, {1, 1, 1}, {1, 1, 1});
  for (const auto* numbers : {&tiny.o, &tiny.lse, &tiny.d_q, &tiny.d_k, &tiny.d_v}) {
    for (double value : *numbers) EXPECT_TRUE(std::isfinite(value));
  }
  EXPECT_EQ(tiny.d_k[2], 0);
  EXPECT_EQ(tiny.d_v[2], 0);
}

TEST(StandardAttention, ScoreOfMinusInfinityRemoves) {
  const Variant additive = score([](Expr s, const At& at) { return select(at.key_index == 1, -kInfinity, s); });
  Tiny tiny{{1}, {2, 3}, {5, kNaN}};
  tiny.forward(additive);
  EXPECT_EQ(tiny.o[0], 5);
  EXPECT_EQ(tiny.lse[0], 2);
  // For good: a later stage cannot bring it back.
  tiny.forward(additive & score([](Expr, const At&) { return Expr(1.5); }));
  EXPECT_EQ(tiny.o[0], 5);
  EXPECT_EQ(tiny.lse[0], 1.5);
  // A raw score of -inf is no stage's: its weight underflows like any other, unless a stage makes it finite.
  tiny.k[1] = -kInfinity;
  tiny.v[1] = 6;
  tiny.forward({});
  EXPECT_EQ(tiny.o[0], 5);
  tiny.forward(score([](Expr s, const At&) { return max(s, Expr(2.0)); }));
  EXPECT_EQ(tiny.o[0], 5.5);
}

TEST(StandardAttention, LowestScoresAreClamped) {
  // A whole row at finfo.min is uniform, as if it were at -2^126; beside an ordinary score its weight is 0.
  const double lowest = std::numeric_limits<float>::lowest();
  const Variant mask =
      score([&](Expr s, const At& at) { return select(at.key_index >= at.query_index, Expr(lowest), s); });
  Tiny tiny{{1, 1}, {3, 4}, {10, 20}};
  tiny.forward(mask);
  EXPECT_EQ(tiny.o[0], 15);
  EXPECT_EQ(tiny.lse[0], -0x1p126);
  EXPECT_EQ(tiny.o[1], 10);
  EXPECT_EQ(tiny.lse[1], 3);
  // Scores of -3e38 and -4e38 are both clamped: equal weights, and no gradient passes the clamp.
  tiny.q = {-1, -1};
  tiny.backward(score([](Expr s, const At&) { return s * 1e38; }), {1, 1}, {1, 1});
  EXPECT_EQ(tiny.d_k, (std::vector<double>{0, 0}));
  EXPECT_EQ(tiny.d_v, (std::vector<double>{1, 1}));
}

TEST(StandardAttention, NaNScoresAreKept) {
  Tiny tiny{{1, 1}, {1, 2}, {3, 4}};
  tiny.forward(score([](Expr s, const At& at) { return select(at.query_index == 0, log(s - 10.0), s); }));
  EXPECT_TRUE(std::isnan(tiny.o[0]) && std::isnan(tiny.lse[0]));
  EXPECT_TRUE(std::isfinite(tiny.o[1]));

  // A row of nothing but NaN still gives nothing to a key that it does not keep.
  const Variant diagonal = keep([](const At& at) { return at.query == at.key; });
  tiny.k[0] = kNaN;
  tiny.forward(diagonal);
  tiny.backward(diagonal, {1, 1}, {1, 1});
  EXPECT_TRUE(std::isnan(tiny.o[0]) && std::isnan(tiny.d_v[0]));
  EXPECT_EQ(tiny.o[1], 4);
  EXPECT_EQ(tiny.d_v[1], 1);
}

TEST(StandardAttention, NaNInARowReachesOnlyTheKeysItKeeps) {
  Tiny tiny{{kNaN, 1}, {1, 2}, {3, 4}};
  tiny.backward(causal(), {1, 1}, {0, 0});
  EXPECT_TRUE(std::isnan(tiny.d_k[0]) && std::isnan(tiny.d_v[0]));
  EXPECT_TRUE(std::isfinite(tiny.d_k[1]) && std::isfinite(tiny.d_v[1]));
  tiny.q[0] = 1;
  tiny.backward(causal(), {kNaN, 1}, {0, 0});
  EXPECT_TRUE(std::isnan(tiny.d_v[0]));
  EXPECT_TRUE(std::isfinite(tiny.d_k[1]) && std::isfinite(tiny.d_v[1]));
}

TEST(StandardAttention, EqualKeysShareTheirWeight) {
  // Equal keys: o is the mean of v, and lse is the score plus ln n, whatever the scale.
  for (double scale : {1.0, 0.0, -0.75}) {
    Tiny tiny{{2}, {3, 3, 3, 3}, {1, 2, 3, 6}};
    ForwardInputs inputs = tiny.inputs();
    inputs.scale = scale;
    standard_attention({}, inputs, {.o = Tiny::tensor(tiny.o), .lse = Tiny::row_tensor(tiny.lse)});
    EXPECT_EQ(tiny.o[0], 3);
    EXPECT_NEAR(tiny.lse[0], scale * 6 + std::log(4.0), 8 * kUlp);
  }
}

TEST(StandardAttention, ShiftingARowsScoresOnlyShiftsLse) {
  AttentionData data({.h_q = 2, .d_qk = 3, .sequences = {{.s_q = 4, .s_kv = 6}}}, 3);
  standard_attention(causal(), data.inputs, data.outputs());
  const Array o = data.o, lse = data.lse;
  const Variant shifted = causal() & score([](Expr s, const At& at) { return s + (10.0 + at.query_index); });
  standard_attention(shifted, data.inputs, data.outputs());
  for (std::int64_t i = 0; i < o.size(); ++i) EXPECT_NEAR(data.o.get(i), o.get(i), 1e-13);
  data.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
    EXPECT_NEAR(data.at_query(data.lse, i, head, row), data.at_query(lse, i, head, row) + 10 + static_cast<double>(row),
                1e-13);
  });
}

TEST(StandardAttention, DropoutScalesWhatItKeeps) {
  // v = 1 everywhere: o is (kept weights) / p_keep; with equal keys, a count of kept entries. lse ignores dropout.
  constexpr std::int64_t kKeys = 1000;
  Tiny tiny{{0, 0}, std::vector<double>(kKeys, 1), std::vector<double>(kKeys, 1)};
  ForwardInputs inputs = tiny.inputs();
  inputs.seed = 77;
  inputs.seed_offset = 5;
  const ForwardOutputs outputs{.o = Tiny::tensor(tiny.o), .lse = Tiny::row_tensor(tiny.lse)};
  standard_attention(dropout(0.25), inputs, outputs);
  for (std::int64_t row = 0; row < 2; ++row) {
    std::int64_t kept = 0;
    for (std::int64_t key = 0; key < kKeys; ++key) kept += dropout_keeps({0.75, 77, 5}, key, row, 0);
    EXPECT_NEAR(tiny.o[static_cast<std::size_t>(row)], static_cast<double>(kept) / kKeys / 0.75, 1e-12);
    EXPECT_NEAR(tiny.lse[static_cast<std::size_t>(row)], std::log(double{kKeys}), 1e-12);
    EXPECT_GT(kept, 650);
    EXPECT_LT(kept, 850);
  }
  inputs.dropout_probability = 1;  // in place of 0.25
  standard_attention(dropout(0.25), inputs, outputs);
  EXPECT_EQ(tiny.o, (std::vector<double>{0, 0}));
  inputs.dropout_probability = 0;
  standard_attention(dropout(0.25), inputs, outputs);
  EXPECT_NEAR(tiny.o[0], 1, 1e-12);
}

TEST(StandardAttention, StorageChangesNothing) {
  // The same three sequences, packed with a gap and padded, heads outside or inside: the same bits.
  Shape packed{.h_q = 4, .h_kv = 2, .d_qk = 3, .d_v = 2, .sequences = {}, .queries_packed = true, .keys_packed = true};
  packed.sequences = {{.s_q = 2, .s_kv = 5, .first_query_token = 3, .first_key_token = 0},
                      {.s_q = 3, .s_kv = 3, .first_query_token = 0, .first_key_token = 9},
                      {.s_q = 0, .s_kv = 2, .first_query_token = 5, .first_key_token = 6}};
  for (auto& sequence : packed.sequences) sequence.key_start = 1;
  AttentionData expected(packed, 11);
  const Variant variant = causal() & dropout(0.3);
  standard_attention(variant, expected.inputs, expected.outputs());
  standard_attention_backward(variant, expected.inputs, expected.given(), expected.gradients());
  for (int storage = 0; storage < 8; ++storage) {
    Shape shape = packed;
    shape.queries_packed = storage & 1, shape.keys_packed = storage & 2, shape.heads_inside = storage & 4;
    AttentionData data(shape, 11);
    standard_attention(variant, data.inputs, data.outputs());
    standard_attention_backward(variant, data.inputs, data.given(), data.gradients());
    data.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
      EXPECT_EQ(data.at_query(data.o, i, head, row, 1), expected.at_query(expected.o, i, head, row, 1));
      EXPECT_EQ(data.at_query(data.lse, i, head, row), expected.at_query(expected.lse, i, head, row));
      EXPECT_EQ(data.at_query(data.d_q, i, head, row, 2), expected.at_query(expected.d_q, i, head, row, 2));
    });
    data.for_each_key([&](std::int64_t i, const Sequence& sequence, std::int64_t head, std::int64_t row) {
      EXPECT_EQ(data.at_key(data.d_k, i, head, row, 2), expected.at_key(expected.d_k, i, head, row, 2));
      EXPECT_EQ(data.at_key(data.d_v, i, head, row, 1), expected.at_key(expected.d_v, i, head, row, 1));
      if (row < sequence.key_start) {
        EXPECT_EQ(data.at_key(data.d_v, i, head, row, 1), 0);
      }
    });
  }
}

TEST(StandardAttention, RowsOfNoSequenceAreLeftAlone) {
  // Storage of 3 query rows and 5 key rows; sequence 1 has 1 and 2 of them. The rest holds NaN, and goes on to.
  AttentionData data({.sequences = {{.s_q = 3, .s_kv = 5}, {.s_q = 1, .s_kv = 2}}}, 4);
  standard_attention({}, data.inputs, data.outputs());
  standard_attention_backward({}, data.inputs, data.given(), data.gradients());
  std::int64_t numbers = 0;
  for (std::int64_t i = 0; i < data.o.size(); ++i) numbers += !std::isnan(data.o.get(i));
  EXPECT_EQ(numbers, (3 + 1) * 2);
  EXPECT_TRUE(std::isnan(data.at_query(data.o, 1, 0, 0 + 1)));
  EXPECT_TRUE(std::isnan(data.at_query(data.lse, 1, 0, 1)));
  EXPECT_TRUE(std::isnan(data.at_key(data.d_k, 1, 0, 2)));
  EXPECT_FALSE(std::isnan(data.at_key(data.d_k, 1, 0, 1)));
}

TEST(StandardAttention, ReadsOutsideOfATableAreRefusedForKeptEntriesOnly) {
  Table bias("bias", DType::float64, 1);
  const Variant biased = score([&](Expr s, const At& at) { return s + bias(at.key_index); });
  Tiny tiny{{1}, {2, 3, 4}, {5, 6, 7}};
  std::vector<double> data{0.5, 0.25};
  ForwardInputs inputs = tiny.inputs();
  inputs.tables = {{bias, ConstTensor(data.data(), DType::float64, {2})}};
  try {
    standard_attention(biased, inputs, {.o = Tiny::tensor(tiny.o)});
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_STREQ(
        error.what(),
        "table 'bias' is read at [2] for query index 0, key index 2 of head 0, sequence 0, but its extents are "
        "[2]; expected an index inside, or a read that is declared clamped");
  }
  EXPECT_TRUE(std::isnan(tiny.o[0]));  // nothing was written
  EXPECT_NO_THROW(standard_attention(biased & keep([](const At& at) { return at.key_index < 2; }), inputs,
                                     {.o = Tiny::tensor(tiny.o)}));
  EXPECT_NO_THROW(standard_attention(score([&](Expr s, const At& at) { return s + bias.clamped(at.key_index); }),
                                     inputs, {.o = Tiny::tensor(tiny.o)}));
  const Variant bad_sink = sink([&](const At& at) { return bias(at.keys); });
  EXPECT_THROW(standard_attention(bad_sink, inputs, {.o = Tiny::tensor(tiny.o)}), Error);
}

}  // namespace
}  // namespace tilewise::reference
