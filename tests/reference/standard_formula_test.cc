// Standard attention against the bare formula, summed over entries in long double without softmax's steps, for every
// case and for random shapes.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "core/dropout.h"
#include "tests/reference/attention_cases.h"

namespace tilewise::reference {
namespace {

constexpr std::uint64_t kDropoutSeed = 0x9876543210ABCDEF;
constexpr std::uint32_t kDropoutOffset = 3;

struct RowResult {
  std::vector<long double> o;  // [d_v]
  long double lse;
};

RowResult formula(const Case& c, const AttentionData& data, std::int64_t b, std::int64_t head, std::int64_t row) {
  const Shape& shape = data.shape();
  const Sequence& sequence = shape.sequences[static_cast<std::size_t>(b)];
  const std::int64_t kv_head = head / (shape.h_q / shape.h_kv);
  const long double scale = c.scale ? *c.scale : 1 / std::sqrt(static_cast<long double>(shape.d_qk));
  const std::int64_t query_offset =
      sequence.query_offset ? *sequence.query_offset : sequence.key_offset + sequence.s_kv - sequence.s_q;
  Where at{.query = query_offset + row,
           .key = 0,
           .query_index = row,
           .key_index = 0,
           .query_token = sequence.first_query_token + row,
           .key_token = 0,
           .queries = sequence.s_q,
           .keys = sequence.s_kv,
           .batch = b,
           .head = head,
           .kv_head = kv_head};
  const Dropout dropout(1 - c.dropout, kDropoutSeed, kDropoutOffset);
  // Scores are small, except where a whole row is at the clamp: then lse is taken from there.
  std::vector<std::optional<long double>> scores;
  long double highest = c.sink ? c.sink(c, at) : -INFINITY;
  for (std::int64_t j = 0; j < sequence.s_kv; ++j) {
    at.key = sequence.key_offset + j, at.key_index = j, at.key_token = sequence.first_key_token + j;
    long double dot = 0;
    for (std::int64_t i = 0; i < shape.d_qk; ++i) {
      if (j >= sequence.key_start)
        dot += static_cast<long double>(data.at_query(data.q, b, head, row, i)) * data.at_key(data.k, b, kv_head, j, i);
    }
    scores.push_back(j < sequence.key_start ? std::optional<long double>() : c.score(c, scale * dot, at));
    if (scores.back()) highest = std::max(highest, *scores.back());
  }
  const long double unit = highest < -1e30L ? highest : 0;
  long double denominator = c.sink ? std::exp(c.sink(c, at) - unit) : 0;
  std::vector<long double> numerator(static_cast<std::size_t>(shape.d_v), 0);
  for (std::int64_t j = 0; j < sequence.s_kv; ++j) {
    if (!scores[static_cast<std::size_t>(j)]) continue;
    const long double weight = std::exp(*scores[static_cast<std::size_t>(j)] - unit);
    denominator += weight;
    if (!dropout_keeps(dropout, j, row, b * shape.h_q + head)) continue;
    for (std::int64_t i = 0; i < shape.d_v; ++i)
      numerator[static_cast<std::size_t>(i)] += weight * dropout.scale() * data.at_key(data.v, b, kv_head, j, i);
  }
  for (long double& value : numerator) value = denominator == 0 ? 0 : value / denominator;
  return {numerator, unit + std::log(denominator)};
}

/// Largest |error| of o and of lse over all rows; where the formula says -inf, lse must too.
struct Errors {
  double o = 0, lse = 0;
};
Errors errors_of(const Case& c, AttentionData& data, DType precision) {
  c.bind(data.inputs);
  data.inputs.seed = kDropoutSeed;
  data.inputs.seed_offset = kDropoutOffset;
  standard_attention(c.variant, data.inputs, data.outputs(), precision);
  Errors errors;
  data.for_each_query([&](std::int64_t b, const Sequence&, std::int64_t head, std::int64_t row) {
    const RowResult expected = formula(c, data, b, head, row);
    for (std::int64_t i = 0; i < data.shape().d_v; ++i) {
      const double o = data.at_query(data.o, b, head, row, i);
      errors.o = std::max(errors.o, std::fabs(o - static_cast<double>(expected.o[static_cast<std::size_t>(i)])));
      if (std::isnan(o)) errors.o = INFINITY;
    }
    const double lse = data.at_query(data.lse, b, head, row);
    if (lse == expected.lse) return;
    const double size = std::max(1.0, std::fabs(static_cast<double>(expected.lse)));
    errors.lse = std::max(errors.lse, std::fabs(lse - static_cast<double>(expected.lse)) / size);
    if (!std::isfinite(lse)) errors.lse = INFINITY;
  });
  return errors;
}

/// Scores, exponentials and sums of a few terms: some tens of roundings of numbers of up to about ten.
double tolerance(DType precision) { return 640 * (precision == DType::float64 ? 0x1p-53 : 0x1p-24); }

TEST(StandardFormula, EveryCase) {
  const Shape shape = ordinary_shape();
  AttentionData data(shape, 21);
  for (const Case& c : attention_cases(shape, 22)) {
    for (DType precision : {DType::float64, DType::float32}) {
      const Errors errors = errors_of(c, data, precision);
      EXPECT_LE(errors.o, tolerance(precision)) << c.name << " in " << to_string(precision);
      EXPECT_LE(errors.lse, tolerance(precision)) << c.name << " in " << to_string(precision);
    }
  }
}

RC_GTEST_PROP(StandardFormula, RandomShapes, (std::uint64_t seed)) {
  const Shape shape = random_shape(seed);
  AttentionData data(shape, seed + 1);
  const auto cases = attention_cases(shape, seed + 2);
  const Case& c = cases[seed % cases.size()];
  RC_LOG() << c.name << std::endl;
  const Errors errors = errors_of(c, data, DType::float64);
  RC_ASSERT(errors.o <= tolerance(DType::float64));
  RC_ASSERT(errors.lse <= tolerance(DType::float64));
}

}  // namespace
}  // namespace tilewise::reference
