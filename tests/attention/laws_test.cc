// Laws: what changes nothing but rounding, and what changes nothing at all.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "core/dropout.h"
#include "tests/attention/oracle.h"
#include "tilewise/reference.h"

namespace tilewise::attention::testing {
namespace {

using reference::Array;
using reference::AttentionData;
using reference::Shape;

/// Copies one head's rows from one array to another.
void copy_head(const AttentionData& of, const Array& from, std::int64_t from_head, Array& to, std::int64_t to_head,
               bool queries, std::int64_t columns) {
  const auto copy = [&](std::int64_t i, std::int64_t row, std::int64_t token) {
    for (std::int64_t c = 0; c < columns; ++c)
      to.set(to.place(i, to_head, row, token, c), from.get(from.place(i, from_head, row, token, c)));
  };
  for (std::int64_t i = 0; i < of.b(); ++i) {
    const Sequence& at = of.shape().sequences[static_cast<std::size_t>(i)];
    for (std::int64_t row = 0; row < (queries ? at.s_q : at.s_kv); ++row)
      copy(i, row, queries ? at.first_query_token : at.first_key_token);
  }
}

TEST(Laws, HeadsMayBePermutedWithTheirTables) {
  const Table bias("bias", DType::float32, 2), logit("logit", DType::float32, 1);
  const Variant variant = keep([](const At& at) { return at.query >= at.key; }) &
                          score([&](Expr s, const At& at) { return s + bias.clamped(at.head, at.query - at.key); }) &
                          sink([&](const At& at) { return logit(at.head); });
  const std::int64_t h_q = 6, h_kv = 3, group = 2, distances = 40;
  const std::int64_t of_kv[] = {2, 0, 1}, of_group[] = {1, 0};  // where each comes from
  for (const bool backward : {false, true}) {
    for (const std::int64_t s_q : {3, 90}) {
      const Shape shape = uniform(2, h_q, h_kv, s_q, 150, 24, 12);
      AttentionData one(shape, 5, DType::float32, DType::float32), other = one;
      const auto head_of = [&](std::int64_t head) { return of_kv[head / group] * group + of_group[head % group]; };
      std::vector<float> biases(static_cast<std::size_t>(h_q * distances)), logits(static_cast<std::size_t>(h_q));
      std::mt19937_64 random(3);
      for (float& x : biases) x = std::normal_distribution<float>()(random);
      for (float& x : logits) x = std::normal_distribution<float>()(random);
      std::vector<float> other_biases = biases, other_logits = logits;
      for (std::int64_t head = 0; head < h_q; ++head) {
        const std::int64_t from = head_of(head);
        std::copy_n(biases.begin() + from * distances, distances, other_biases.begin() + head * distances);
        other_logits[static_cast<std::size_t>(head)] = logits[static_cast<std::size_t>(from)];
        copy_head(one, one.q, from, other.q, head, true, 24);
        copy_head(one, one.d_o, from, other.d_o, head, true, 12);
        copy_head(one, one.d_lse, from, other.d_lse, head, true, 1);
      }
      for (std::int64_t head = 0; head < h_kv; ++head) {
        copy_head(one, one.k, of_kv[head], other.k, head, false, 24);
        copy_head(one, one.v, of_kv[head], other.v, head, false, 12);
      }
      const auto bind = [&](AttentionData& data, std::vector<float>& of_bias, std::vector<float>& of_logit) {
        data.inputs.q = data.q.view(), data.inputs.k = data.k.view(), data.inputs.v = data.v.view();
        data.inputs.tables = {{bias, ConstTensor(of_bias.data(), DType::float32, {h_q, distances})},
                              {logit, ConstTensor(of_logit.data(), DType::float32, {h_q})}};
        Bound bound;
        bound.tables = data.inputs.tables;
        bound.shapes = {{bias, {h_q, distances}}, {logit, {h_q}}};
        return bound;
      };
      const Bound bound = bind(one, biases, logits);
      bind(other, other_biases, other_logits);
      const Plan plan = Attention(variant).plan(plan_shape(shape, DType::float32, backward, bound));
      const VariantOutputs of_one(bound), of_other(bound);
      run(plan, one, &of_one), run(plan, other, &of_other);
      std::int64_t different = 0;
      one.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
        for (std::int64_t c = 0; c < 12; ++c)
          different += other.at_query(other.o, i, head, row, c) != one.at_query(one.o, i, head_of(head), row, c);
        different += other.at_query(other.lse, i, head, row) != one.at_query(one.lse, i, head_of(head), row);
        for (std::int64_t c = 0; c < 24 && backward; ++c)
          different += other.at_query(other.d_q, i, head, row, c) != one.at_query(one.d_q, i, head_of(head), row, c);
      });
      EXPECT_EQ(different, 0);
      if (!backward) continue;
      // The heads of a group are added up in another order.
      double gap = 0;
      one.for_each_key([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
        for (std::int64_t c = 0; c < 24; ++c)
          gap = std::max(
              gap, std::fabs(other.at_key(other.d_k, i, head, row, c) - one.at_key(one.d_k, i, of_kv[head], row, c)));
        for (std::int64_t c = 0; c < 12; ++c)
          gap = std::max(
              gap, std::fabs(other.at_key(other.d_v, i, head, row, c) - one.at_key(one.d_v, i, of_kv[head], row, c)));
      });
      EXPECT_LT(gap, 2e-5);
      for (std::int64_t head = 0; head < h_q; ++head) {
        for (std::int64_t at = 0; at < distances; ++at) {
          ASSERT_EQ(of_other.values[0][static_cast<std::size_t>(head * distances + at)],
                    of_one.values[0][static_cast<std::size_t>(head_of(head) * distances + at)]);
        }
        ASSERT_EQ(of_other.values[1][static_cast<std::size_t>(head)],
                  of_one.values[1][static_cast<std::size_t>(head_of(head))]);
      }
    }
  }
}

TEST(Laws, PackingChangesNoBit) {
  const Table distance("distance", DType::float32, 1);
  const Variant variant = keep([](const At& at) { return at.query >= at.key; }) &
                          score([&](Expr s, const At& at) { return s + distance.clamped(at.query - at.key); }) &
                          sink([](const At& at) { return to_real(at.head); }) & dropout(0.25);
  std::vector<float> values(33);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.1f * static_cast<float>(i % 7);
  Bound bound;
  bound.tables = {{distance, ConstTensor(values.data(), DType::float32, {33})}};
  bound.shapes = {{distance, {33}}};
  for (const DType dtype : {DType::float32, DType::bfloat16}) {
    Shape padded{.h_q = 4, .h_kv = 2, .d_qk = 16, .d_v = 8};
    padded.sequences = {{.s_q = 70, .s_kv = 131, .first_query_token = 0, .first_key_token = 300},
                        {.s_q = 0, .s_kv = 20, .first_query_token = 70, .first_key_token = 431},
                        {.s_q = 5, .s_kv = 60, .key_start = 11, .first_query_token = 90, .first_key_token = 0},
                        {.s_q = 129, .s_kv = 200, .first_query_token = 100, .first_key_token = 60}};
    std::vector<std::vector<double>> results;
    for (const int storage : {0, 1, 2, 3, 7}) {
      Shape shape = padded;
      shape.queries_packed = (storage & 1) != 0;
      shape.keys_packed = (storage & 2) != 0;
      shape.heads_inside = (storage & 4) != 0;
      AttentionData data(shape, 9, dtype, DType::float32);
      data.inputs.tables = bound.tables;
      data.inputs.seed = 11;
      const VariantOutputs gradients(bound);
      run(Attention(variant).plan(plan_shape(shape, dtype, true, bound)), data, &gradients);
      std::vector<double>& all = results.emplace_back(gradients.values[0]);
      data.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
        all.push_back(data.at_query(data.lse, i, head, row));
        for (std::int64_t c = 0; c < 8; ++c) all.push_back(data.at_query(data.o, i, head, row, c));
        for (std::int64_t c = 0; c < 16; ++c) all.push_back(data.at_query(data.d_q, i, head, row, c));
      });
      data.for_each_key([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
        for (std::int64_t c = 0; c < 16; ++c) all.push_back(data.at_key(data.d_k, i, head, row, c));
        for (std::int64_t c = 0; c < 8; ++c) all.push_back(data.at_key(data.d_v, i, head, row, c));
      });
      ASSERT_EQ(all.size(), results[0].size());
      EXPECT_EQ(std::memcmp(all.data(), results[0].data(), all.size() * sizeof(double)), 0) << "storage " << storage;
    }
  }
}

TEST(Laws, ShiftingTheScoresOfARowShiftsItsLseAlone) {
  const Table shift("shift", DType::float32, 1);
  const Variant causal = keep([](const At& at) { return at.query >= at.key; });
  const Variant shifted = causal & score([&](Expr s, const At& at) { return s + shift(at.query_index); });
  for (const std::int64_t s_q : {2, 75}) {
    for (const bool backward : {false, true}) {
      std::vector<float> shifts(static_cast<std::size_t>(s_q));
      for (std::size_t i = 0; i < shifts.size(); ++i) shifts[i] = static_cast<float>(i % 5) * 16 - 30;
      Bound bound;
      bound.tables = {{shift, ConstTensor(shifts.data(), DType::float32, {s_q})}};
      bound.shapes = {{shift, {s_q}}};
      const Shape shape = uniform(1, 2, 1, s_q, 140, 16, 16);
      AttentionData plain(shape, 4, DType::float32, DType::float32), moved = plain;
      plain.inputs.q = plain.q.view(), plain.inputs.k = plain.k.view(), plain.inputs.v = plain.v.view();
      moved.inputs = plain.inputs;
      moved.inputs.tables = bound.tables;
      run(Attention(causal).plan(plan_shape(shape, DType::float32, backward, {})), plain);
      const VariantOutputs gradients(bound);
      run(Attention(shifted).plan(plan_shape(shape, DType::float32, backward, bound)), moved, &gradients);
      // A score of up to 40 is rounded to 4e-6 where one of 4 is to 5e-7.
      plain.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
        EXPECT_NEAR(moved.at_query(moved.lse, i, head, row) - plain.at_query(plain.lse, i, head, row),
                    static_cast<double>(shifts[static_cast<std::size_t>(row)]), 1e-5);
        for (std::int64_t c = 0; c < 16; ++c) {
          EXPECT_NEAR(moved.at_query(moved.o, i, head, row, c), plain.at_query(plain.o, i, head, row, c), 2e-5);
          if (!backward) continue;
          EXPECT_NEAR(moved.at_query(moved.d_q, i, head, row, c), plain.at_query(plain.d_q, i, head, row, c), 5e-5);
        }
      });
      if (!backward) continue;
      plain.for_each_key([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
        for (std::int64_t c = 0; c < 16; ++c) {
          EXPECT_NEAR(moved.at_key(moved.d_k, i, head, row, c), plain.at_key(plain.d_k, i, head, row, c), 5e-5);
          EXPECT_NEAR(moved.at_key(moved.d_v, i, head, row, c), plain.at_key(plain.d_v, i, head, row, c), 5e-5);
        }
      });
      // The loss feels a shift through lse alone.
      for (std::int64_t row = 0; row < s_q; ++row) {
        double d_lse = 0;
        for (std::int64_t head = 0; head < 2; ++head) d_lse += plain.at_query(plain.d_lse, 0, head, row);
        EXPECT_NEAR(gradients.values[0][static_cast<std::size_t>(row)], d_lse, 5e-5);
      }
    }
  }
}

/// Where dropout left the weights of a call whose scores are all 0, and whose values are the identity: o shows them.
/// And where the backward pass did: with d_o the identity, d_v shows them.
struct Kept {
  std::vector<bool> forward, backward;  // [sequences, heads, queries, keys]
};

Kept kept_entries(Shape shape, DType dtype, bool backward, bool by_reference, std::uint64_t seed) {
  AttentionData data(shape, 1, dtype, DType::float32);
  data.for_each_query([&](std::int64_t i, const Sequence& at, std::int64_t head, std::int64_t row) {
    for (std::int64_t c = 0; c < shape.d_qk; ++c) data.q.set(data.q.place(i, head, row, at.first_query_token, c), 0);
    for (std::int64_t c = 0; c < shape.d_v; ++c)
      data.d_o.set(data.d_o.place(i, head, row, at.first_query_token, c), c == row ? 1 : 0);
  });
  data.for_each_key([&](std::int64_t i, const Sequence& at, std::int64_t head, std::int64_t row) {
    for (std::int64_t c = 0; c < shape.d_v && row >= at.key_start; ++c)
      data.v.set(data.v.place(i, head, row, at.first_key_token, c), c == row ? 1 : 0);
  });
  data.inputs.seed = seed;
  data.inputs.seed_offset = 3;
  const Variant variant = dropout(0.4);
  if (by_reference) {
    standard_attention(variant, data.inputs, data.outputs());
    standard_attention_backward(variant, data.inputs, data.given(), data.gradients());
  } else {
    run(Attention(variant).plan(plan_shape(shape, dtype, backward, {})), data);
  }
  Kept kept;
  data.for_each_query([&](std::int64_t i, const Sequence& at, std::int64_t head, std::int64_t row) {
    for (std::int64_t key = at.key_start; key < at.s_kv; ++key) {
      kept.forward.push_back(data.at_query(data.o, i, head, row, key) != 0);
      if (backward) kept.backward.push_back(data.at_key(data.d_v, i, head, key, row) != 0);
    }
  });
  return kept;
}

TEST(Laws, DropoutDropsTheSameEntriesInEveryPath) {
  Shape shape{.h_q = 2, .h_kv = 2, .d_qk = 4, .d_v = 140};  // d_v holds every key and every query
  shape.sequences = {{.s_q = 7, .s_kv = 133, .first_query_token = 3, .first_key_token = 140},  // few enough to decode
                     {.s_q = 101, .s_kv = 140, .key_start = 5, .first_query_token = 20, .first_key_token = 0}};
  std::vector<bool> expected;
  const Dropout by_definition(0.6, 99, 3);
  for (std::int64_t i = 0; i < 2; ++i) {
    const Sequence& at = shape.sequences[static_cast<std::size_t>(i)];
    for (std::int64_t head = 0; head < 2; ++head) {
      for (std::int64_t query = 0; query < at.s_q; ++query) {
        for (std::int64_t key = at.key_start; key < at.s_kv; ++key)
          expected.push_back(dropout_keeps(by_definition, key, query, i * 2 + head));
      }
    }
  }
  for (const int storage : {0, 1, 2, 3, 7}) {
    shape.queries_packed = (storage & 1) != 0;
    shape.keys_packed = (storage & 2) != 0;
    shape.heads_inside = (storage & 4) != 0;
    for (const DType dtype : {DType::float32, DType::bfloat16, DType::float16}) {
      EXPECT_EQ(kept_entries(shape, dtype, false, false, 99).forward, expected) << to_string(dtype);
      const Kept both = kept_entries(shape, dtype, true, false, 99);
      EXPECT_EQ(both.forward, expected) << to_string(dtype);
      EXPECT_EQ(both.backward, expected) << to_string(dtype);
    }
    const Kept by_reference = kept_entries(shape, DType::float64, true, true, 99);
    EXPECT_EQ(by_reference.forward, expected);
    EXPECT_EQ(by_reference.backward, expected);
    EXPECT_NE(kept_entries(shape, DType::float32, false, false, 100).forward, expected);
  }
}

}  // namespace
}  // namespace tilewise::attention::testing
