// Predicted traffic against bytes counted by hand and by brute force.
#include "tilewise/traffic.h"

#include <gtest/gtest.h>

#include "tilewise/error.h"
#include "tilewise/zoo.h"

namespace tilewise {
namespace {

const AttentionShape kShape{.d_qk = 8, .d_v = 4, .dtype = DType::bfloat16};

TEST(Traffic, StandardIsAlgorithm0) {
  // Two sequences of 10 queries and 20 keys, 6 heads. For each head, in elements: read q 80, k 160, S 200, P 200, v 80;
  // write S 200, P 200, o 40. Times 2 bytes, 12 heads in all.
  const Traffic traffic = standard_traffic(Problem::uniform(2, 6, 3, 10, 20), kShape);
  EXPECT_EQ(traffic, (Traffic{12 * 2 * 720, 12 * 2 * 440}));
}

TEST(Traffic, TiledReadsKeysOnceForEachKeptTile) {
  // 10 queries in tiles of 4: 3 rows; 20 keys in tiles of 8: 2 whole and one of 4 keys. Plain keeps all.
  const Traffic traffic = tiled_traffic(Variant(), {}, Problem::uniform(1, 2, 1, 10, 20), kShape, {4, 8});
  EXPECT_EQ(traffic, (Traffic{2 * 2 * (10 * 8 + 3 * 20 * 12), 2 * 10 * (4 * 2 + 4)}));
}

TEST(Traffic, TiledSkipsEmptyTiles) {
  // Causal 16 x 16 in tiles of 4: rows keep 1, 2, 3 and 4 tiles.
  const Traffic traffic = tiled_traffic(zoo::causal(), {}, Problem::uniform(1, 1, 1, 16, 16), kShape, {4, 4});
  EXPECT_EQ(traffic.bytes_read, 2 * (16 * 8 + 10 * 4 * 12));
}

TEST(Traffic, NothingIsMovedForNothing) {
  EXPECT_EQ(tiled_traffic(Variant(), {}, Problem::uniform(1, 1, 1, 0, 0), kShape), Traffic{});
  EXPECT_EQ(standard_traffic(Problem::uniform(0, 1, 1, 5, 5), kShape), Traffic{});
}

TEST(Traffic, FollowsTheLaw) {
  const Problem problem = Problem::uniform(1, 1, 1, 65536, 65536);
  const AttentionShape shape{.d_qk = 64, .d_v = 64, .dtype = DType::float32};
  const auto points = traffic_law(problem, shape);
  ASSERT_EQ(points.size(), 6u);
  // A pass moves q, o twice and four statistics for each row: 3 d + 4 elements. There are 4 d N / M passes, which makes
  // 4 (3 + 4 / d) times the law; k and v, moved once, are another 2 N d, or 2 M / (N d) times the law.
  for (const TrafficLawPoint& point : points) {
    const double elements = static_cast<double>(point.fast_memory) / 4;
    EXPECT_DOUBLE_EQ(point.tiled.bytes() / point.law, 4 * (3 + 4.0 / 64) + 2 * elements / (65536.0 * 64))
        << point.fast_memory;
  }
  EXPECT_EQ(points[1].fast_memory, 64 << 10);
  // M is 16384 elements: key tiles of 64 rows, 1024 passes.
  EXPECT_EQ(points[1].tiled.bytes_written, std::int64_t{1024} * 65536 * (64 * 4 + 8));
}

TEST(Traffic, RefusesShapes) {
  EXPECT_THROW(standard_traffic(Problem::uniform(1, 1, 1, 4, 4), {.d_qk = 0}), Error);
  EXPECT_THROW(tiled_traffic(Variant(), {}, Problem::uniform(1, 1, 1, 4, 4), kShape, {0, 4}), Error);
}

}  // namespace
}  // namespace tilewise
