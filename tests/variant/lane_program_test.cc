// Lane programs on tiles of any size, in both layouts, on every instruction set that this machine has: equal to the
// scalar reading entry by entry.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "core/half.h"
#include "tests/refusal.h"
#include "tests/variant/lane_tile.h"

namespace tilewise::variant {
namespace {

/// Tables of every dtype and rank, with negative, zero and wide strides, and their data.
class RandomTables {
 public:
  explicit RandomTables(Random& random) {
    int number = 0;
    for (auto dtype : {DType::float64, DType::float32, DType::float16, DType::bfloat16, DType::int64, DType::int32,
                       DType::uint8, DType::boolean}) {
      add(random, dtype, 1 + static_cast<int>(random.below(4)), number++);
    }
  }
  const std::vector<Table>& tables() const { return tables_; }

  /// The bindings of those that a graph reads.
  Bindings bindings(const Graph& graph) const {
    Bindings bindings;
    for (const Table& table : graph.tables()) {
      const auto place = std::find(tables_.begin(), tables_.end(), table) - tables_.begin();
      bindings.tables.push_back({table, data_[static_cast<std::size_t>(place)]});
    }
    return bindings;
  }

 private:
  void add(Random& random, DType dtype, int rank, int number) {
    tables_.emplace_back("table" + std::to_string(number), dtype, rank);
    std::vector<std::int64_t> extents, strides;
    std::int64_t size = 1, first = 0;
    for (int axis = 0; axis < rank; ++axis) {
      extents.push_back(random.once_in(40) ? 0 : random.between(1, 9));
      const std::int64_t stride = size * (1 + static_cast<std::int64_t>(random.below(2)));
      strides.push_back(random.once_in(6) ? 0 : random.once_in(3) ? -stride : stride);
      if (strides.back() < 0) first += stride * (std::max<std::int64_t>(extents.back(), 1) - 1);
      size = stride * std::max<std::int64_t>(extents.back(), 1);
    }
    auto bytes = std::make_unique<std::byte[]>(static_cast<std::size_t>(size * size_of(dtype)));
    for (std::int64_t i = 0; i < size; ++i) store(bytes.get() + i * size_of(dtype), dtype, random);
    data_.emplace_back(bytes.get() + first * size_of(dtype), dtype, std::span<const std::int64_t>(extents),
                       std::span<const std::int64_t>(strides));
    bytes_.push_back(std::move(bytes));
  }
  static void store(std::byte* to, DType dtype, Random& random) {
    const auto put = [to](auto value) { std::memcpy(to, &value, sizeof value); };
    switch (dtype) {
      case DType::float64: return put(static_cast<double>(random.real()) * 1.0000001);
      case DType::float32: return put(random.real());
      case DType::float16: return put(Float16(random.real()));
      case DType::bfloat16: return put(Bfloat16(random.real()));
      case DType::int64: return put(std::int64_t{random.int32()});
      case DType::int32: return put(random.int32());
      case DType::boolean: return put(static_cast<std::uint8_t>(random.below(3)));
      default: return put(static_cast<std::uint8_t>(random.bits()));
    }
  }

  std::vector<Table> tables_;
  std::vector<ConstTensor> data_;
  std::vector<std::unique_ptr<std::byte[]>> bytes_;
};

/// A random graph with score and seed, the roots that a program computes, and what it is bound to.
struct Problem {
  Problem(Random& random, Chosen chosen)
      : tables(random),
        graph(random_graph(random, 50, tables.tables(), chosen)),
        bound(bind(graph, tables.bindings(graph))) {
    roots.push_back(static_cast<NodeId>(graph.size() - 1));
    for (int i = 0; i < 3; ++i) roots.push_back(static_cast<NodeId>(random.below(graph.size())));
    roots.push_back(roots[1]);
    origin = random_origin(random);
  }

  RandomTables tables;
  Graph graph;
  Bound bound;
  std::vector<NodeId> roots;
  Place origin;
};

LaneOptions with_random_windows(Random& random, LaneOptions options) {
  if (random.once_in(2)) options.query_window = options.most_queries + random.between(0, 50);
  if (random.once_in(2)) options.key_window = options.most_keys + random.between(0, 50);
  return options;
}

RC_GTEST_PROP(LaneProgramLaw, ExactGraphsHaveTheScalarReadingsBits, (std::uint64_t seed)) {
  Random random(seed);
  Problem problem(random, Chosen::exact);
  const std::int64_t most = random.once_in(10) ? 70 : 20;
  const LaneProgram program(problem.graph, problem.roots, with_random_windows(random, random_options(random, most)));
  AlignedWorkspace workspace(program);
  LaneRunner runner(program, workspace.bytes());
  runner.enter(problem.bound, problem.origin);
  ScalarReading<float> scalar(problem.graph, problem.bound);

  Box box = random_box(random, most);
  for (int run = 0; run < 3; ++run) {
    Tile tile(random, box, program.options().layout, problem.roots.size());
    runner.run(tile.box, tile.score.strip(), tile.seed.strip(), tile.outputs());
    for (std::int64_t o = 0; o < tile.outer; ++o) {
      for (std::int64_t i = 0; i < tile.inner; ++i) {
        scalar.enter(entry(problem.origin, tile.query(o, i), tile.key(o, i)));
        scalar.set_score(std::bit_cast<float>(tile.score.at(o, i)));
        scalar.set_seed(std::bit_cast<float>(tile.seed.at(o, i)));
        for (std::size_t r = 0; r < problem.roots.size(); ++r) {
          const Type type = problem.graph[problem.roots[r]].type;
          RC_ASSERT(same_word(type, tile.results[r].at(o, i), word_of(type, scalar.evaluate(problem.roots[r]))));
        }
      }
    }
    for (const auto& result : tile.results) RC_ASSERT(result.is_guarded());
    // The next tile shares the queries, the keys, or neither, as a kernel's walk does.
    const Box next = random_box(random, most);
    if (random.once_in(3)) {
      box = next;
    } else if (random.once_in(2)) {
      box.key_begin = next.key_begin;
      box.key_end = next.key_end;
    } else {
      box.query_begin += 3;
      box.query_end += 3;
      if (random.once_in(2)) ++box.key_begin;
      box.key_end += box.key_begin == box.key_end ? 1 : 0;
    }
  }
}

/// Whether a random graph's results have the same bits with hoisting and without.
bool hoisting_changes_nothing(std::uint64_t seed) {
  Random random(seed);
  Problem problem(random, Chosen::all);
  LaneOptions options = with_random_windows(random, random_options(random, 40));
  const LaneProgram hoisted(problem.graph, problem.roots, options);
  options.hoist = false;
  const LaneProgram plain(problem.graph, problem.roots, options);
  Tile tile(random, random_box(random, 40), options.layout, problem.roots.size());
  Tile other = tile;
  for (auto [program, results] : {std::pair{&hoisted, &tile}, std::pair{&plain, &other}}) {
    AlignedWorkspace workspace(*program);
    LaneRunner runner(*program, workspace.bytes());
    runner.enter(problem.bound, problem.origin);
    runner.run(tile.box, tile.score.strip(), tile.seed.strip(), results->outputs());
  }
  for (std::size_t r = 0; r < problem.roots.size(); ++r) {
    const Type type = problem.graph[problem.roots[r]].type;
    for (std::int64_t o = 0; o < tile.outer; ++o) {
      for (std::int64_t i = 0; i < tile.inner; ++i)
        if (!same_word(type, tile.results[r].at(o, i), other.results[r].at(o, i))) return false;
    }
  }
  return true;
}

RC_GTEST_PROP(LaneProgramLaw, HoistingChangesNoValue, (std::uint64_t seed)) {
  RC_ASSERT(hoisting_changes_nothing(seed));
}

// The tanh of a quotient that is hoisted as a whole, whose divisor was inverted without hoisting alone.
TEST(LaneProgram, HoistsTheTanhOfAQuotient) { EXPECT_TRUE(hoisting_changes_nothing(1615521)); }

TEST(LaneProgram, RefusesWhatCannotRun) {
  Graph graph;
  const NodeId root = graph.add_score();
  EXPECT_EQ(refusal([&] { LaneProgram(graph, {{root}}, {.most_queries = 0, .most_keys = 4}); }),
            "lane program: tiles of at most 0 queries x 4 keys, expected at least 1 x 1");
  const NodeId sum = make_operation(graph, number_of<Addition>, {{root, graph.add_coordinate(Coordinate::key)}});
  const LaneProgram program(graph, {{sum}}, {.most_queries = 4, .most_keys = 4});
  AlignedWorkspace workspace(program);
  EXPECT_NE(refusal([&] { LaneRunner(program, workspace.bytes().subspan(LaneProgram::kWorkspaceAlignment)); }), "");
  EXPECT_NE(refusal([&] { LaneRunner(program, {workspace.bytes().data() + 1, workspace.bytes().size()}); }), "");
  LaneRunner runner(program, workspace.bytes());
  EXPECT_EQ(refusal([&] {
              runner.run({0, 5, 0, 4}, {}, {}, {});
            }),
            "tile: 5 queries x 4 keys, expected at most the program's 4 x 4");
  EXPECT_EQ(refusal([&] { runner.run({0, 0, 0, 4}, {}, {}, {}); }), "") << "an empty tile has nothing to do";
}

}  // namespace
}  // namespace tilewise::variant
