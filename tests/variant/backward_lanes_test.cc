// Gradients of scores on lanes, against the adjoint's scalar reading.
#include "variant/lanes/backward_lanes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/variant/lane_tile.h"
#include "tilewise/zoo.h"
#include "variant/adjoint.h"

namespace tilewise::variant {
namespace {

constexpr std::int64_t kQueries = 37, kKeys = 21;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

struct Gradients {
  std::vector<float> scores, seeds, d_scores;  // [kKeys, kQueries]
  std::size_t passes = 0;                      // over the gradients of scores
};

/// The gradients of scores that the lanes give, for a variant of one score stage.
Gradients on_lanes(const Variant& variant, const Bindings& bindings, Isa isa, std::vector<float> scores,
                   std::vector<float> seeds) {
  const BackwardLanes lanes =
      lower_backward(variant, {.most_queries = kQueries, .most_keys = kKeys, .isa = isa}, false);
  const Bound bound = bind(variant.data().graph, bindings);
  Gradients found{scores, seeds, std::vector<float>(scores.size()), 0};
  if (!lanes.adjoint) {
    EXPECT_EQ(lanes.d_score, BackwardLanes::DScore::seed);
    found.d_scores = seeds;
    return found;
  }
  found.passes = lanes.adjoint->instructions(Hoist::entry).size();
  const auto strip = [](std::vector<float>& of) { return TileStrip{of.data(), kQueries}; };
  const Box box{3, 3 + kQueries, 5, 5 + kKeys};
  AlignedWorkspace before_memory(lanes.full), after_memory(*lanes.adjoint);
  LaneRunner before(lanes.full, before_memory.bytes()), after(*lanes.adjoint, after_memory.bytes());
  std::vector<std::vector<float>> left(lanes.full.outputs(), std::vector<float>(scores.size()));
  std::vector<TileStrip> outputs;
  for (auto& one : left) outputs.push_back(strip(one));
  before.enter(bound, Place{});
  before.run(box, strip(found.scores), {}, outputs);
  after.enter(bound, Place{});
  const TileStrip to[] = {strip(found.d_scores)};
  after.run(box, strip(found.scores), strip(found.seeds), to, std::span(outputs).subspan(1));
  return found;
}

/// Expects the scalar gradients within `units` of 2^-23 of each, and 0 for a seed of 0 whatever the score.
void expect_scalar_gradients(const Variant& variant, std::size_t passes, double units, const Bindings& bindings = {}) {
  const Variant::Data& data = variant.data();
  const StageAdjoint stage = adjoint(data.graph, data.stages.at(0).root);
  const Bound bound = bind(data.graph, bindings);
  Random random(20261121);
  std::vector<float> scores, seeds;
  for (std::int64_t i = 0; i < kQueries * kKeys; ++i) {
    scores.push_back(0.01f * static_cast<float>(random.between(-4000, 4000)));
    seeds.push_back(0.1f * static_cast<float>(random.between(-100, 100)));
    if (i % 7 > 1) continue;
    seeds.back() = 0;
    scores.back() = i % 7 == 0 ? kNan : random.once_in(2) ? kInf : -kInf;
  }
  for (const Isa isa : available_isas()) {
    const Gradients got = on_lanes(variant, bindings, std::min(isa, Isa::avx512), scores, seeds);
    EXPECT_EQ(got.passes, passes);
    ScalarReading<float> reading(stage.graph, bound);
    for (std::int64_t key = 0; key < kKeys; ++key) {
      for (std::int64_t query = 0; query < kQueries; ++query) {
        const auto at = static_cast<std::size_t>(key * kQueries + query);
        reading.enter(entry(Place{}, 3 + query, 5 + key));
        reading.set_score(scores[at]);
        reading.set_seed(seeds[at]);
        const float want = reading.evaluate(stage.d_score).real;
        ASSERT_LE(std::abs(got.d_scores[at] - want), units * 0x1p-23 * std::abs(want) + 1e-44)
            << "score " << scores[at] << ", seed " << seeds[at];
        if (seeds[at] == 0) {
          ASSERT_EQ(got.d_scores[at], 0);
        }
      }
    }
  }
}

TEST(BackwardLanes, ProductsOfTheSeedTakeOnePass) {
  const Parameter divisor("divisor", 0.25, 4);
  const Bindings bound{{}, {{divisor, 0.75}}};
  expect_scalar_gradients(score([](Expr s, const At&) { return s / 3; }), 1, 2);
  expect_scalar_gradients(score([](Expr s, const At& at) { return -(s * (to_real(at.query) + 0.5)); }), 1, 2);
  expect_scalar_gradients(score([&](Expr s, const At& at) { return 2.5 * (s * to_real(at.key - at.query)) / divisor; }),
                          1, 4, bound);
  expect_scalar_gradients(score([](Expr s, const At& at) { return s * to_real(at.key ^ at.query) * 0.3; }), 1, 2);
}

TEST(BackwardLanes, SoftcapTakesOnePass) {
  // 1 - tanh^2 loses what tanh^2 has in common with 1: tanh's error of 7 units, twice, is of 1 and not of the rest.
  expect_scalar_gradients(score([](Expr s, const At&) { return 30 * tanh(s / 30); }), 1, 40);
}

TEST(BackwardLanes, SumsKeepTheirOwnOrder) {
  expect_scalar_gradients(score([](Expr s, const At&) { return s * s + 0.5 * s; }), 6, 0);
}

TEST(BackwardLanes, AdditionsCostNothing) {
  expect_scalar_gradients(score([](Expr s, const At& at) { return s + to_real(at.query); }), 0, 0);
}

}  // namespace
}  // namespace tilewise::variant
