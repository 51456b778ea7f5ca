// Classifies boxes of entries, and walks all tiles from large boxes down to the tiles themselves.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "tiles/mask.h"
#include "tilewise/tiles.h"

namespace tilewise::tiles {

/// Tiles [row_begin, row_end) by [column_begin, column_end).
struct TileRectangle {
  std::int64_t row_begin, row_end;
  std::int64_t column_begin, column_end;

  std::int64_t rows() const { return row_end - row_begin; }
  std::int64_t columns() const { return column_end - column_begin; }
  std::int64_t tiles() const { return rows() * columns(); }
};

/// Called with rectangles of tiles of one class; partial ones come alone. Together they cover all tiles once, in no
/// particular order.
using TileVisitor = std::function<void(const TileRectangle&, TileClass)>;

/// Classifies the boxes of one problem under one variant. Copies share what was built; use one copy for each thread.
class Classifier {
 public:
  /// Binds the variant and builds the range indexes of the tables that its mask reads: their data must stay as it is.
  /// Throws Error(invalid_argument) on bindings that do not fit the variant and on an invalid problem.
  Classifier(const Variant& variant, const Bindings& bindings, const Problem& problem);

  /// What the mask leaves of a box inside the sequence's lengths; an empty box is empty. Keys before key_start count
  /// as removed. Throws Error(invalid_argument) on a sequence, head or box outside the problem.
  TileClass classify(std::int64_t sequence, std::int64_t head, const Box& box);

  /// All tiles of a sequence and head. Throws as walk.
  TileRectangle tiles_of(std::int64_t sequence, std::int64_t head, TileSizes tile);

  /// Visits all tiles of a sequence and head. Throws as classify, and on tile sizes below 1.
  void walk(std::int64_t sequence, std::int64_t head, TileSizes tile, const TileVisitor& visit);

  /// Counts kept entries, evaluating at most about `max_boxes` boxes.
  EntryCount count_entries(std::int64_t sequence, std::int64_t head, std::int64_t max_boxes);

  /// Whether the classes of different heads may differ.
  bool follows_head() const { return shared_->mask.follows_head; }

 private:
  struct Shared {
    Shared(const Variant& variant, const Bindings& bindings, const Problem& problem);
    Variant variant;
    Problem problem;
    variant::SlotBounds slots;
    Mask mask;
  };

  void enter(std::int64_t sequence, std::int64_t head);
  TileClass bisect(const Box& box, bool none_removed);
  void visit_or_open(std::span<const TileRectangle> rectangles, TileSizes tile, const TileVisitor& visit);

  std::shared_ptr<const Shared> shared_;
  variant::IntervalReading reading_;
  std::int64_t sequence_ = -1, head_ = -1;  // that the reading is in
  Box lengths_;                             // all entries of that sequence, and
  Box entries_;                             // those that exist

  /// A group of rectangles of tiles under evaluation. Held here because clearing it each time would show.
  struct Group {
    std::array<Box, variant::kLanes> boxes;  // existing entries
    std::array<const TileRectangle*, variant::kLanes> tiles;
    std::array<bool, variant::kLanes> is_whole;  // all entries of the tiles exist
    std::size_t count = 0;
  };
  /// Tiles that are to be split.
  struct OpenTiles {
    TileRectangle tiles;
    variant::Tape tape;      // for boxes inside them
    std::size_t tape_count;  // tapes that are in use until they are split
  };
  Group group_;
  std::vector<OpenTiles> open_tiles_;  // of walk
  std::vector<Box> open_boxes_;        // of bisect and count_entries
};

}  // namespace tilewise::tiles
