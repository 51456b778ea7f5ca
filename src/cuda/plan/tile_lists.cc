#include "cuda/plan/tile_lists.h"

#include <algorithm>
#include <numeric>

#include "tiles/counts.h"

namespace tilewise::cuda {
namespace {

/// A map read along query tiles, or along key tiles.
class Reading {
 public:
  Reading(const TileMap& map, bool by_key) : map_(map), by_key_(by_key) {}

  std::int64_t rows() const { return by_key_ ? map_.columns : map_.rows; }
  std::int64_t columns() const { return by_key_ ? map_.rows : map_.columns; }
  TileClass at(std::int64_t row, std::int64_t column) const {
    return by_key_ ? map_.at(column, row) : map_.at(row, column);
  }

 private:
  const TileMap& map_;
  bool by_key_;
};

/// Appends the lists of one sequence and head.
void append(HostTileLists& lists, const Reading& map) {
  for (std::int64_t row = 0; row < lists.rows; ++row) {
    const std::size_t begin = lists.tiles.size();
    lists.first.push_back(static_cast<long long>(begin));
    for (std::int64_t column = 0; row < map.rows() && column < map.columns(); ++column) {
      const TileClass tile_class = map.at(row, column);
      if (tile_class == TileClass::empty) continue;
      lists.tiles.push_back(static_cast<int>(2 * column + (tile_class == TileClass::partial)));
    }
    lists.count.push_back(static_cast<int>(lists.tiles.size() - begin));
  }
}

/// A tile that reaches past the sequence's keys is full for the classifier, which knows no keys there.
void mark_last_column_partial(TileMap& map, std::int64_t s_kv) {
  if (s_kv % map.tile.keys == 0) return;
  for (std::int64_t row = 0; row < map.rows; ++row) {
    TileClass& last = map.classes[static_cast<std::size_t>((row + 1) * map.columns - 1)];
    if (last == TileClass::full) last = TileClass::partial;
  }
}

/// The rows of a group of lists, the longest list first; equal ones keep their order.
std::vector<int> longest_first(const HostTileLists& lists, std::size_t group) {
  const auto rows = static_cast<std::size_t>(lists.rows);
  std::vector<int> order(rows);
  std::iota(order.begin(), order.end(), 0);
  const int* count = lists.count.data() + group * rows;
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return count[a] > count[b]; });
  return order;
}

HostTileLists make_lists(tiles::Classifier& classifier, const Problem& problem, TileSizes tile, bool by_key) {
  HostTileLists lists;
  lists.heads = classifier.follows_head() ? problem.h_q : 1;
  for (const Sequence& sequence : problem.sequences) {
    const std::int64_t tiles =
        by_key ? (sequence.s_kv + tile.keys - 1) / tile.keys : (sequence.s_q + tile.queries - 1) / tile.queries;
    lists.rows = std::max(lists.rows, tiles);
  }
  const std::int64_t heads = by_key ? problem.h_kv : problem.h_q;
  for (std::int64_t sequence = 0; sequence < problem.b(); ++sequence) {
    for (std::int64_t head = 0; head < lists.heads; ++head) {
      TileMap map = tiles::map_of(classifier, tile, sequence, head);
      if (!by_key) mark_last_column_partial(map, problem.sequences[static_cast<std::size_t>(sequence)].s_kv);
      append(lists, Reading(map, by_key));
    }
    for (std::int64_t head = 0; head < heads; ++head) {
      const std::int64_t group = sequence * lists.heads + (lists.heads == 1 ? 0 : head * (problem.h_q / heads));
      const std::vector<int> order = longest_first(lists, static_cast<std::size_t>(group));
      lists.order.insert(lists.order.end(), order.begin(), order.end());
    }
  }
  return lists;
}

}  // namespace

HostTileLists make_tile_lists(tiles::Classifier& classifier, const Problem& problem, TileSizes tile) {
  return make_lists(classifier, problem, tile, false);
}

HostTileLists make_query_lists(tiles::Classifier& classifier, const Problem& problem, TileSizes tile) {
  return make_lists(classifier, problem, tile, true);
}

}  // namespace tilewise::cuda
