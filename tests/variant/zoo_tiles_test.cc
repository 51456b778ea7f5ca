// Every named variant's tile classes against its definition in the rows.
#include <gtest/gtest.h>

#include "tests/variant/zoo_rows.h"
#include "tilewise/tiles.h"

namespace tilewise {
namespace {

Problem problem_of(const Shape& shape) {
  Problem problem = Problem::uniform(shape.b, shape.h_q, shape.h_kv, shape.s_q, shape.s_kv);
  for (Sequence& sequence : problem.sequences) {
    sequence.key_offset = shape.key_offset;
    if (shape.query_offset != Shape::kByLengths) sequence.query_offset = shape.query_offset;
  }
  return problem;
}

/// Entries of one sequence and head that the definition keeps, [s_q, s_kv].
std::vector<std::uint8_t> kept_entries(const Row& row, const Shape& shape, int batch, int head) {
  std::vector<std::uint8_t> kept(static_cast<std::size_t>(shape.s_q * shape.s_kv));
  for_each_point(shape, [&](const Point& point) {
    if (point.batch != batch || point.head != head) return;
    kept[static_cast<std::size_t>(point.query_index * shape.s_kv + point.key_index)] = row.keeps(point) ? 1 : 0;
  });
  return kept;
}

/// The class that a tile has by counting.
TileClass counted_class(const std::vector<std::uint8_t>& kept, const Shape& shape, const TileMap& map, std::int64_t row,
                        std::int64_t column) {
  std::int64_t count = 0, all = 0;
  for (std::int64_t i = row * map.tile.queries; i < std::min<std::int64_t>((row + 1) * map.tile.queries, shape.s_q);
       ++i) {
    for (std::int64_t j = column * map.tile.keys; j < std::min<std::int64_t>((column + 1) * map.tile.keys, shape.s_kv);
         ++j) {
      count += kept[static_cast<std::size_t>(i * shape.s_kv + j)];
      ++all;
    }
  }
  return count == 0 ? TileClass::empty : count == all ? TileClass::full : TileClass::partial;
}

class ZooTiles : public testing::TestWithParam<Row> {};

TEST_P(ZooTiles, AreClassifiedAsTheyAre) {
  const Row& row = GetParam();
  const Variant variant = parse_variant(row.call);
  for (const Shape& shape : row.shapes) {
    if (shape.query_offset == Shape::kByLengths && shape.key_offset + shape.s_kv < shape.s_q)
      continue;  // positions < 0
    const Filled filled = fill(variant, row.tables(shape));
    const Problem problem = problem_of(shape);
    for (int batch = 0; batch < shape.b; ++batch) {
      for (int head = 0; head < shape.h_q; ++head) {
        const auto kept = kept_entries(row, shape, batch, head);
        for (const TileSizes tile : {TileSizes{4, 4}, TileSizes{3, 5}, TileSizes{1, 1}, TileSizes{64, 2}}) {
          const TileMap map = classify_tiles(variant, filled.bindings, problem, tile, batch, head);
          for (std::int64_t i = 0; i < map.rows; ++i) {
            for (std::int64_t j = 0; j < map.columns; ++j) {
              ASSERT_EQ(to_string(map.at(i, j)), std::string(to_string(counted_class(kept, shape, map, i, j))))
                  << row.call << ", tile " << i << ", " << j << " of " << tile.queries << " x " << tile.keys
                  << ", head " << head << ", batch " << batch << ", " << shape.s_q << " x " << shape.s_kv;
            }
          }
        }
        const EntryCount count = count_entries(variant, filled.bindings, problem, batch, head);
        EXPECT_TRUE(count.is_exact()) << row.call;
        EXPECT_EQ(count.least, std::count(kept.begin(), kept.end(), 1)) << row.call;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Zoo, ZooTiles, testing::ValuesIn(all_rows()), row_name);

}  // namespace
}  // namespace tilewise
