#include <gtest/gtest.h>

#include "tilewise/error.h"
#include "tilewise/tiles.h"

namespace tilewise {
namespace {

// Counted by hand: s_q = 3, s_kv = 5, d_qk = 2, d_v = 4, with one byte for each element of q, 10 of k and v, 100 of o,
// 1000 of scores, so that every digit says where it comes from. q 6, k 100, v 200, o 1200, scores 15000.
constexpr TrafficShape kShape{3, 5, 2, 4, 1, 10, 100, 1000};

TEST(Traffic, StandardForwardIsAlgorithm0) {
  EXPECT_EQ(standard_forward_traffic(kShape), (Traffic{6 + 100 + 15000 + 15000 + 200, 15000 + 15000 + 1200}));
}

TEST(Traffic, StandardBackwardIsAlgorithm3) {
  EXPECT_EQ(standard_backward_traffic(kShape),
            (Traffic{(15000 + 1200) + (1200 + 200) + (15000 + 15000) + (15000 + 100) + (15000 + 6),
                     200 + 15000 + 15000 + 6 + 100}));
}

TileMap map_of(const Variant& variant, TileSizes tile) {
  return classify_tiles(variant, {}, Problem::uniform(1, 1, 1, kShape.s_q, kShape.s_kv), tile);
}

TEST(Traffic, TiledForwardReadsKeysForEachRowOfTiles) {
  // Two rows of tiles: 2 and 1 queries; each passes 5 keys of 6 elements of 10 bytes. Rows of o and lse: 3 * (400 + 4).
  EXPECT_EQ(tiled_forward_traffic(kShape, map_of(Variant(), {2, 2})), (Traffic{6 + 2 * 5 * 60, 3 * 404}));
}

TEST(Traffic, EmptyTilesMoveNothing) {
  // Top-left causal in tiles of 2 by 2: queries 0 and 1 pass keys 0 and 1, query 2 passes keys 0 to 3.
  const Variant causal = keep([](const At& at) { return at.query_index >= at.key_index; });
  EXPECT_EQ(tiled_forward_traffic(kShape, map_of(causal, {2, 2})), (Traffic{6 + (2 + 4) * 60, 3 * 404}));
  const Variant nothing = keep([](const At& at) { return at.query_index < 0; });
  EXPECT_EQ(tiled_forward_traffic(kShape, map_of(nothing, {2, 2})), (Traffic{0, 3 * 404}));
}

TEST(Traffic, TiledBackwardReadsQueriesForEachColumnOfTiles) {
  // D: 3 rows of o and d_o, written 3 * 4. Keys once: 300. Three columns of tiles pass 3 queries each: q 2, d_o 400,
  // lse and D 8, d_q 8 read and 8 written. At the end d_k, d_v 300, and d_q 3 * 8 read, 6 written.
  EXPECT_EQ(tiled_backward_traffic(kShape, map_of(Variant(), {2, 2})),
            (Traffic{2 * 1200 + 300 + 9 * (2 + 400 + 8 + 8) + 24, 12 + 9 * 8 + 300 + 6}));
}

TEST(Traffic, FlashTilesAreThePapers) {
  // d = 64 and M = 49152 elements (96 KiB of float16): B_c = ceil(49152 / 256) = 192, B_r = min(192, 64).
  const TrafficShape shape{1024, 1024, 64, 64};
  EXPECT_EQ(flash_tiles(shape, 49152).keys, 192);
  EXPECT_EQ(flash_tiles(shape, 49152).queries, 64);
  EXPECT_EQ(flash_tiles(shape, 257).keys, 2);
  EXPECT_EQ(flash_tiles(shape, 257).queries, 2);
  EXPECT_THROW(flash_tiles(shape, 255), Error);
}

TEST(Traffic, FlashIsAlgorithm1) {
  // 4d = 12: M = 24 gives B_c = 2, so 3 passes over the queries; statistics are 3 * 2 * 4 bytes.
  EXPECT_EQ(flash_forward_traffic(kShape, 24), (Traffic{300 + 3 * (6 + 1200 + 24), 3 * (1200 + 24)}));
}

TEST(Traffic, FallsAsOneOverFastMemory) {
  const TrafficShape shape{1 << 16, 1 << 16, 128, 128};
  for (std::int64_t m = 512 * 16; m <= 512 * 1024; m *= 2) {
    const double ratio = flash_forward_traffic(shape, m).total() / flash_forward_traffic(shape, 2 * m).total();
    EXPECT_GT(ratio, 1.9);
    EXPECT_LE(ratio, 2.0);
  }
}

TEST(Traffic, BadShapesAreNamed) {
  TrafficShape negative = kShape;
  negative.d_v = -1;
  EXPECT_THROW(standard_forward_traffic(negative), Error);
  const TileMap map = map_of(Variant(), {2, 2});
  TrafficShape other = kShape;
  other.s_kv = 7;
  EXPECT_THROW(tiled_forward_traffic(other, map), Error);
}

}  // namespace
}  // namespace tilewise
