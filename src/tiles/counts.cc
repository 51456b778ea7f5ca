#include "tiles/counts.h"

#include <algorithm>

namespace tilewise {

double TileMap::kept_share() const {
  const std::int64_t all = rows * columns;
  return all == 0 ? 0 : static_cast<double>(kept()) / static_cast<double>(all);
}

namespace {

/// Turns differences between neighbours into values.
void sum_up(std::vector<std::int64_t>& differences) {
  for (std::size_t i = 1; i < differences.size(); ++i) differences[i] += differences[i - 1];
  differences.pop_back();
}

}  // namespace

TileMap classify_tiles(const Variant& variant, const Bindings& bindings, const Problem& problem, TileSizes tile,
                       std::int64_t sequence, std::int64_t head) {
  tiles::Classifier classifier(variant, bindings, problem);
  return tiles::map_of(classifier, tile, sequence, head);
}

TileMap tiles::map_of(Classifier& classifier, TileSizes tile, std::int64_t sequence, std::int64_t head) {
  TileMap map;
  map.tile = tile;
  const TileRectangle all = classifier.tiles_of(sequence, head, tile);
  map.rows = all.rows();
  map.columns = all.columns();
  map.classes.assign(static_cast<std::size_t>(all.tiles()), TileClass::empty);
  // Rectangles add to the counts of all their rows and columns: kept as differences, that is four additions.
  map.kept_in_row.assign(static_cast<std::size_t>(map.rows) + 1, 0);
  map.kept_in_column.assign(static_cast<std::size_t>(map.columns) + 1, 0);
  classifier.walk(sequence, head, tile, [&map](const TileRectangle& tiles, TileClass tile_class) {
    if (tile_class == TileClass::empty) return;
    (tile_class == TileClass::full ? map.full : map.partial) += tiles.tiles();
    for (std::int64_t row = tiles.row_begin; row < tiles.row_end; ++row)
      std::fill_n(map.classes.begin() + row * map.columns + tiles.column_begin, tiles.columns(), tile_class);
    const auto add = [](std::vector<std::int64_t>& counts, std::int64_t begin, std::int64_t end, std::int64_t number) {
      counts[static_cast<std::size_t>(begin)] += number;
      counts[static_cast<std::size_t>(end)] -= number;
    };
    add(map.kept_in_row, tiles.row_begin, tiles.row_end, tiles.columns());
    add(map.kept_in_column, tiles.column_begin, tiles.column_end, tiles.rows());
  });
  map.empty = all.tiles() - map.kept();
  sum_up(map.kept_in_row);
  sum_up(map.kept_in_column);
  return map;
}

EntryCount count_entries(const Variant& variant, const Bindings& bindings, const Problem& problem,
                         std::int64_t sequence, std::int64_t head, std::int64_t max_boxes) {
  return tiles::Classifier(variant, bindings, problem).count_entries(sequence, head, max_boxes);
}

}  // namespace tilewise
