// Variants' stages on lanes: full and partial tiles against the order that the design gives them.
#include "variant/lanes/variant_lanes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "core/element.h"
#include "tests/variant/lane_tile.h"
#include "tilewise/zoo_entry.h"

namespace tilewise::variant {
namespace {

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

/// Runs full and partial programs in place on tiles of odd sizes; expects the scalar scores within `units` of 2^-23
/// times the score, before or after.
void expect_scalar_scores(const Variant& variant, const Bindings& bindings = {}, double units = 0, int rounds = 60) {
  const Variant::Data& data = variant.data();
  const Bound bound = bind(data.graph, bindings);
  ScalarReading<float> reading(data.graph, bound);
  Random random(20261121);
  for (int round = 0; round < rounds; ++round) {
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
          const double size = std::max(std::abs(want), std::abs(score));
          const bool near = std::abs(got - want) <= units * 0x1p-23 * size && std::isfinite(want);
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

TEST(VariantLanes, ComparisonsOfHoistedIntsAreOnePass) {
  using Comparison = Expr (*)(Expr, Expr);
  const Comparison comparisons[] = {[](Expr a, Expr b) { return a == b; }, [](Expr a, Expr b) { return a != b; },
                                    [](Expr a, Expr b) { return a < b; },  [](Expr a, Expr b) { return a <= b; },
                                    [](Expr a, Expr b) { return a > b; },  [](Expr a, Expr b) { return a >= b; }};
  // Factors that wrap, so that all ints come up; and small ones, so that some are equal.
  struct Factors {
    std::int32_t key, query;
  };
  for (const Factors by : {Factors{1'000'000'007, 715'827'883}, Factors{1, 2}}) {
    for (const Comparison compare : comparisons) {
      const auto of = [&](auto&& kept) {
        return keep([&](const At& at) { return kept(at.key * by.key % 1'000'000'006, at.query * by.query, at); });
      };
      const Variant all[] = {
          of([&](Expr key, Expr query, const At&) { return compare(key, query); }),
          of([&](Expr key, Expr query, const At&) { return compare(query, key); }),
          of([&](Expr key, Expr query, const At& at) { return compare(key - query, at.query - at.head); }),
          of([&](Expr key, Expr query, const At& at) { return compare(query - key, at.query % 7); }),
          of([&](Expr key, Expr query, const At& at) { return compare(at.head, query - key); }),
          of([&](Expr key, Expr query, const At& at) {
            return compare(key, query) && at.key % 3 != 0 && at.query % 5 != at.head % 5 && at.query - at.key < 30 &&
                   compare(at.key, at.query * 2) && compare(query, at.key) && compare(at.key % 4, at.query % 4);
          })};
      for (const Variant& variant : all) {
        const LaneProgram partial = lower_variant(variant, {.most_queries = 8, .most_keys = 8}).partial;
        EXPECT_LE(partial.instructions(Hoist::entry).size(), &variant == &all[5] ? 2u : 1u);
        expect_scalar_scores(variant, {}, 0, 12);
        if (HasFatalFailure()) return;
      }
    }
  }
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
  // tanh's 7 ulp of the lanes and 2 of the C library, and a rounding each for quotient and product.
  expect_scalar_scores(causal() & score([](Expr s, const At&) { return 30 * tanh(s / 30); }), {}, 12);
}

TEST(VariantLanes, TanhOfAQuotientByWhatHasNoReciprocal) {
  for (const double divisor : {0.0, 1e-40, -1e-45, 1e38, -3e38, kInfinity}) {
    SCOPED_TRACE(divisor);
    const Parameter parameter("divisor");
    const Variant variant = score([&](Expr s, const At&) { return tanh(s / parameter); });
    const Bound bound = bind(variant.data().graph, {{}, {{parameter, divisor}}});
    for (const Isa isa : available_isas()) {
      const VariantLanes lanes = lower_variant(
          variant,
          {.layout = TileLayout::keys_inner, .most_queries = 1, .most_keys = 6, .isa = std::min(isa, Isa::avx512)});
      AlignedWorkspace workspace(lanes.full);
      LaneRunner runner(lanes.full, workspace.bytes());
      runner.enter(bound, Place{});
      const float inf = std::numeric_limits<float>::infinity(), inputs[] = {0, 1, -2e30f, inf, -inf, 3e38f};
      std::vector<float> scores(std::begin(inputs), std::end(inputs));
      const TileStrip strip{scores.data(), 6};
      runner.run({0, 1, 0, 6}, strip, {}, {&strip, 1});
      for (std::size_t i = 0; i < 6; ++i) {
        const float want = std::tanh(inputs[i] / static_cast<float>(divisor));
        EXPECT_TRUE(std::isnan(want) ? std::isnan(scores[i])
                                     : std::abs(scores[i] - want) <= 9 * 0x1p-23 * std::abs(want))
            << inputs[i] << ": got " << scores[i] << ", want " << want;
      }
    }
  }
}

/// Data for the tables of a variant, as small as their declared ranges allow, and for its parameters.
struct SomeData {
  SomeData(const Variant& variant, Random& random) {
    for (const Parameter& parameter : variant.parameters())
      bindings.parameters.push_back({parameter, std::clamp(1.0, parameter.low(), parameter.high())});
    for (const Table& table : variant.tables()) {
      if (!table.frozen_data()) add(table, random);
    }
  }

  Bindings bindings;
  std::vector<std::vector<std::byte>> memory;

 private:
  void add(const Table& table, Random& random) {
    const std::vector<std::int64_t> extents(static_cast<std::size_t>(table.rank()), 7);
    const ConstTensor shape(nullptr, table.dtype(), std::span(extents));
    auto& bytes = memory.emplace_back(static_cast<std::size_t>(shape.elements() * size_of(table.dtype())));
    bindings.tables.push_back({table, ConstTensor(bytes.data(), table.dtype(), std::span(extents))});
    for (std::int64_t i = 0; i < shape.elements(); ++i) {
      std::byte* element = bytes.data() + i * size_of(table.dtype());
      const double value = std::clamp<double>(random.between(0, 6), table.low(), table.high());
      const auto integer = static_cast<std::int64_t>(value);
      if (table.type() == Type::real) {
        store_real(element, table.dtype(), value / 4);
      } else {  // little-endian: the low bytes come first
        std::memcpy(element, &integer, static_cast<std::size_t>(size_of(table.dtype())));
      }
    }
  }
};

TEST(VariantLanes, EveryNamedVariantHasTheScalarScores) {
  for (const zoo::Entry& named : zoo::entries()) {
    SCOPED_TRACE(named.example);
    const Variant variant = parse_variant(std::string(named.example));
    const auto& nodes = variant.data().graph.nodes();
    const bool is_exact = std::all_of(nodes.begin(), nodes.end(), [](const Node& node) {
      return node.kind != Kind::operation || kInfo[static_cast<std::size_t>(node.index)].error.largest() == 0;
    });
    Random random(20261121);
    const SomeData data(variant, random);
    // tanh's errors and a few roundings; sums of a dozen cosines, too, stay below this.
    expect_scalar_scores(variant, data.bindings, is_exact ? 0 : 16, 4);
    if (HasFatalFailure()) return;
  }
}

TEST(VariantLanes, TablesAreReadAlongEachClass) {
  for (const DType dtype : {DType::float32, DType::float64, DType::float16, DType::bfloat16}) {
    std::vector<std::byte> values(static_cast<std::size_t>(41 * 97 * size_of(dtype)));
    for (std::int64_t i = 0; i < 41 * 97; ++i)
      store_real(values.data() + i * size_of(dtype), dtype, static_cast<double>(i) * 0.37);
    const ConstTensor data(values.data(), dtype, {41, 97});
    const Table bias("bias", dtype, 2);
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
}

/// Tiles in any order, with diagonals kept between them and without: the same bits.
TEST(VariantLanes, KeptDiagonalsAreThoseOfEachTile) {
  std::vector<float> values(700);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 89) * 0.37f;
  const Table bias("bias", DType::float32, 1);
  const Variant variant = score([&](Expr s, const At& at) {
    return s + bias.clamped(at.query - at.key + 350) * sin(to_real(at.query - at.key)) + to_real(at.query - at.key);
  });
  const Bound bound = bind(variant.data().graph, {{{bias, ConstTensor(values.data(), DType::float32, {700})}}, {}});
  LaneOptions options{.layout = TileLayout::queries_inner, .most_queries = 32, .most_keys = 48};
  for (const Isa isa : available_isas()) {
    options.isa = std::min(isa, Isa::avx512);
    options.kept_diagonals = 0;
    const VariantLanes each = lower_variant(variant, options);
    options.kept_diagonals = 200;  // fewer than the walks below meet
    const VariantLanes kept = lower_variant(variant, options);
    AlignedWorkspace each_memory(each.full), kept_memory(kept.full);
    LaneRunner of_each(each.full, each_memory.bytes()), of_kept(kept.full, kept_memory.bytes());
    Random random(20261121);
    Place origin{};
    origin[static_cast<std::size_t>(Coordinate::query)] = 17;
    for (int i = 0; i < 400; ++i) {
      if (i % 100 == 0) {
        origin[static_cast<std::size_t>(Coordinate::key)] = i / 10;
        of_each.enter(bound, origin);
        of_kept.enter(bound, origin);
      }
      const std::int64_t step = i % 60;  // along keys, along queries, or anywhere
      const std::int64_t query = i < 100 ? 64 : i < 200 ? step * 32 : random.between(0, 300);
      const std::int64_t key = i < 100 ? step * 48 : i < 200 ? 96 : random.between(0, 300);
      const Box box{query, query + random.between(1, 32), key, key + random.between(1, 48)};
      std::vector<float> scores(32 * 48, 1.5f), expected = scores;
      const TileStrip tile[] = {{scores.data(), 32}}, of_expected[] = {{expected.data(), 32}};
      of_kept.run(box, tile[0], {}, tile);
      of_each.run(box, of_expected[0], {}, of_expected);
      ASSERT_EQ(std::memcmp(scores.data(), expected.data(), scores.size() * sizeof(float)), 0) << "tile " << i;
    }
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

}  // namespace
}  // namespace tilewise::variant
