// Tiles classified on the GPU against the host's classifier, which bisects down to single entries.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "cuda/launch/bound_variant.h"
#include "tests/attention/oracle.h"
#include "tests/gpu/made_lists.h"
#include "tests/gpu/with_gpu.h"
#include "tests/laws/random_variant.h"
#include "tiles/classify.h"
#include "tiles/counts.h"
#include "tilewise/zoo_entry.h"

namespace tilewise::cuda::testing {
namespace {

class TileListsOnGpu : public jit::WithGpu {
 protected:
  /// Tiles that hold a kept entry are listed, and those that are listed as full keep all; what is listed besides is
  /// partial. Returns how many tiles are listed that the host proves empty, and how many it proves full that are
  /// partial.
  struct Loose {
    std::int64_t empty = 0, full = 0, all = 0;
  };
  Loose expect_sound(const Variant& variant, const Bindings& bindings, const Problem& problem, ListTile tile) {
    Loose loose;
    const BoundVariant bound(context_, variant, variant::cuda_text(variant).layout, bindings);
    tiles::Classifier classifier(variant, bindings, problem);
    for (const bool by_key : {false, true}) {
      const MadeLists lists(compiler_, context_, variant, bindings, bound.bytes(), problem, tile, by_key);
      for (std::int64_t sequence = 0; sequence < problem.b(); ++sequence) {
        for (std::int64_t head = 0; head < problem.h_q; ++head) {
          const TileMap map = tiles::map_of(classifier, {tile.queries, tile.keys}, sequence, head);
          check(lists, map, tile, classifier, problem.sequences[static_cast<std::size_t>(sequence)], sequence, head,
                by_key, loose);
          if (by_key) check_turns(lists, problem.h_q / problem.h_kv, sequence, head, map.rows);
        }
      }
    }
    return loose;
  }

  /// Likewise of query tiles that end with their sequences, entry by entry.
  void expect_sound_to_the_end(const Variant& variant, const Problem& problem, ListTile tile) {
    tile.ends_with_queries = true;
    const BoundVariant bound(context_, variant, variant::cuda_text(variant).layout, {});
    tiles::Classifier classifier(variant, {}, problem);
    const MadeLists lists(compiler_, context_, variant, {}, bound.bytes(), problem, tile, false);
    for (std::int64_t sequence = 0; sequence < problem.b(); ++sequence) {
      const Sequence& lengths = problem.sequences[static_cast<std::size_t>(sequence)];
      const std::int64_t rows = (lengths.s_q + tile.queries - 1) / tile.queries;
      const std::int64_t lead = (rows * tile.queries - lengths.s_q) / tile.part_queries * tile.part_queries;
      for (std::int64_t row = 0; row < rows; ++row)
        check_row(lists.list(sequence, 0, row), classifier, tile, lengths, sequence, row * tile.queries - lead);
    }
  }

  jit::Compiler& compiler_ = jit::Compiler::instance();  // TILEWISE_CACHE_DIR keeps what many runs compile

 private:
  /// The list of a tile whose first query is `first`, which may not exist.
  static void check_row(const std::vector<int>& list, tiles::Classifier& classifier, const ListTile& tile,
                        const Sequence& lengths, std::int64_t sequence, std::int64_t first) {
    auto at = list.begin();
    for (std::int64_t column = 0; column * tile.keys < lengths.s_kv; ++column) {
      const bool is_listed = at != list.end() && *at >> 13 == column;
      const int entry = is_listed ? *at++ : 1;  // partial, and all of its parts empty
      for (std::int64_t part = 0; part < tile.queries / tile.part_queries * 2; ++part) {
        const int found = entry % 2 != 0 ? entry >> (1 + 2 * part) & 3 : 1;
        if (found == 2) continue;
        const std::int64_t query = first + part / 2 * tile.part_queries;
        const std::int64_t key = column * tile.keys + part % 2 * tile.part_keys;
        ASSERT_TRUE(all_are(classifier, lengths, sequence, 0, std::max<std::int64_t>(query, 0),
                            query + tile.part_queries, key, key + tile.part_keys,
                            found == 1 ? TileClass::full : TileClass::empty))
            << "sequence " << sequence << ", queries from " << query << ", keys from " << key << ", part " << found;
      }
    }
    ASSERT_EQ(at, list.end());
  }

  /// Whether every entry of a tile that exists is of a class.
  static bool all_are(tiles::Classifier& classifier, const TileMap& map, const Sequence& lengths, std::int64_t sequence,
                      std::int64_t head, std::int64_t row, std::int64_t column, TileClass of) {
    return all_are(classifier, lengths, sequence, head, row * map.tile.queries, (row + 1) * map.tile.queries,
                   column * map.tile.keys, (column + 1) * map.tile.keys, of);
  }
  static bool all_are(tiles::Classifier& classifier, const Sequence& lengths, std::int64_t sequence, std::int64_t head,
                      std::int64_t query_begin, std::int64_t query_end, std::int64_t key_begin, std::int64_t key_end,
                      TileClass of) {
    for (std::int64_t q = query_begin; q < std::min(lengths.s_q, query_end); ++q) {
      for (std::int64_t k = std::max(lengths.key_start, key_begin); k < std::min(lengths.s_kv, key_end); ++k) {
        if (classifier.classify(sequence, head, {q, q + 1, k, k + 1}) != of) return false;
      }
    }
    return true;
  }

  /// Parts of a tile: full ones keep all that they reach over, empty ones nothing.
  static void check_parts(int parts, tiles::Classifier& classifier, const ListTile& tile, const Sequence& lengths,
                          std::int64_t sequence, std::int64_t head, std::int64_t row, std::int64_t column) {
    const std::int64_t queries = tile.part_queries, keys = tile.part_keys;
    if (tile.queries > 3 * queries || tile.keys % keys != 0) return;  // all may be partial then
    for (std::int64_t query = 0; query < tile.queries; query += queries) {
      for (std::int64_t key = 0; key < tile.keys; key += keys, parts >>= 2) {
        const int found = parts & 3;
        if (found == 2) continue;
        const std::int64_t query_begin = row * tile.queries + query, key_begin = column * tile.keys + key;
        ASSERT_LE(found, 1);
        if (found == 1) {
          ASSERT_GE(key_begin, lengths.key_start);
          ASSERT_LE(key_begin + keys, lengths.s_kv);
        }
        const std::int64_t query_end = std::min(query_begin + queries, (row + 1) * tile.queries);
        ASSERT_TRUE(all_are(classifier, lengths, sequence, head, query_begin, query_end, key_begin, key_begin + keys,
                            found == 1 ? TileClass::full : TileClass::empty))
            << "sequence " << sequence << ", head " << head << ", queries from " << query_begin << ", keys from "
            << key_begin << ", part " << found;
      }
    }
  }

  /// A row's turn at a tile: how many rows list that tile, too, that blocks take before, the shortest list first or the
  /// longest.
  static void check_turns(const MadeLists& lists, std::int64_t heads_per_kv, std::int64_t sequence, std::int64_t head,
                          std::int64_t columns) {
    std::vector<int> order = lists.order(sequence, head / heads_per_kv * heads_per_kv);
    for (const bool is_longest_first : {true, false}) {
      std::vector<int> visits(static_cast<std::size_t>(columns), 0);
      for (const int row : order) {
        const std::vector<int> turns = lists.turns(sequence, head, row, is_longest_first);
        for (const int entry : lists.list(sequence, head, row)) {
          const auto column = static_cast<std::size_t>(entry >> 13);
          ASSERT_EQ(turns[column], visits[column]++) << "row " << row << ", tile " << column;
        }
      }
      std::ranges::reverse(order);
    }
  }

  static void check(const MadeLists& lists, const TileMap& map, const ListTile& tile, tiles::Classifier& classifier,
                    const Sequence& lengths, std::int64_t sequence, std::int64_t head, bool by_key, Loose& loose) {
    const std::int64_t rows = by_key ? map.columns : map.rows, columns = by_key ? map.rows : map.columns;
    std::vector<std::size_t> counts;
    for (std::int64_t row = 0; row < lists.extent().rows; ++row) {
      const std::vector<int> list = lists.list(sequence, head, row);
      counts.push_back(list.size());
      ASSERT_TRUE(std::ranges::is_sorted(list));
      if (row >= rows) {
        ASSERT_TRUE(list.empty());
        continue;
      }
      auto at = list.begin();
      for (std::int64_t column = 0; column < columns; ++column) {
        TileClass listed = TileClass::empty;
        int parts = 0;  // of a partial tile, two bits each
        if (at != list.end() && *at >> 13 == column) {
          listed = *at % 2 != 0 ? TileClass::partial : TileClass::full;
          parts = *at++ >> 1;
        }
        const TileClass exact = by_key ? map.at(column, row) : map.at(row, column);
        const std::int64_t key_tile = by_key ? row : column;
        const bool is_whole = (key_tile + 1) * map.tile.keys <= lengths.s_kv;
        const auto what = fmt::format("sequence {}, head {}, {} row {}, column {}: {} on the GPU, {}", sequence, head,
                                      by_key ? "key" : "query", row, column, to_string(listed), to_string(exact));
        ASSERT_TRUE(listed != TileClass::full || is_whole) << what;
        // Where the two differ, entry by entry decides: the host, too, gives some tiles up.
        if (listed != TileClass::partial && listed != exact) {
          const auto [query_row, key_column] = by_key ? std::pair{column, row} : std::pair{row, column};
          ASSERT_TRUE(all_are(classifier, map, lengths, sequence, head, query_row, key_column, listed)) << what;
        }
        if (listed == TileClass::partial) {
          const auto [query_row, key_column] = by_key ? std::pair{column, row} : std::pair{row, column};
          check_parts(parts, classifier, tile, lengths, sequence, head, query_row, key_column);
        }
        ++loose.all;
        loose.empty += exact == TileClass::empty && listed != TileClass::empty;
        loose.full += exact == TileClass::full && is_whole && listed != TileClass::full;
      }
      ASSERT_EQ(at, list.end());
    }
    std::vector<int> order = lists.order(sequence, head);
    constexpr std::int64_t kMostSorted = 4096;  // more rows are taken from the last on
    EXPECT_TRUE(lists.extent().rows > kMostSorted ||
                std::ranges::is_sorted(order, std::ranges::greater(),
                                       [&](int row) { return counts[static_cast<std::size_t>(row)]; }));
    std::ranges::sort(order);
    for (std::size_t i = 0; i < order.size(); ++i) ASSERT_EQ(order[i], static_cast<int>(i));
  }
};

TEST_F(TileListsOnGpu, OfTheZooAreSoundAndTight) {
  for (const zoo::Entry& entry : zoo::entries()) {
    SCOPED_TRACE(std::string(entry.name));
    const Variant variant = parse_variant(std::string(entry.example));
    Problem problem = Problem::uniform(1, 2, 1, 300, 300);
    problem.sequences[0].query_offset = 0;
    const auto bound = attention::testing::bind_random(variant, problem, 1);
    const Loose loose = expect_sound(variant, {bound.tables, bound.parameters}, problem, {64, 48});
    if (HasFatalFailure()) return;
    // A tile that is listed in vain costs time alone. Masks by remainders leave some open after 20 boxes.
    EXPECT_LE(loose.empty, loose.all / 4) << loose.empty << " of " << loose.all << " tiles are listed in vain";
    if (loose.empty + loose.full > 0)
      fmt::print("{}: of {} tiles, {} empty ones are listed and {} full ones are partial\n", entry.name, loose.all,
                 loose.empty, loose.full);
  }
}

// Each is a program of its own, 2 to 3 seconds of compiling.
TEST_F(TileListsOnGpu, OfRandomVariantsAreSound) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(seed);
    laws::Choices choices = laws::full_tape(seed);
    const laws::RandomVariant random = laws::random_variant(choices);
    const Problem problem = laws::random_problem(choices);
    expect_sound(random.variant, random.bindings(), problem, {4, 3});
    if (HasFailure()) return;
  }
}

TEST_F(TileListsOnGpu, KnowLengthsAndLeftPadding) {
  Problem problem = Problem::uniform(3, 2, 1, 90, 150);
  problem.sequences[0].key_start = 70;
  problem.sequences[1].s_q = 5;
  problem.sequences[1].s_kv = 131;
  problem.sequences[2].query_offset = 30;
  for (const char* text : {"causal()", "window(40)", "documents([50, 60, 70])"})
    expect_sound(parse_variant(text), {}, problem, {32, 16});
  // Parts of a warp's queries by all of the keys.
  for (const char* text : {"causal()", "window(40)"})
    expect_sound(parse_variant(text), {}, problem, {.queries = 24, .keys = 16, .part_queries = 8, .part_keys = 16});
}

TEST_F(TileListsOnGpu, MayEndWithTheQueries) {
  Problem problem = Problem::uniform(4, 2, 1, 400, 400);
  problem.sequences[1].s_q = 5;
  problem.sequences[1].s_kv = 131;
  problem.sequences[2].s_q = 384;
  problem.sequences[3].query_offset = 30;
  for (const char* text : {"causal()", "window(40)"}) expect_sound_to_the_end(parse_variant(text), problem, {192, 96});
}

}  // namespace
}  // namespace tilewise::cuda::testing
