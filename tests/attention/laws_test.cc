// Laws: what changes nothing but rounding, and what changes nothing at all.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "core/dropout.h"
#include "tests/attention/oracle.h"
#include "tiles/merge.h"
#include "tilewise/reference.h"

namespace tilewise::attention::testing {
namespace {

using reference::Array;
using reference::AttentionData;
using reference::Shape;

/// By position alone: a slice of the keys with its offset sees what the whole sees.
std::vector<Variant> variants_by_position() {
  const Variant causal = keep([](const At& at) { return at.query >= at.key; });
  return {{},
          causal,
          causal & score([](Expr s, const At&) { return 5 * tanh(s / 5); }),
          score([](Expr s, const At& at) { return s - 0.03 * abs(at.query - at.key); }) &
              keep([](const At& at) { return at.key % 7 != 3; }),
          keep([](const At& at) { return at.key < 60; })};
}

/// Runs forward and, with `backward`, backward.
void run(const Plan& plan, AttentionData& data, const VariantOutputs* gradients = nullptr) {
  plan.forward(data.inputs, data.outputs());
  if (!plan.shape().backward) return;
  BackwardInputs given = data.given();
  given.o = data.o.view();
  given.lse = data.lse.view();
  BackwardOutputs outputs = data.gradients();
  if (gradients != nullptr) gradients->add_to(outputs);
  plan.backward(data.inputs, given, outputs);
}

/// Keys [begin, end) of a padded tensor.
ConstTensor keys_of(ConstTensor tensor, std::int64_t begin, std::int64_t end) {
  tensor.data = static_cast<const char*>(tensor.data) + begin * tensor.strides[2] * size_of(tensor.dtype);
  tensor.extents[2] = end - begin;
  return tensor;
}

/// A row's result over some keys.
struct Part {
  std::vector<float> o;
  float lse = 0;
};

/// Merges parts in a random order and grouping.
Part merge_all(std::vector<Part> parts, std::mt19937_64& random) {
  while (parts.size() > 1) {
    const std::size_t i = random() % parts.size();
    Part taken = std::move(parts[i]);
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(i));
    Part& into = parts[random() % parts.size()];
    tiles::Partial<float> all{into.o.data(), into.lse};
    tiles::merge(all, tiles::Partial<const float>{taken.o.data(), taken.lse}, static_cast<std::int64_t>(into.o.size()));
    into.lse = all.lse;
  }
  return parts[0];
}

TEST(Laws, SplitKeysMergeInAnyOrderAndGrouping) {
  std::mt19937_64 random(1);
  for (const Variant& variant : variants_by_position()) {
    for (const bool sunk : {false, true}) {
      for (const std::int64_t s_q : {1, 5, 70}) {
        const std::int64_t s_kv = 311, d = 16, heads = 2;
        const double logit = 0.75;
        const Variant whole = sunk ? variant & sink([&](const At&) { return Expr(logit); }) : variant;
        AttentionData data(uniform(1, heads, 1, s_q, s_kv, d, d), random(), DType::float32, DType::float32);
        run(Attention(whole).plan(plan_shape(data.shape(), DType::float32, false, {})), data);
        AttentionData exact(data.shape(), 0, DType::float64, DType::float64);
        standard_attention(whole, data.inputs, exact.outputs());

        // Splits of any length, empty ones among them.
        std::vector<std::int64_t> cuts{0, 0, s_kv};
        for (int i = 0; i < 6; ++i) cuts.push_back(static_cast<std::int64_t>(random() % (s_kv + 1)));
        std::ranges::sort(cuts);
        PlanShape planned = plan_shape(data.shape(), DType::float32, false, {});
        planned.query_offset = s_kv - s_q;
        const Plan plan = Attention(variant).plan(planned);
        std::vector<AttentionData> parts;
        for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
          AttentionData& part = parts.emplace_back(data.shape(), 0, DType::float32, DType::float32);
          part.inputs = data.inputs;
          part.inputs.k = keys_of(data.inputs.k, cuts[i], cuts[i + 1]);
          part.inputs.v = keys_of(data.inputs.v, cuts[i], cuts[i + 1]);
          part.inputs.sequences = {
              {.s_q = s_q, .s_kv = cuts[i + 1] - cuts[i], .query_offset = s_kv - s_q, .key_offset = cuts[i]}};
          plan.forward(part.inputs, part.outputs());
        }
        Errors of_o, of_lse;
        data.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
          std::vector<Part> of_row;
          for (AttentionData& from : parts) {
            Part& part = of_row.emplace_back();
            part.lse = static_cast<float>(from.at_query(from.lse, i, head, row));
            for (std::int64_t c = 0; c < d; ++c)
              part.o.push_back(static_cast<float>(from.at_query(from.o, i, head, row, c)));
          }
          Part merged = merge_all(std::move(of_row), random);
          tiles::Partial<float> all{merged.o.data(), merged.lse};
          if (sunk) tiles::add_sink(all, static_cast<float>(logit), d);
          of_lse.add(exact.at_query(exact.lse, i, head, row), static_cast<double>(all.lse),
                     data.at_query(data.lse, i, head, row));
          for (std::int64_t c = 0; c < d; ++c) {
            of_o.add(exact.at_query(exact.o, i, head, row, c),
                     static_cast<double>(merged.o[static_cast<std::size_t>(c)]),
                     data.at_query(data.o, i, head, row, c));
          }
        });
        // Each of up to 9 merges rounds o and lse a few times.
        for (const Errors& errors : {of_o, of_lse}) {
          EXPECT_LE(errors.largest, 2 * errors.usual_largest + 10 * 0x1p-23 * errors.magnitude) << to_string(whole);
        }
      }
    }
  }
}

/// Backward, too: with the whole's o and lse, slices of the keys have the whole's d_k and d_v, and their d_q add up.
TEST(Laws, GradientsOfSplitKeysAddUp) {
  const std::int64_t s_q = 70, s_kv = 311, d = 16;
  std::mt19937_64 random(2);
  for (const Variant& variant : variants_by_position()) {
    AttentionData whole(uniform(1, 2, 1, s_q, s_kv, d, d), random(), DType::float32, DType::float32);
    const Plan plan = Attention(variant).plan(plan_shape(whole.shape(), DType::float32, true, {}));
    run(plan, whole);
    AttentionData exact(whole.shape(), 0, DType::float64, DType::float64);
    standard_attention_backward(variant, whole.inputs, whole.given(), exact.gradients());
    std::vector<double> d_q(static_cast<std::size_t>(whole.d_q.size()));
    AttentionData part = whole;
    for (const auto& [begin, end] : {std::pair{0, 1}, {1, 130}, {130, 130}, {130, 300}, {300, 311}}) {
      ForwardInputs inputs = whole.inputs;
      inputs.k = keys_of(whole.inputs.k, begin, end);
      inputs.v = keys_of(whole.inputs.v, begin, end);
      inputs.sequences = {{.s_q = s_q, .s_kv = end - begin, .query_offset = s_kv - s_q, .key_offset = begin}};
      BackwardInputs given = whole.given();
      given.o = whole.o.view();
      given.lse = whole.lse.view();
      const auto slice = [&, from = begin, to = end](Array& array) {
        const ConstTensor view = keys_of(array.view(), from, to);
        Tensor tensor = array.tensor();
        tensor.data = const_cast<void*>(view.data);
        tensor.extents = view.extents;
        return tensor;
      };
      const BackwardOutputs outputs{.d_q = part.d_q.tensor(), .d_k = slice(part.d_k), .d_v = slice(part.d_v)};
      plan.backward(inputs, given, outputs);
      for (std::size_t i = 0; i < d_q.size(); ++i) d_q[i] += part.d_q.get(static_cast<std::int64_t>(i));
    }
    const auto judge = [&](const char* what, const Array& of_exact, const Array& of_whole, const auto& found) {
      Errors errors;
      for (std::int64_t i = 0; i < of_exact.size(); ++i) errors.add(of_exact.get(i), found(i), of_whole.get(i));
      EXPECT_LE(errors.largest, 2 * errors.usual_largest + 4 * 0x1p-23 * errors.magnitude)
          << what << ", " << to_string(variant);
    };
    judge("d_q", exact.d_q, whole.d_q, [&](std::int64_t i) { return d_q[static_cast<std::size_t>(i)]; });
    judge("d_k", exact.d_k, whole.d_k, [&](std::int64_t i) { return part.d_k.get(i); });
    judge("d_v", exact.d_v, whole.d_v, [&](std::int64_t i) { return part.d_v.get(i); });
  }
}

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
