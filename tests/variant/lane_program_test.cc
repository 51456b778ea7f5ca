// Lane programs on tiles of any size, in both layouts, on every instruction set that this machine has: equal to the
// scalar reading entry by entry.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "core/half.h"
#include "tests/variant/random_graph.h"
#include "variant/lanes/runner.h"
#include "variant/lanes/variant_lanes.h"

namespace tilewise::variant {
namespace {

struct AlignedWorkspace {
  explicit AlignedWorkspace(const LaneProgram& program)
      : blocks(static_cast<std::size_t>(program.workspace_bytes() / LaneProgram::kWorkspaceAlignment)) {}
  std::span<std::byte> bytes() { return std::as_writable_bytes(std::span(blocks)); }

  struct alignas(LaneProgram::kWorkspaceAlignment) Block {
    std::byte bytes[LaneProgram::kWorkspaceAlignment];
  };
  std::vector<Block> blocks;
};

/// A strip of a tile with words around it that nothing may touch.
class GuardedStrip {
 public:
  static constexpr std::int32_t kGuard = 0x5AFE5AFE;

  GuardedStrip(std::int64_t outer, std::int64_t inner, std::int64_t gap)
      : outer_(outer),
        inner_(inner),
        stride_(inner + gap),
        words_(static_cast<std::size_t>(outer * stride_ + 2 * gap)) {
    std::fill(words_.begin(), words_.end(), kGuard);
    first_ = gap;
  }
  std::int32_t& at(std::int64_t o, std::int64_t i) {
    return words_[static_cast<std::size_t>(first_ + o * stride_ + i)];
  }
  TileStrip strip() { return {words_.data() + first_, stride_}; }

  bool is_guarded() const {
    for (std::size_t w = 0; w < words_.size(); ++w) {
      const std::int64_t from_first = static_cast<std::int64_t>(w) - first_;
      const bool inside = from_first >= 0 && from_first / stride_ < outer_ && from_first % stride_ < inner_;
      if (!inside && words_[w] != kGuard) return false;
    }
    return true;
  }

 private:
  std::int64_t outer_, inner_, stride_, first_;
  std::vector<std::int32_t> words_;
};

bool same_word(Type type, std::int32_t got, std::int32_t want) {
  if (got == want) return true;
  return type == Type::real && std::isnan(std::bit_cast<float>(got)) && std::isnan(std::bit_cast<float>(want));
}

std::int32_t word_of(Type type, Value<float> value) {
  switch (type) {
    case Type::boolean: return value.boolean ? -1 : 0;
    case Type::int32: return value.int32;
    case Type::real: return std::bit_cast<std::int32_t>(value.real);
  }
  return 0;
}

Place entry(Place origin, std::int64_t query, std::int64_t key) {
  const auto step = [&](Coordinate c, std::int64_t by) {
    auto& field = origin[static_cast<std::size_t>(c)];
    field = static_cast<std::int32_t>(static_cast<std::uint32_t>(field) + static_cast<std::uint32_t>(by));
  };
  for (auto c : {Coordinate::query, Coordinate::query_index, Coordinate::query_token}) step(c, query);
  for (auto c : {Coordinate::key, Coordinate::key_index, Coordinate::key_token}) step(c, key);
  return origin;
}

/// The place of a sequence's query and key 0: indices 0, anything else random.
Place random_origin(Random& random) {
  Place origin{};
  for (auto& field : origin) field = random.once_in(4) ? random.int32() : random.between(-70, 200);
  origin[static_cast<std::size_t>(Coordinate::query_index)] = 0;
  origin[static_cast<std::size_t>(Coordinate::key_index)] = 0;
  return origin;
}

Box random_box(Random& random, std::int64_t most) {
  const auto size = [&] { return random.between(1, static_cast<std::int32_t>(most)); };
  const std::int64_t query = random.between(0, 300), key = random.between(0, 300);
  return {query, query + size(), key, key + size()};
}

LaneOptions random_options(Random& random, std::int64_t most) {
  const auto& isas = available_isas();
  return {.layout = random.once_in(2) ? TileLayout::queries_inner : TileLayout::keys_inner,
          .most_queries = most,
          .most_keys = most,
          .isa = isas[random.below(isas.size())]};
}

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

/// A tile of random scores, and strips for the outputs.
struct Tile {
  Tile(Random& random, const Box& its_box, TileLayout its_layout, std::size_t outputs)
      : box(its_box),
        layout(its_layout),
        outer(layout == TileLayout::queries_inner ? box.key_end - box.key_begin : box.query_end - box.query_begin),
        inner(box.entries() / outer),
        gap(static_cast<std::int64_t>(random.below(4))),
        score(outer, inner, gap),
        seed(outer, inner, gap),
        results(outputs, GuardedStrip(outer, inner, gap)) {
    for (std::int64_t o = 0; o < outer; ++o) {
      for (std::int64_t i = 0; i < inner; ++i) {
        score.at(o, i) = std::bit_cast<std::int32_t>(random.real());
        seed.at(o, i) = std::bit_cast<std::int32_t>(random.real());
      }
    }
  }
  std::vector<TileStrip> outputs() {
    std::vector<TileStrip> strips;
    for (auto& result : results) strips.push_back(result.strip());
    return strips;
  }
  std::int64_t query(std::int64_t o, std::int64_t i) const {
    return box.query_begin + (layout == TileLayout::queries_inner ? i : o);
  }
  std::int64_t key(std::int64_t o, std::int64_t i) const {
    return box.key_begin + (layout == TileLayout::queries_inner ? o : i);
  }

  Box box;
  TileLayout layout;
  std::int64_t outer, inner, gap;
  GuardedStrip score, seed;
  std::vector<GuardedStrip> results;
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

RC_GTEST_PROP(LaneProgramLaw, ExactGraphsHaveTheScalarReadingsBits, (std::uint64_t seed)) {
  Random random(seed);
  Problem problem(random, Chosen::exact);
  const std::int64_t most = random.once_in(10) ? 70 : 20;
  const LaneProgram program(problem.graph, problem.roots, random_options(random, most));
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
    }
  }
}

RC_GTEST_PROP(LaneProgramLaw, HoistingChangesNoValue, (std::uint64_t seed)) {
  Random random(seed);
  Problem problem(random, Chosen::all);
  LaneOptions options = random_options(random, 40);
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
    for (std::int64_t o = 0; o < tile.outer; ++o) {
      for (std::int64_t i = 0; i < tile.inner; ++i)
        RC_ASSERT(same_word(problem.graph[problem.roots[r]].type, tile.results[r].at(o, i), other.results[r].at(o, i)));
    }
  }
}

// ---- variants ----

/// What the design's "Order" says of one score: the meaning, written out once more.
float scalar_score(const Variant::Data& data, ScalarReading<float>& reading, float score, bool with_keeps) {
  const float removed = -std::numeric_limits<float>::infinity();
  bool is_kept = true;
  for (const Stage& stage : data.stages) {
    reading.set_score(score);
    if (stage.kind == Stage::Kind::keep) {
      is_kept = is_kept && (!with_keeps || reading.evaluate(stage.root).boolean);
    } else {
      score = reading.evaluate(stage.root).real;
      is_kept = is_kept && score != removed;
      if (score < -0x1p126f) score = -0x1p126f;
    }
  }
  return is_kept ? score : removed;
}

/// Runs full and partial programs in place on tiles of odd sizes; expects the scalar scores within `ulps`.
void expect_scalar_scores(const Variant& variant, const Bindings& bindings = {}, std::int32_t ulps = 0) {
  const Variant::Data& data = variant.data();
  const Bound bound = bind(data.graph, bindings);
  ScalarReading<float> reading(data.graph, bound);
  Random random(20261121);
  for (int round = 0; round < 60; ++round) {
    const VariantLanes lanes = lower_variant(variant, random_options(random, 70));
    const Place origin = random_origin(random);
    for (const bool with_keeps : {false, true}) {
      const LaneProgram& program = with_keeps ? lanes.partial : lanes.full;
      AlignedWorkspace workspace(program);
      LaneRunner runner(program, workspace.bytes());
      runner.enter(bound, origin);
      Tile tile(random, random_box(random, 70), program.options().layout, 0);
      GuardedStrip scores = tile.score;
      const TileStrip in_place[] = {scores.strip()};
      runner.run(tile.box, in_place[0], {}, in_place);
      ASSERT_TRUE(scores.is_guarded());
      for (std::int64_t o = 0; o < tile.outer; ++o) {
        for (std::int64_t i = 0; i < tile.inner; ++i) {
          reading.enter(entry(origin, tile.query(o, i), tile.key(o, i)));
          const float score = std::bit_cast<float>(tile.score.at(o, i));
          const float want = scalar_score(data, reading, score, with_keeps);
          const float got = std::bit_cast<float>(scores.at(o, i));
          const bool near =
              std::isfinite(want) && std::abs(scores.at(o, i) - std::bit_cast<std::int32_t>(want)) <= ulps;
          ASSERT_TRUE(near || same_word(Type::real, scores.at(o, i), std::bit_cast<std::int32_t>(want)))
              << "score " << score << " at " << tile.query(o, i) << ", " << tile.key(o, i) << ": got " << got
              << ", want " << want;
        }
      }
    }
  }
}

Variant causal() {
  return keep([](const At& at) { return at.query >= at.key; });
}
Variant window(int size) {
  return keep([=](const At& at) { return at.query - at.key < size; });
}

TEST(VariantLanes, PlainAttentionChangesNothing) {
  const VariantLanes lanes = lower_variant(Variant(), {.most_queries = 8, .most_keys = 8});
  EXPECT_FALSE(lanes.changes_full_tiles);
  EXPECT_FALSE(lanes.changes_partial_tiles);
  expect_scalar_scores(Variant());
}

TEST(VariantLanes, KeepsRemoveEntriesOfPartialTilesOnly) {
  const VariantLanes lanes = lower_variant(causal() & window(20), {.most_queries = 8, .most_keys = 8});
  EXPECT_FALSE(lanes.changes_full_tiles);
  EXPECT_TRUE(lanes.changes_partial_tiles);
  expect_scalar_scores(causal() & window(20));
}

TEST(VariantLanes, ScoresAreSettled) {
  expect_scalar_scores(score([](Expr s, const At&) { return s * 1e30; }));
  expect_scalar_scores(score([](Expr s, const At&) { return select(s < 0.0, -kInfinity, s); }));
  expect_scalar_scores(score([](Expr, const At& at) { return to_real(at.head); }));
}

TEST(VariantLanes, RemovalOutlastsLaterStages) {
  const Variant removes = score([](Expr s, const At& at) { return select(at.query % 3 == 0, -kInfinity, s); });
  const Variant revives = score([](Expr s, const At&) { return max(s, -1.0) + 2.0; });
  expect_scalar_scores(removes & revives);
  expect_scalar_scores(removes & window(9) & revives & causal() & revives);
}

TEST(VariantLanes, AlibiIsEvaluatedOncePerDiagonal) {
  const Variant alibi =
      score([](Expr s, const At& at) { return s - exp2(-0.5 * to_real(at.head + 1)) * to_real(at.query - at.key); });
  const VariantLanes lanes = lower_variant(alibi, {.most_queries = 64, .most_keys = 64});
  EXPECT_EQ(lanes.full.instructions(Hoist::entry).size(), 1u);  // s - bias, clamped in the same pass
  EXPECT_FALSE(lanes.full.instructions(Hoist::diagonal).empty());
}

TEST(VariantLanes, SoftcapIsWithinTheErrorOfTanh) {
  // tanh's 7 ulp of the lanes and 2 of the C library, each as many or one more after a product.
  expect_scalar_scores(causal() & score([](Expr s, const At&) { return 30 * tanh(s / 30); }), {}, 12);
}

TEST(VariantLanes, TablesAreReadAlongEachClass) {
  std::vector<float> values(41 * 97);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) * 0.37f;
  const ConstTensor data(values.data(), DType::float32, {41, 97});
  const Table bias("bias", DType::float32, 2);
  const Bindings bindings{{{bias, data}}, {}};
  for (const auto& index : std::vector<std::function<std::pair<Expr, Expr>(const At&)>>{
           [](const At& at) {
             return std::pair{at.query_index, at.key_index};
           },
           [](const At& at) {
             return std::pair{at.key_index, at.query_index};
           },
           [](const At& at) {
             return std::pair{at.head, at.query - at.key + 48};
           },
           [](const At& at) {
             return std::pair{at.key - at.query + 20, at.head};
           },
           [](const At& at) {
             return std::pair{at.head % 41, 200 - at.query};
           },
           [](const At& at) {
             return std::pair{floor_divide(at.query, 8), floor_divide(at.key, 8)};
           },
           [](const At& at) {
             return std::pair{at.query_index, at.query_index};
           },
           [](const At& at) {
             return std::pair{at.query * 2 - at.key, at.key ^ 5};
           }}) {
    expect_scalar_scores(score([&](Expr s, const At& at) {
                           const auto [row, column] = index(at);
                           return s + bias.clamped(row, column);
                         }),
                         bindings);
  }
}

/// An index that runs into the end of int32 goes on from its other end, and is clamped there.
TEST(VariantLanes, IndicesWrapBeforeTheyAreClamped) {
  const float values[] = {1, 2, 3};
  const Table table("bias", DType::float32, 1);
  const Variant variant = score([&](Expr s, const At& at) { return s + table.clamped(at.key); });
  const Bound bound = bind(variant.data().graph, {{{table, ConstTensor(values, DType::float32, {3})}}, {}});
  const VariantLanes lanes =
      lower_variant(variant, {.layout = TileLayout::keys_inner, .most_queries = 1, .most_keys = 40});
  AlignedWorkspace workspace(lanes.full);
  LaneRunner runner(lanes.full, workspace.bytes());
  Place origin{};
  origin[static_cast<std::size_t>(Coordinate::key)] = std::numeric_limits<std::int32_t>::max() - 9;
  runner.enter(bound, origin);
  std::vector<float> scores(40, 10.0f);
  const TileStrip tile[] = {{scores.data(), 40}};
  runner.run({0, 1, 0, 40}, tile[0], {}, tile);
  for (std::size_t key = 0; key < 40; ++key) EXPECT_EQ(scores[key], key < 10 ? 13.0f : 11.0f) << key;
}

// ---- what a caller can get wrong ----

TEST(LaneProgram, RefusesWhatCannotRun) {
  Graph graph;
  const NodeId root = graph.add_score();
  const auto message = [](auto function) -> std::string {
    try {
      function();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      return error.what();
    }
    return "no Error";
  };
  EXPECT_EQ(message([&] { LaneProgram(graph, {{root}}, {.most_queries = 0, .most_keys = 4}); }),
            "lane program: tiles of at most 0 queries x 4 keys, expected at least 1 x 1");
  const NodeId sum = make_operation(graph, number_of<Addition>, {{root, graph.add_coordinate(Coordinate::key)}});
  const LaneProgram program(graph, {{sum}}, {.most_queries = 4, .most_keys = 4});
  AlignedWorkspace workspace(program);
  EXPECT_NE(message([&] { LaneRunner(program, workspace.bytes().subspan(LaneProgram::kWorkspaceAlignment)); }),
            "no Error");
  EXPECT_NE(message([&] {
              LaneRunner(program, {workspace.bytes().data() + 1, workspace.bytes().size()});
            }),
            "no Error");
  LaneRunner runner(program, workspace.bytes());
  EXPECT_EQ(message([&] {
              runner.run({0, 5, 0, 4}, {}, {}, {});
            }),
            "tile: 5 queries x 4 keys, expected at most the program's 4 x 4");
  EXPECT_EQ(message([&] { runner.run({0, 0, 0, 4}, {}, {}, {}); }), "no Error") << "an empty tile has nothing to do";
}

}  // namespace
}  // namespace tilewise::variant
