#include "variant/interval_reading.h"

#include <gtest/gtest.h>

#include <cmath>

#include "variant/operations/operations.h"
#include "variant/recording.h"

namespace tilewise::variant {
namespace {

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
