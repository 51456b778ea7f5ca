// The order in which blocks of a deterministic pass add to tiles, on the processor: whichever of them run, none waits
// for ever, and tiles are added to in one order.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <tuple>
#include <vector>

#include "tests/cuda/emulated/intrinsics.h"

struct Index {
  unsigned x = 0, y = 0, z = 0;
};
static Index blockIdx, threadIdx, blockDim, gridDim;                          // NOLINT: the names of CUDA
inline unsigned __reduce_or_sync(unsigned, unsigned value) { return value; }  // a warp of one
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-compare"
#include "number_turns.h"
#include "sm90/turns.h"
#pragma GCC diagnostic pop

namespace tilewise::cuda {
namespace {

using sm90::OrderedWork;

/// Lists of a backward pass, made as the GPU's classifier makes them.
struct Lists {
  int b, heads, heads_per_kv, rows, columns;  // heads with lists of their own; 1: all heads share them
  std::vector<std::vector<int>> tiles;        // [b * heads * rows], which are listed
  std::vector<RowStart> order;                // [b * heads * rows]
  std::vector<int> turns;                     // [2, b * heads * rows, columns]; kUnwritten behind a sequence's own
  std::vector<SequenceShape> sequences;       // [b], of which queries count
  static constexpr int kTileQueries = 64, kUnwritten = -7;

  const std::vector<int>& list(int sequence, int head, int row) const {
    return tiles[static_cast<std::size_t>((sequence * heads + head % heads) * rows + row)];
  }
};

TileLists view_of(const Lists& lists) {
  TileLists view{};
  view.order = lists.rows == 1 ? nullptr : lists.order.data();
  view.capacity = lists.columns;
  view.sequence_rows = lists.heads * lists.rows;
  view.head_rows = lists.heads == 1 ? 0 : lists.rows;
  view.turns = lists.turns.data();
  return view;
}

Lists random_lists(std::mt19937& random) {
  const auto up_to = [&](int most) { return std::uniform_int_distribution<int>(1, most)(random); };
  Lists lists{up_to(3), up_to(2) == 1 ? 1 : 4, 1, up_to(20), up_to(30), {}, {}, {}, {}};
  lists.heads_per_kv = lists.heads == 1 ? up_to(3) : up_to(2);
  const double share = std::uniform_real_distribution<double>(0, 1)(random);
  for (int i = 0; i < lists.b; ++i) {
    lists.sequences.emplace_back();
    lists.sequences.back().queries = up_to(Lists::kTileQueries * lists.columns);
  }
  for (int i = 0; i < lists.b * lists.heads * lists.rows; ++i) {
    std::vector<int> tiles;
    for (int column = 0; column < lists.columns; ++column) {
      if (column * Lists::kTileQueries >=
          lists.sequences[static_cast<std::size_t>(i / lists.heads / lists.rows)].queries) {
        lists.turns.push_back(Lists::kUnwritten);
        continue;
      }
      const bool is_listed = std::bernoulli_distribution(share)(random);
      if (is_listed) tiles.push_back(column);
      lists.turns.push_back(is_listed ? 1 : 0);
    }
    lists.tiles.push_back(tiles);
  }
  lists.turns.resize(2 * lists.turns.size(), Lists::kUnwritten);  // of the other order
  for (int first = 0; first < lists.b * lists.heads * lists.rows; first += lists.rows) {
    std::vector<int> rows(static_cast<std::size_t>(lists.rows));
    for (int row = 0; row < lists.rows; ++row) rows[static_cast<std::size_t>(row)] = row;
    std::ranges::stable_sort(rows, std::ranges::greater(),
                             [&](int row) { return lists.tiles[static_cast<std::size_t>(first + row)].size(); });
    for (const int row : rows) lists.order.push_back({row, 0, 0, 0});
  }
  return lists;
}

void number(Lists& lists) {
  ClassifyArguments arguments{};
  arguments.lists = view_of(lists);
  arguments.turns = lists.turns.data();
  arguments.heads_per_kv = lists.heads_per_kv;
  arguments.sequences = lists.sequences.data();
  arguments.tile_queries = Lists::kTileQueries;
  const std::vector<int> listed = lists.turns;
  blockDim.x = 7;
  gridDim.z = static_cast<unsigned>(lists.b);
  for (unsigned block = 0; block * blockDim.x < static_cast<unsigned>(lists.columns); ++block) {
    for (unsigned thread = 0; thread < blockDim.x; ++thread) {
      for (int sequence = 0; sequence < lists.b; ++sequence) {
        for (int head = 0; head < lists.heads; ++head) {
          blockIdx = {block, static_cast<unsigned>(head), static_cast<unsigned>(sequence)};
          threadIdx.x = thread;
          number_turns(arguments, lists.rows);
        }
      }
    }
  }
  const std::size_t of_order = listed.size() / 2;
  for (std::size_t i = 0; i < listed.size(); ++i)
    ASSERT_EQ(lists.turns[i] == Lists::kUnwritten, listed[i % of_order] == Lists::kUnwritten)
        << "behind a sequence's own";
}

/// A block: the visits that it has before it.
struct Block {
  struct Step {
    std::tuple<int, int, int> tile;  // sequence, head, tile of queries
    int turn;
  };
  std::vector<Step> steps;
  std::size_t next = 0;
};

Block block_of(const Lists& lists, const OrderedWork& work) {
  const TileLists view = view_of(lists);
  const int first_head = work.kv_head * lists.heads_per_kv;
  const int of_lists = lists.heads == 1 ? 0 : first_head;
  const int row = row_of(view, work.sequence, of_lists, work.place(lists.rows));
  Block block;
  for (int head = first_head; head < first_head + lists.heads_per_kv; ++head) {
    const long long list = list_of(view, work.sequence, head, row);
    const std::vector<int>& tiles = lists.list(work.sequence, lists.heads == 1 ? 0 : head, row);
    const int count = static_cast<int>(tiles.size());
    for (int i = 0; i < count; ++i) {
      const int tile = tiles[static_cast<std::size_t>(work.index(i, count))];
      block.steps.push_back({{work.sequence, head, tile}, work.turns[list * view.capacity + tile]});
    }
  }
  return block;
}

TEST(HopperTurns, NoBlockWaitsForEverAndTilesAreAddedToInOneOrder) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    Lists lists = random_lists(random);
    number(lists);
    const int kv_heads = lists.heads == 1 ? 2 : lists.heads / lists.heads_per_kv;
    const int all = lists.rows * kv_heads * lists.b;
    unsigned counter = 0;
    sm90::BackwardCall call{};
    call.next_block = &counter;
    call.heads_together = std::uniform_int_distribution<int>(1, kv_heads * lists.b)(random);
    call.longest_first_from = std::uniform_int_distribution<int>(0, kv_heads * lists.b)(random);
    call.arguments.lists = view_of(lists);
    const auto most_blocks = static_cast<std::size_t>(std::uniform_int_distribution<int>(1, 9)(random));

    std::map<std::tuple<int, int, int>, int> added;
    std::vector<Block> running;
    int begun = 0;
    std::vector<std::array<int, 3>> works;
    while (begun < all || !running.empty()) {
      while (begun < all && running.size() < most_blocks) {
        const OrderedWork work = OrderedWork::take(call, lists.rows, kv_heads, lists.b);
        works.push_back({work.row, work.kv_head, work.sequence});
        running.push_back(block_of(lists, work));
        ++begun;
      }
      std::erase_if(running, [](const Block& block) { return block.next == block.steps.size(); });
      std::vector<Block*> ready;
      for (Block& block : running) {
        const Block::Step& step = block.steps[block.next];
        ASSERT_LE(added[step.tile], step.turn) << "two blocks have one turn";
        if (added[step.tile] == step.turn) ready.push_back(&block);
      }
      if (running.empty()) continue;
      ASSERT_FALSE(ready.empty()) << "all blocks wait";
      Block& chosen = *ready[std::uniform_int_distribution<std::size_t>(0, ready.size() - 1)(random)];
      ++added[chosen.steps[chosen.next++].tile];
    }
    EXPECT_EQ(counter, 0u);
    std::ranges::sort(works);
    EXPECT_EQ(std::ranges::adjacent_find(works), works.end()) << "a piece of work is done twice";
  }
}

TEST(RowParts, AreTakenOnceEachAndLongRowsFirst) {
  for (const int long_rows : {0, 1, 3, 5}) {
    for (const int parts : {1, 4}) {
      constexpr int kRows = 5, kHeads = 3;
      TileLists lists{};
      lists.long_rows = long_rows;
      const int grid_rows = kRows + long_rows * (parts - 1);
      std::map<std::tuple<int, int, int>, int> taken;
      bool is_past_long_rows = false;
      for (int y = 0; y < kHeads; ++y) {
        for (int x = 0; x < grid_rows; ++x) {
          const RowPart one = row_part(lists, parts, x, y, grid_rows, kHeads);
          ++taken[{one.place, one.head, one.part}];
          ASSERT_TRUE(one.place >= 0 && one.place < kRows && one.head >= 0 && one.head < kHeads);
          ASSERT_TRUE(one.part >= 0 && one.part < (one.place < long_rows ? parts : 1));
          is_past_long_rows = is_past_long_rows || one.place >= long_rows;
          EXPECT_TRUE(one.place >= long_rows || !is_past_long_rows);
        }
      }
      EXPECT_EQ(taken.size(), static_cast<std::size_t>(kHeads * grid_rows));
    }
  }
}

TEST(RowsOfHeads, AreTakenOnceEachLongRowsFirstThenHeadByHead) {
  constexpr int kRows = 5, kHeads = 3;
  for (const int long_rows : {0, 1, 3, 5}) {
    TileLists lists{};
    lists.long_rows = long_rows;
    std::vector<std::pair<int, int>> taken;  // head, place
    for (int y = 0; y < kHeads; ++y) {
      for (int x = 0; x < kRows; ++x) {
        const RowPart one = row_of_heads(lists, x, y, kRows, kHeads);
        EXPECT_EQ(one.part, 0);
        taken.emplace_back(one.head, one.place);
      }
    }
    std::vector<std::pair<int, int>> expected;
    for (int place = 0; place < long_rows; ++place) {
      for (int head = 0; head < kHeads; ++head) expected.emplace_back(head, place);
    }
    for (int head = 0; head < kHeads; ++head) {
      for (int place = long_rows; place < kRows; ++place) expected.emplace_back(head, place);
    }
    EXPECT_EQ(taken, expected) << long_rows;
  }
}

}  // namespace
}  // namespace tilewise::cuda
