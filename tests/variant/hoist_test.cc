#include "variant/hoist.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>

#include "tests/laws/random_variant.h"
#include "tests/laws/reading.h"
#include "variant/recording.h"

namespace tilewise::variant {
namespace {

/// The class of what `function` records.
template <class Function>
Hoist class_of(Function function) {
  Recording recording;
  const NodeId root = recording.node_of(function(recording.at()));
  return hoisting_classes(recording.graph())[root];
}

TEST(Hoist, LeavesHaveTheClassOfWhatTheyName) {
  EXPECT_EQ(class_of([](const At& at) { return at.query; }), Hoist::query);
  EXPECT_EQ(class_of([](const At& at) { return at.query_index; }), Hoist::query);
  EXPECT_EQ(class_of([](const At& at) { return at.query_token; }), Hoist::query);
  EXPECT_EQ(class_of([](const At& at) { return at.key; }), Hoist::key);
  EXPECT_EQ(class_of([](const At& at) { return at.key_index; }), Hoist::key);
  EXPECT_EQ(class_of([](const At& at) { return at.key_token; }), Hoist::key);
  for (Expr At::*field : {&At::queries, &At::keys, &At::batch, &At::head, &At::kv_head}) {
    EXPECT_EQ(class_of([&](const At& at) { return at.*field; }), Hoist::uniform);
  }
  EXPECT_EQ(class_of([](const At&) { return Expr(0.5); }), Hoist::uniform);
  EXPECT_EQ(class_of([](const At&) { return Expr(Parameter("slope")); }), Hoist::uniform);

  Graph graph;
  graph.add_score();
  graph.add_seed();
  EXPECT_EQ(hoisting_classes(graph), (std::vector{Hoist::entry, Hoist::entry}));
}

TEST(Hoist, DifferencesOfQueryAndKeyAreDiagonal) {
  EXPECT_EQ(class_of([](const At& at) { return at.query - at.key; }), Hoist::diagonal);
  EXPECT_EQ(class_of([](const At& at) { return at.key - at.query; }), Hoist::diagonal);
  EXPECT_EQ(class_of([](const At& at) { return (at.query + 3) - at.key; }), Hoist::diagonal);
  EXPECT_EQ(class_of([](const At& at) { return -(at.key - at.query); }), Hoist::diagonal);
  EXPECT_EQ(class_of([](const At& at) { return at.query + ~at.key; }), Hoist::diagonal);
  EXPECT_EQ(class_of([](const At& at) { return constant(2) * at.query - at.key * constant(2); }), Hoist::diagonal);
  EXPECT_EQ(class_of([](const At& at) { return (at.query << 3) - constant(8) * at.key; }), Hoist::diagonal);
  EXPECT_EQ(class_of([](const At& at) { return at.query_index - at.key_token; }), Hoist::diagonal);
  EXPECT_EQ(class_of([](const At& at) { return at.query - at.key + at.keys * at.head; }), Hoist::diagonal);
}

TEST(Hoist, FunctionsOfADiagonalStayOnIt) {
  Table bias("bias", DType::float32, 2);
  EXPECT_EQ(class_of([&](const At& at) { return 2.5 * bias(at.head, at.query - at.key); }), Hoist::diagonal);
  EXPECT_EQ(class_of([](const At& at) { return at.query >= at.key; }), Hoist::entry);
  EXPECT_EQ(class_of([](const At& at) { return at.query - at.key < 1024; }), Hoist::diagonal);
  EXPECT_EQ(class_of([](const At& at) { return exp2(to_real(at.key - at.query) / 8); }), Hoist::diagonal);
}

TEST(Hoist, CancellationNarrowsTheClass) {
  EXPECT_EQ(class_of([](const At& at) { return at.query - at.query_index; }), Hoist::uniform);
  EXPECT_EQ(class_of([](const At& at) { return (at.query - at.key) + at.key; }), Hoist::query);
  EXPECT_EQ(class_of([](const At& at) { return (at.query + at.key) - constant(2) * at.key; }), Hoist::diagonal);
  EXPECT_EQ(class_of([](const At& at) { return (at.query << 31) - (at.key << 31); }), Hoist::diagonal);
}

TEST(Hoist, MixturesBelongToTheEntry) {
  EXPECT_EQ(class_of([](const At& at) { return at.query + at.key; }), Hoist::entry);
  EXPECT_EQ(class_of([](const At& at) { return at.query * at.key; }), Hoist::entry);
  EXPECT_EQ(class_of([](const At& at) { return (at.query - at.key) * at.key; }), Hoist::entry);
  EXPECT_EQ(class_of([](const At& at) { return constant(2) * at.query - constant(3) * at.key; }), Hoist::entry);
  EXPECT_EQ(class_of([](const At& at) { return floor_divide(at.query, 64) - floor_divide(at.key, 64); }), Hoist::entry);
  // In float32 the two conversions round: equal differences need not give equal results.
  EXPECT_EQ(class_of([](const At& at) { return to_real(at.query) - to_real(at.key); }), Hoist::entry);
  // Two literals can be bound to different numbers by a later call.
  EXPECT_EQ(class_of([](const At& at) { return 2 * at.query - 2 * at.key; }), Hoist::entry);
  EXPECT_EQ(class_of([](const At& at) { return 2 * (at.query - at.key); }), Hoist::diagonal);
}

// ---- the law: what a class ignores changes nothing ----

/// Another place of the same sequence and head, its query and key moved. int32 wraps.
Place moved(const Place& place, std::uint32_t query_step, std::uint32_t key_step) {
  Place result = place;
  const auto step = [&](Coordinate c, std::uint32_t by) {
    auto& field = result[static_cast<std::size_t>(c)];
    field = static_cast<std::int32_t>(static_cast<std::uint32_t>(field) + by);
  };
  for (auto c : {Coordinate::query, Coordinate::query_index, Coordinate::query_token}) step(c, query_step);
  for (auto c : {Coordinate::key, Coordinate::key_index, Coordinate::key_token}) step(c, key_step);
  return result;
}

/// Fails a law where a value that `applies` is not the same at both places, whose scores are drawn apart.
template <class Applies>
void expect_same(const Graph& graph, const Bound& bound, const Place& place, const Place& other, laws::Choices& values,
                 const Applies& applies, const char* failure) {
  ScalarReading<float> here(graph, bound), there(graph, bound);
  here.enter(place);
  here.set_score(laws::random_score(values));
  there.enter(other);
  there.set_score(laws::random_score(values));
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (!applies(id)) continue;
    if (laws::same(graph[id].type, here.evaluate(id), there.evaluate(id))) continue;
    RC_LOG() << laws::listing(graph, id);
    RC_FAIL(failure);
  }
}

RC_GTEST_PROP(HoistLaw, ValuesOfAClassIgnoreWhatItIgnores, (laws::Choices choices, laws::Choices values)) {
  const laws::RandomVariant random = laws::random_variant(choices);
  const Graph& graph = random.variant.data().graph;
  const std::vector<Hoist> classes = hoisting_classes(graph);
  const Place place = laws::random_place(values);
  const Hoist hoist = values.any_of(std::array{Hoist::uniform, Hoist::query, Hoist::key, Hoist::diagonal});
  const std::uint32_t step = values.word();
  const std::uint32_t query_step = hoist == Hoist::query ? 0 : step;
  const std::uint32_t key_step = hoist == Hoist::key ? 0 : hoist == Hoist::diagonal ? step : values.word();

  expect_same(
      graph, bind(graph, random.bindings()), place, moved(place, query_step, key_step), values,
      [&](NodeId id) { return classes[id] == Hoist::uniform || classes[id] == hoist; },
      "a value changed with what its class ignores");
}

/// Whether what `function` records is the same along diagonals.
template <class Function>
bool follows(Function function) {
  Recording recording;
  const NodeId root = recording.node_of(function(recording.at()));
  return follows_diagonals(recording.graph(), root);
}

TEST(Hoist, ComparisonsOfCoordinatesFollowDiagonals) {
  Table document("document", DType::int32, 1);
  EXPECT_TRUE(follows([](const At& at) { return at.query >= at.key; }));
  EXPECT_TRUE(follows([](const At& at) { return at.key_index < at.query_token; }));
  EXPECT_TRUE(follows([](const At& at) { return at.query >= at.key && at.query - at.key < 1024; }));
  EXPECT_TRUE(follows([](const At& at) { return (at.query - at.key) % 3 == 0 || at.head > 2; }));
  EXPECT_TRUE(follows([](const At& at) { return at.keys > 4; }));
  EXPECT_FALSE(follows([](const At& at) { return at.query >= at.key || at.key < 4; }));
  EXPECT_FALSE(follows([](const At& at) { return at.query / 64 == at.key / 64; }));
  EXPECT_FALSE(follows([](const At& at) { return at.query > 4; }));
  EXPECT_FALSE(follows([&](const At& at) { return document(at.query) == document(at.key); }));
  // Sums may wrap around, each at an entry of its own.
  EXPECT_FALSE(follows([](const At& at) { return at.query + 64 >= at.key; }));
}

RC_GTEST_PROP(HoistLaw, WhatFollowsDiagonalsIsTheSameAlongThem, (laws::Choices choices, laws::Choices values)) {
  const laws::RandomVariant random = laws::random_variant(choices);
  const Graph& graph = random.variant.data().graph;
  // A sequence's coordinates do not wrap around.
  Place place = laws::random_place(values);
  for (auto c : {Coordinate::query, Coordinate::query_index, Coordinate::query_token, Coordinate::key,
                 Coordinate::key_index, Coordinate::key_token}) {
    auto& field = place[static_cast<std::size_t>(c)];
    field %= 1 << 20;
  }
  const std::uint32_t step = values.word() % (1 << 20);
  expect_same(
      graph, bind(graph, random.bindings()), place, moved(place, step, step), values,
      [&](NodeId id) { return follows_diagonals(graph, id); }, "a value changed along a diagonal");
}

}  // namespace
}  // namespace tilewise::variant
