#include "variant/hoist.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <cstring>

#include "tests/variant/random_graph.h"
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

bool same(Type type, Value<float> a, Value<float> b) {
  switch (type) {
    case Type::boolean: return a.boolean == b.boolean;
    case Type::int32: return a.int32 == b.int32;
    case Type::real: return std::memcmp(&a.real, &b.real, sizeof(float)) == 0 || (a.real != a.real && b.real != b.real);
  }
  return false;
}

RC_GTEST_PROP(HoistLaw, ValuesOfAClassIgnoreWhatItIgnores, (std::uint64_t seed)) {
  Random random(seed);
  const Graph graph = random_graph(random, 60);
  const std::vector<Hoist> classes = hoisting_classes(graph);
  const Bound bound{{}, {}, graph.literals()};
  ScalarReading<float> here(graph, bound), there(graph, bound);
  Place place{};
  for (auto& field : place) field = random.int32();
  here.enter(place);
  here.set_score(random.real());
  const Hoist hoist = std::array{Hoist::uniform, Hoist::query, Hoist::key, Hoist::diagonal}[random.below(4)];
  const std::uint32_t step = random.bits();
  there.enter(moved(place, hoist == Hoist::query ? 0 : step,
                    hoist == Hoist::key        ? 0
                    : hoist == Hoist::diagonal ? step
                                               : random.bits()));
  there.set_score(random.real());
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (classes[id] != Hoist::uniform && classes[id] != hoist) continue;
    RC_ASSERT(same(graph[id].type, here.evaluate(id), there.evaluate(id)));
  }
}

}  // namespace
}  // namespace tilewise::variant
