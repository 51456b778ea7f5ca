#include "variant/interval_reading.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <cstdio>

#include "tests/variant/random_graph.h"
#include "variant/operations/operations.h"
#include "variant/recording.h"

namespace tilewise::variant {
namespace {

double to_double(Type type, Value<float> value) {
  return type == Type::boolean ? value.boolean : type == Type::int32 ? value.int32 : static_cast<double>(value.real);
}
double to_double(Type type, Value<double> value) {
  return type == Type::boolean ? value.boolean : type == Type::int32 ? value.int32 : value.real;
}

/// Whether an interval covers a value of either reading.
bool covers(const Interval& bounds, double value) {
  return std::isnan(value) ? bounds.may_be_nan : bounds.contains(value);
}

/// What `function` records, with a reading of its value.
struct Recorded {
  template <class Function>
  explicit Recorded(Function function, std::vector<TableBinding> tables = {}) {
    Recording recording;
    const At at = recording.at();
    const Expr score = recording.handle(recording.graph().add_score());
    root = recording.node_of(function(score, at));
    graph = recording.graph();
    bound = bind(graph, {.tables = std::move(tables), .parameters = {}});
    slots = bounds_of(graph, bound);
  }

  Interval over(const Box& box, const Problem& problem = Problem::uniform(2, 4, 2, 100, 100), std::int64_t sequence = 1,
                std::int64_t head = 3, Interval score = kAnyReal) const {
    IntervalProgramBuilder builder(graph, slots);
    const Register result = builder.add(root, builder.add_known(score));
    const IntervalProgram program = builder.finish();
    IntervalReading reading(program);
    reading.enter(problem, sequence, head);
    reading.evaluate(std::span(&box, 1));
    return reading.value(result);
  }

  Graph graph;
  NodeId root = kNoNode;
  Bound bound;
  SlotBounds slots;
};

TEST(IntervalReading, CoordinatesFollowTheProblem) {
  const std::int64_t s_q[] = {5, 7}, s_kv[] = {9, 20};
  const Problem problem = Problem::packed(4, 2, s_q, s_kv);
  const Box box{2, 4, 10, 15};
  const auto bounds_of_field = [&](Expr At::*field) {
    return Recorded([&](Expr, const At& at) { return at.*field; }).over(box, problem, 1, 3);
  };
  EXPECT_EQ(bounds_of_field(&At::query), (Interval{13 + 2, 13 + 3, false}));  // query_offset = 20 - 7
  EXPECT_EQ(bounds_of_field(&At::key), (Interval{10, 14, false}));
  EXPECT_EQ(bounds_of_field(&At::query_index), (Interval{2, 3, false}));
  EXPECT_EQ(bounds_of_field(&At::key_index), (Interval{10, 14, false}));
  EXPECT_EQ(bounds_of_field(&At::query_token), (Interval{5 + 2, 5 + 3, false}));
  EXPECT_EQ(bounds_of_field(&At::key_token), (Interval{9 + 10, 9 + 14, false}));
  EXPECT_EQ(bounds_of_field(&At::queries), single(7));
  EXPECT_EQ(bounds_of_field(&At::keys), single(20));
  EXPECT_EQ(bounds_of_field(&At::batch), single(1));
  EXPECT_EQ(bounds_of_field(&At::head), single(3));
  EXPECT_EQ(bounds_of_field(&At::kv_head), single(1));
}

TEST(IntervalReading, DecidesComparisons) {
  const Recorded causal([](Expr, const At& at) { return at.query >= at.key; });
  EXPECT_EQ(causal.over({50, 60, 0, 51}), single(1));
  EXPECT_EQ(causal.over({50, 60, 60, 70}), single(0));
  EXPECT_EQ(causal.over({50, 60, 50, 61}), kUnknown);
}

TEST(IntervalReading, IntegersThatMayWrapAreUnknown) {
  const Recorded sum([](Expr, const At& at) { return at.query + std::numeric_limits<std::int32_t>::max(); });
  EXPECT_EQ(sum.over({0, 1, 0, 1}), single(2147483647));
  EXPECT_EQ(sum.over({0, 2, 0, 1}), kAnyInt);
}

TEST(IntervalReading, DivisionByZeroHasItsMeaning) {
  const Recorded quotient([](Expr, const At& at) { return floor_divide(at.query, at.key); });
  EXPECT_TRUE(covers(quotient.over({7, 8, 0, 1}), 0));
  EXPECT_TRUE(covers(quotient.over({7, 8, 0, 3}), 7));
  const Recorded remainder([](Expr, const At& at) { return at.query % at.key; });
  EXPECT_TRUE(covers(remainder.over({7, 8, 0, 1}), 7));
  const Recorded real([](Expr, const At& at) { return to_real(at.query) / to_real(at.key); });
  EXPECT_TRUE(covers(real.over({0, 1, 0, 1}), std::nan("")));
  EXPECT_TRUE(covers(real.over({1, 2, 0, 1}), kUnbounded));
}

TEST(IntervalReading, NanMakersSayThatTheyMayBeNan) {
  EXPECT_TRUE(Recorded([](Expr, const At& at) { return log(at.query - 5); }).over({0, 10, 0, 1}).may_be_nan);
  EXPECT_TRUE(Recorded([](Expr, const At& at) { return sqrt(at.query - 5); }).over({0, 10, 0, 1}).may_be_nan);
  const Interval any_finite{-1e30, 1e30, false};
  const Recorded difference([](Expr s, const At&) { return s * 1e30 - s * 1e30; });
  EXPECT_TRUE(difference.over({0, 1, 0, 1}, Problem::uniform(2, 4, 2, 9, 9), 0, 0, any_finite).may_be_nan);
}

TEST(IntervalReading, TablesAreBoundedByWhatABoxReads) {
  const std::int32_t documents[] = {0, 0, 0, 1, 1, 2, 2, 2};
  const Table table("documents", DType::int32, 1);
  const Recorded same([&](Expr, const At& at) { return table(at.query) == table(at.key); },
                      {{table, ConstTensor(documents, DType::int32, {8})}});
  const Problem problem = Problem::uniform(1, 1, 1, 8, 8);
  EXPECT_EQ(same.over({0, 3, 0, 3}, problem, 0, 0), single(1));
  EXPECT_EQ(same.over({0, 3, 3, 8}, problem, 0, 0), single(0));
  EXPECT_EQ(same.over({0, 4, 0, 3}, problem, 0, 0), kUnknown);
}

TEST(IntervalReading, IndicesOutsideReadTheNearestElement) {
  const float values[] = {3, 1, 4, 1, 5};
  const Table table("values", DType::float32, 1);
  const Recorded read([&](Expr, const At& at) { return table.clamped(at.query - at.key); },
                      {{table, ConstTensor(values, DType::float32, {5})}});
  EXPECT_EQ(read.over({0, 1, 50, 60}), single(3));
  EXPECT_EQ(read.over({90, 99, 0, 1}), single(5));
  EXPECT_EQ(read.over({0, 3, 0, 1}), (Interval{1, 4, false}));
}

TEST(IntervalReading, EmptyTableReadsAsZero) {
  const Table table("values", DType::float32, 2);
  const Recorded read([&](Expr, const At& at) { return table(at.query, at.key); },
                      {{table, ConstTensor(nullptr, DType::float32, {4, 0})}});
  EXPECT_EQ(read.over({0, 4, 0, 4}), single(0));
}

TEST(IntervalReading, LanesAreIndependent) {
  const Recorded difference([](Expr, const At& at) { return at.query - at.key; });
  IntervalProgramBuilder builder(difference.graph, difference.slots);
  const Register result = builder.add(difference.root);
  const IntervalProgram program = builder.finish();
  IntervalReading reading(program);
  reading.enter(Problem::uniform(1, 1, 1, 100, 100), 0, 0);
  const Box boxes[] = {{0, 1, 0, 1}, {0, 10, 0, 10}, {50, 60, 0, 1}, {0, 1, 99, 100}};
  reading.evaluate(boxes);
  EXPECT_EQ(reading.value(result, 0), single(0));
  EXPECT_EQ(reading.value(result, 1), (Interval{-9, 9, false}));
  EXPECT_EQ(reading.value(result, 2), (Interval{50, 59, false}));
  EXPECT_EQ(reading.value(result, 3), single(-99));
}

TEST(IntervalReading, ScoresMayDifferBetweenRoots) {
  const Recorded twice([](Expr s, const At& at) { return s * 2 + at.query; });
  IntervalProgramBuilder builder(twice.graph, twice.slots);
  const Register one = builder.add(twice.root, builder.add_known({-1, 1, false}));
  const Register two = builder.add(twice.root, builder.add_known({5, 6, false}));
  const IntervalProgram program = builder.finish();
  IntervalReading reading(program);
  reading.enter(Problem::uniform(1, 1, 1, 100, 100), 0, 0);
  const Box box{10, 11, 0, 1};
  reading.evaluate(std::span(&box, 1));
  EXPECT_EQ(reading.value(one), (Interval{8, 12, false}));
  EXPECT_EQ(reading.value(two), (Interval{20, 22, false}));
}

RC_GTEST_PROP(IntervalLaw, CoversEveryScalarValueOfItsBox, ()) {
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  RC_LOG() << "seed " << seed << "\n";
  Random random(seed);
  std::vector<float> reals(7 * 9);
  for (float& value : reals) value = random.real();
  std::vector<std::int32_t> ints(40);
  for (std::int32_t& value : ints) value = random.int32();
  const std::uint8_t bools[] = {0, 1, 1, 0, 1};
  const Table real_table("reals", DType::float32, 2), int_table("ints", DType::int32, 1),
      bool_table("bools", DType::boolean, 1);
  const std::vector<TableBinding> bindings = {{real_table, ConstTensor(reals.data(), DType::float32, {7, 9})},
                                              {int_table, ConstTensor(ints.data(), DType::int32, {40})},
                                              {bool_table, ConstTensor(bools, DType::boolean, {5})}};
  const Graph graph = random_graph(random, 12, {real_table, int_table, bool_table});
  Bindings used;
  for (const TableBinding& binding : bindings) {
    const auto& tables = graph.tables();
    if (std::find(tables.begin(), tables.end(), binding.table) != tables.end()) used.tables.push_back(binding);
  }
  const Bound bound = bind(graph, used);
  const SlotBounds slots = bounds_of(graph, bound);

  Problem problem = Problem::uniform(2, 4, 2, 40, 50);
  problem.sequences[1].query_offset = random.once_in(2) ? random.between(-1000, 1000) : random.int32() / 2;
  const std::int64_t head = random.between(0, 3), query = random.between(0, 39), key = random.between(0, 49);
  const Box box{query, std::min<std::int64_t>(query + random.between(1, 8), 40), key,
                std::min<std::int64_t>(key + random.between(1, 8), 50)};
  const float score_center = random.once_in(4) ? 0 : static_cast<float>(random.between(-100, 100)) / 8;
  const Interval score =
      random.once_in(4) ? Interval{-kUnbounded, kUnbounded, true} : Interval{score_center - 1, score_center + 1, false};

  IntervalProgramBuilder builder(graph, slots);
  const Register score_register = builder.add_known(score);
  std::vector<Register> registers;
  for (NodeId id = 0; id < graph.size(); ++id) registers.push_back(builder.add(id, score_register));
  const IntervalProgram program = builder.finish();
  IntervalReading reading(program);
  reading.enter(problem, 1, head);
  reading.evaluate(std::span(&box, 1));

  ScalarReading<float> narrow(graph, bound);
  ScalarReading<double> wide(graph, bound);
  for (std::int64_t q = box.query_begin; q < box.query_end; ++q) {
    for (std::int64_t k = box.key_begin; k < box.key_end; ++k) {
      const Place place = place_of(problem, 1, head, q, k);
      narrow.enter(place);
      wide.enter(place);
      const float s = score.may_be_nan ? random.real() : score_center + static_cast<float>(random.between(-8, 8)) / 8;
      narrow.set_score(s);
      wide.set_score(s);
      for (NodeId id = 0; id < graph.size(); ++id) {
        const Type type = graph[id].type;
        for (const double value : {to_double(type, narrow.evaluate(id)), to_double(type, wide.evaluate(id))}) {
          const Interval& bounds = reading.value(registers[id]);
          if (covers(bounds, value)) continue;
          const char* name = graph[id].kind == Kind::operation
                                 ? kInfo[static_cast<std::size_t>(graph[id].index)].name.data()
                                 : "a leaf or read";
          char message[200];
          std::snprintf(message, sizeof message, "node %u, %s, is %.17g, outside [%.17g, %.17g]%s", id, name, value,
                        bounds.low, bounds.high, bounds.may_be_nan ? " or NaN" : "");
          RC_FAIL(message);
        }
      }
    }
  }
}

/// The bools of a graph, as the factors of what a program is for.
std::vector<NodeId> bools_of(const Graph& graph) {
  std::vector<NodeId> result;
  for (NodeId id = 0; id < graph.size(); ++id)
    if (graph[id].type == Type::boolean && graph[id].kind == Kind::operation) result.push_back(id);
  return result;
}

/// Bounds of the conjunction of what a reading still wants.
Interval conjunction(const IntervalReading& reading, std::size_t lane) {
  Interval result = single(1);
  for (const Register number : reading.wanted()) {
    const Interval& value = reading.value(number, lane);
    result = {std::min(result.low, value.low), std::min(result.high, value.high), false};
  }
  return result;
}

RC_GTEST_PROP(IntervalLaw, TapesSayNoLessInsideTheirBox, ()) {
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  RC_LOG() << "seed " << seed << "\n";
  Random random(seed);
  const std::int32_t numbers[] = {3, -1, 4, 1, -5, 9, 2, 6};
  const std::uint8_t flags[] = {0, 1, 1, 0, 1};
  const Table table("ints", DType::int32, 1), flag_table("bools", DType::boolean, 1);
  const std::vector<TableBinding> bindings = {{table, ConstTensor(numbers, DType::int32, {8})},
                                              {flag_table, ConstTensor(flags, DType::boolean, {5})}};
  Graph graph = random_graph(random, 40, {table, flag_table});
  Bindings used;
  for (const TableBinding& binding : bindings) {
    const auto& tables = graph.tables();
    if (std::find(tables.begin(), tables.end(), binding.table) != tables.end()) used.tables.push_back(binding);
  }
  const Bound bound = bind(graph, used);
  const SlotBounds slots = bounds_of(graph, bound);
  const std::vector<NodeId> bools = bools_of(graph);
  IntervalProgramBuilder builder(graph, slots);
  const Register score = builder.add_known({-1, 1, false});
  std::vector<Register> wanted;
  std::vector<NodeId> chosen;
  for (int i = 0; i < 3 && !bools.empty(); ++i) chosen.push_back(bools[random.below(bools.size())]);
  for (const NodeId node : chosen) wanted.push_back(builder.add(node, score));
  IntervalProgram program = builder.finish();
  program.keep_only(wanted);

  const Problem problem = Problem::uniform(1, 2, 1, 64, 64);
  IntervalReading whole(program), shortened(program);
  whole.enter(problem, 0, 1);
  shortened.enter(problem, 0, 1);
  ScalarReading<float> scalar(graph, bound);
  Box box{0, 64, 0, 64};
  while (box.entries() > 1) {
    shortened.evaluate(std::span(&box, 1));
    const Tape tape = shortened.tape_inside(0);
    // A descent looks elsewhere meanwhile.
    const Box elsewhere{random.between(0, 30), random.between(31, 64), random.between(0, 30), random.between(31, 64)};
    shortened.use(0);
    shortened.evaluate(std::span(&elsewhere, 1));
    shortened.use(tape);
    // Some box inside, in either half along both axes.
    const std::int64_t rows = (box.query_end - box.query_begin + 1) / 2,
                       columns = (box.key_end - box.key_begin + 1) / 2;
    box.query_begin = random.once_in(2) ? box.query_begin : box.query_end - rows;
    box.query_end = box.query_begin + rows;
    box.key_begin = random.once_in(2) ? box.key_begin : box.key_end - columns;
    box.key_end = box.key_begin + columns;

    shortened.evaluate(std::span(&box, 1));
    whole.evaluate(std::span(&box, 1));
    const Interval found = conjunction(shortened, 0), expected = conjunction(whole, 0);
    RC_ASSERT(found.low >= expected.low);
    RC_ASSERT(found.high <= expected.high);
    scalar.enter(place_of(problem, 0, 1, box.query_begin, box.key_begin));
    bool value = true;
    for (const NodeId node : chosen) value = value && scalar.evaluate(node).boolean;
    RC_ASSERT(found.contains(value ? 1 : 0));
  }
}

TEST(Power, OfAWholeExponentIsBoundedOnBothSidesOfZero) {
  const auto power = [](double low, double high, double exponent) {
    return Power::interval(Type::real, {low, high, false}, single(exponent));
  };
  // Widened by at most 8 units in the last place, and rounded outward.
  const auto expect_close = [](const Interval& given, double low, double high) {
    EXPECT_TRUE(given.low <= low && given.low >= low - 1e-3) << given.low;
    EXPECT_TRUE(given.high >= high && given.high <= high + 1e-3) << given.high;
    EXPECT_FALSE(given.may_be_nan);
  };
  expect_close(power(-3, 5, 2), 0, 25);
  expect_close(power(-5, -3, 2), 9, 25);
  expect_close(power(-3, 5, 3), -27, 125);
  EXPECT_EQ(power(-3, 5, 0.5), kAnyReal);
  EXPECT_EQ(power(-3, 5, -2), kAnyReal);
}

}  // namespace
}  // namespace tilewise::variant
