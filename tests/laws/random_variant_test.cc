// What is random must also be interesting: that is measured here, so that the other laws test something.
#include "tests/laws/random_variant.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "variant/operations/operations.h"
#include "variant/scalar.h"

namespace tilewise::laws {
namespace {

using namespace variant;  // NOLINT(google-build-using-namespace): the test looks into graphs

constexpr int kSamples = 4000;

TEST(RandomVariants, EveryOperationOccurs) {
  std::set<std::string_view> missing;
  for (const Info& info : kInfo) missing.insert(info.name);
  for (std::uint64_t seed = 0; seed < kSamples; ++seed) {
    Choices choices = full_tape(seed);
    const Variant variant = random_variant(choices).variant;
    for (const Node& node : variant.data().graph.nodes()) {
      if (node.kind == Kind::operation) missing.erase(kInfo[static_cast<std::size_t>(node.index)].name);
    }
  }
  EXPECT_TRUE(missing.empty()) << "first of " << missing.size() << ": " << *missing.begin();
}

TEST(RandomVariants, ExpressionsAreLargeEnoughToInteract) {
  // Over tapes as RapidCheck draws them, short ones included.
  std::size_t nodes = 0, variants = 0;
  rc::Random source(1);
  for (int size = 0; size < 100; ++size) {
    for (int i = 0; i < 10; ++i, ++variants) {
      Choices choices = tapes()(source.split(), size).value();
      nodes += random_variant(choices).variant.data().graph.size();
    }
  }
  EXPECT_GT(nodes, 20 * variants);
}

TEST(RandomVariants, EveryKindOfTableAndLeafOccurs) {
  std::set<int> dtypes, ranks;
  int clamped = 0, inside = 0, frozen = 0, declared = 0, sinks = 0, dropouts = 0, shared = 0, composed = 0;
  std::set<Kind> kinds;
  for (std::uint64_t seed = 0; seed < kSamples; ++seed) {
    Choices choices = full_tape(seed);
    const Variant variant = random_variant(choices).variant;
    const Graph& graph = variant.data().graph;
    std::vector<int> uses(graph.size(), 0);
    for (const Node& node : graph.nodes()) {
      kinds.insert(node.kind);
      for (NodeId operand : node.inputs()) ++uses[operand];
      if (node.kind == Kind::read) ++(node.clamped ? clamped : inside);
    }
    for (NodeId id = 0; id < graph.size(); ++id) shared += graph[id].kind == Kind::literal && uses[id] > 1;
    for (const Table& table : graph.tables()) {
      dtypes.insert(static_cast<int>(table.dtype()));
      ranks.insert(table.rank());
      frozen += table.frozen_data().has_value();
      declared += table.has_declared_range();
    }
    sinks += variant.has_sink();
    dropouts += variant.has_dropout();
    composed += variant.data().stages.size() > 1;
  }
  EXPECT_EQ(dtypes.size(), 8u);  // all but int8
  EXPECT_EQ(ranks, (std::set{1, 2, 3, 4}));
  EXPECT_EQ(kinds.size(), 7u);  // all but the seed of adjoints
  for (int count : {clamped, inside, frozen, declared, sinks, dropouts, shared, composed})
    EXPECT_GT(count, kSamples / 50);
}

TEST(RandomVariants, MostScoresAreFiniteAndManyKeepsUndecided) {
  int scores = 0, finite = 0, moved = 0, keeps = 0, undecided = 0;
  for (std::uint64_t seed = 0; seed < kSamples; ++seed) {
    Choices choices = full_tape(seed), values = full_tape(~seed);
    const RandomVariant random = random_variant(choices);
    const Graph& graph = random.variant.data().graph;
    const Bound bound = bind(graph, random.bindings());
    ScalarReading<float> reading(graph, bound);
    for (const Stage& stage : random.variant.data().stages) {
      std::set<double> results;
      bool all_finite = true;
      for (int i = 0; i < 16; ++i) {
        reading.enter(random_place(values));
        reading.set_score(random_score(values));
        const Value<float> value = reading.evaluate(stage.root);
        const double result = stage.kind == Stage::Kind::keep ? value.boolean : value.real;
        if (!std::isnan(result)) results.insert(result);
        all_finite = all_finite && (stage.kind == Stage::Kind::keep || std::isfinite(value.real));
      }
      if (stage.kind == Stage::Kind::keep) {
        ++keeps;
        undecided += results.size() > 1;
      } else {
        ++scores;
        finite += all_finite;
        moved += results.size() > 1;
      }
    }
  }
  RecordProperty("keeps_undecided_percent", 100 * undecided / keeps);
  RecordProperty("scores_finite_percent", 100 * finite / scores);
  EXPECT_GT(undecided, keeps / 3) << " of " << keeps;
  EXPECT_GT(finite, scores / 2) << " of " << scores;
  EXPECT_GT(moved, scores / 2) << " of " << scores;
}

}  // namespace
}  // namespace tilewise::laws
