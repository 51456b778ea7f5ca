// The law of split keys: results over slices of the keys merge, in any order and grouping, to those over all of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/attention/oracle.h"
#include "tiles/merge.h"
#include "tilewise/reference.h"

namespace tilewise::attention::testing {
namespace {

using reference::Array;
using reference::AttentionData;

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

TEST(SplitKeys, MergeInAnyOrderAndGrouping) {
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
TEST(SplitKeys, HaveGradientsThatAddUp) {
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
      const auto slice = [&, from = begin, to = end](Array& array) {
        const ConstTensor view = keys_of(array.view(), from, to);
        Tensor tensor = array.tensor();
        tensor.data = const_cast<void*>(view.data);
        tensor.extents = view.extents;
        return tensor;
      };
      const BackwardOutputs outputs{.d_q = part.d_q.tensor(), .d_k = slice(part.d_k), .d_v = slice(part.d_v)};
      plan.backward(inputs, whole.given_with_outputs(), outputs);
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

}  // namespace
}  // namespace tilewise::attention::testing
