// Tapes: the shortened programs by which a descent goes on, against the whole program.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "tests/variant/random_graph.h"
#include "variant/interval_reading.h"
#include "variant/scalar.h"

namespace tilewise::variant {
namespace {

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

}  // namespace
}  // namespace tilewise::variant
