// Random compositions of keeps, scores, sinks and dropout, forward.
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <random>

#include "tests/attention/oracle.h"
#include "tests/laws/random_variant.h"
#include "tilewise/error.h"
#include "tilewise/reference.h"

namespace tilewise::attention::testing {
namespace {

/// Whether results are of a size that float32 can tell apart, and whether scores that differ by rounding give results
/// that do. Random functions of the score have steps, and then there is nothing to compare.
bool is_tame(const Variant& variant, const reference::Shape& shape, const Bound& bound, std::uint64_t seed) {
  reference::AttentionData exact(shape, seed, DType::float32, DType::float64), other = exact;
  exact.inputs.tables = bound.tables;
  exact.inputs.parameters = bound.parameters;
  standard_attention(variant, exact.inputs, exact.outputs());
  const auto is_near = [&](DType precision, double factor) {
    ForwardInputs inputs = exact.inputs;
    inputs.scale = factor / std::sqrt(static_cast<double>(shape.d_qk));
    standard_attention(variant, inputs, other.outputs(), precision);
    bool near = true;
    exact.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
      const double lse = exact.at_query(exact.lse, i, head, row), found = other.at_query(other.lse, i, head, row);
      const bool keeps_nothing = std::isinf(lse) && lse < 0 && lse == found;
      near = near && (keeps_nothing || (std::fabs(lse) < 100 && std::fabs(lse - found) < 1e-4));
      for (std::int64_t c = 0; c < shape.d_v; ++c) {
        near = near &&
               std::fabs(exact.at_query(exact.o, i, head, row, c) - other.at_query(other.o, i, head, row, c)) < 1e-3;
      }
    });
    return near;
  };
  return is_near(DType::float32, 1) && is_near(DType::float64, 1 + 0x1p-20) && is_near(DType::float64, 1 - 0x1p-20);
}

TEST(RandomVariants, AreCloseForward) {
  const std::uint64_t start = std::random_device()();
  std::cout << "seed " << start << '\n';
  // Without transcendental functions, whose last bits differ between readings: a comparison with one is a step, too.
  const laws::Options options{
      .depth = 3, .nodes = 12, .transcendental = false, .infinite = false, .nan = false, .wild_ints = false};
  int compared = 0;
  Oracle forward(DType::float32, false);
  for (std::uint64_t seed = start; seed < start + 400; ++seed) {
    laws::Choices choices = laws::full_tape(seed);
    const laws::RandomVariant random = laws::random_variant(choices, options);
    const reference::Shape shape = uniform(2, 2, 1, 1 + static_cast<std::int64_t>(seed % 60), 140, 8, 4);
    Bound bound;
    for (const TableBinding& binding : random.bindings().tables) {
      bound.tables.push_back(binding);
      bound.shapes.push_back(
          {binding.table, {binding.data.extents.begin(), binding.data.extents.begin() + binding.data.rank}});
    }
    bound.parameters = random.bindings().parameters;
    try {
      Attention(random.variant).plan(plan_shape(shape, DType::float32, false, bound));
      if (!is_tame(random.variant, shape, bound, seed)) continue;
    } catch (const Error&) {
      continue;  // a read that may lie outside of its table
    }
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + to_string(random.variant));
    forward.run(random.variant, shape, bound, seed);
    ++compared;
  }
  EXPECT_GT(compared, 40);
  forward.expect_close("seed " + std::to_string(start));
}

}  // namespace
}  // namespace tilewise::attention::testing
