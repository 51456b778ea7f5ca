// The key tiles that query tiles visit.
#include "cuda/plan/tile_lists.h"

#include <gtest/gtest.h>

#include "tilewise/zoo.h"

namespace tilewise::cuda {
namespace {

HostTileLists lists_of(const Variant& variant, const Problem& problem, TileSizes tile) {
  tiles::Classifier classifier(variant, {}, problem);
  return make_tile_lists(classifier, problem, tile);
}

/// A list's entries as the kernel reads them.
std::vector<int> row(const HostTileLists& lists, std::size_t number) {
  const auto begin = lists.tiles.begin() + static_cast<std::ptrdiff_t>(lists.first[number]);
  return {begin, begin + lists.count[number]};
}

constexpr int full(int tile) { return 2 * tile; }
constexpr int partial(int tile) { return 2 * tile + 1; }

TEST(TileLists, CausalRowsEndAtTheDiagonal) {
  const HostTileLists lists = lists_of(zoo::causal(), Problem::uniform(1, 2, 1, 8, 8), {4, 2});
  EXPECT_EQ(lists.heads, 1);
  EXPECT_EQ(lists.rows, 2);
  EXPECT_EQ(row(lists, 0), (std::vector{partial(0), partial(1)}));
  EXPECT_EQ(row(lists, 1), (std::vector{full(0), full(1), partial(2), partial(3)}));
  EXPECT_EQ(lists.order, (std::vector{1, 0, 1, 0}));  // for each of the two heads, the longer row first
}

TEST(TileLists, TilesOverTheEndsArePartial) {
  Problem problem = Problem::uniform(1, 1, 1, 3, 7);
  problem.sequences[0].key_start = 3;
  // Tiles of 2 keys: 0 has none, 1 begins before key_start, 2 is whole, 3 reaches past the end.
  EXPECT_EQ(row(lists_of(Variant(), problem, {4, 2}), 0), (std::vector{partial(1), full(2), partial(3)}));
}

TEST(TileLists, ShorterSequencesHaveEmptyRowsAndHeadsTheirOwnLists) {
  Problem problem = Problem::uniform(2, 2, 1, 6, 4);
  problem.sequences[1].s_q = 1;
  const Variant by_head = keep([](const At& at) { return at.head == 1 || at.key_index < 2; });
  const HostTileLists lists = lists_of(by_head, problem, {4, 2});
  EXPECT_EQ(lists.heads, 2);
  EXPECT_EQ(lists.count, (std::vector{1, 1, 2, 2, 1, 0, 2, 0}));
}

TEST(TileLists, KeyTilesMeetTheQueriesFromTheDiagonalOn) {
  const Problem problem = Problem::uniform(1, 2, 1, 8, 8);
  tiles::Classifier classifier(zoo::causal(), {}, problem);
  const HostTileLists lists = make_query_lists(classifier, problem, {4, 2});
  EXPECT_EQ(lists.rows, 4);
  EXPECT_EQ(row(lists, 0), (std::vector{partial(0), full(1)}));
  EXPECT_EQ(row(lists, 1), (std::vector{partial(0), full(1)}));
  EXPECT_EQ(row(lists, 2), (std::vector{partial(1)}));
  EXPECT_EQ(lists.order, (std::vector{0, 1, 2, 3}));  // for the one key head
}

}  // namespace
}  // namespace tilewise::cuda
