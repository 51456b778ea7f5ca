#include "tiles/classify.h"

#include <array>

#include "core/fail.h"
#include "core/round_up.h"
#include "tiles/split.h"

namespace tilewise {

const char* to_string(TileClass tile_class) {
  switch (tile_class) {
    case TileClass::empty: return "empty";
    case TileClass::partial: return "partial";
    case TileClass::full: return "full";
  }
  return "unknown";
}

namespace tiles {

using namespace variant;  // NOLINT(google-build-using-namespace): this layer is over that one

namespace {

/// Groups of boxes that bisection evaluates before it calls a tile partial unproven. A 128 x 128 tile that one line
/// crosses needs some 100 groups to be traced down to single entries; ones that need more are rare and cost only speed.
constexpr int kMaxGroups = 256;

bool is_one_entry(const Box& box) { return box.query_end - box.query_begin == 1 && box.key_end - box.key_begin == 1; }

/// The entries at the corners: near a mask's edge these usually show a kept and a removed one at once.
std::array<Box, kLanes> corners_of(const Box& box) {
  const auto entry = [](std::int64_t query, std::int64_t key) { return Box{query, query + 1, key, key + 1}; };
  return {entry(box.query_begin, box.key_begin), entry(box.query_begin, box.key_end - 1),
          entry(box.query_end - 1, box.key_begin), entry(box.query_end - 1, box.key_end - 1)};
}

}  // namespace

Classifier::Shared::Shared(const Variant& the_variant, const Bindings& bindings, const Problem& the_problem)
    : variant(the_variant), problem(the_problem) {
  problem.validate();
  const Graph& graph = variant.data().graph;
  slots = bounds_of(graph, bind(graph, bindings));
  mask = make_mask(variant.data(), slots, universe_of(problem));
}

Classifier::Classifier(const Variant& variant, const Bindings& bindings, const Problem& problem)
    : shared_(std::make_shared<const Shared>(variant, bindings, problem)), reading_(shared_->mask.program) {}

void Classifier::enter(std::int64_t sequence, std::int64_t head) {
  if (sequence == sequence_ && head == head_) return reading_.use(0);
  const Problem& problem = shared_->problem;
  if (sequence < 0 || sequence >= problem.b())
    fail_argument("sequence is {}, expected 0 to {}", sequence, problem.b() - 1);
  if (head < 0 || head >= problem.h_q) fail_argument("head is {}, expected 0 to {}", head, problem.h_q - 1);
  reading_.enter(problem, sequence, head);
  sequence_ = sequence;
  head_ = head;
  const Sequence& lengths = problem.sequences[static_cast<std::size_t>(sequence)];
  lengths_ = {0, lengths.s_q, 0, lengths.s_kv};
  entries_ = entries_of(lengths);
}

/// Finds a kept and a removed entry, which makes a box partial, or proves that there is none of either kind.
/// `none_removed` says that the box is all of the tile, so that nothing of it is known to be removed yet.
TileClass Classifier::bisect(const Box& box, bool none_removed) {
  bool kept_seen = false, removed_seen = !none_removed;
  // Whether the box is partial for what was seen in a lane. An entry whose fate depends on its score makes it so.
  const auto is_partial_by = [&](const Interval& verdict, bool one_entry) {
    kept_seen |= verdict.is_true();
    removed_seen |= verdict.is_false();
    return (kept_seen && removed_seen) || (one_entry && verdict == kUnknown);
  };
  const auto corners = corners_of(box);
  reading_.evaluate(corners);
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    if (is_partial_by(kept(reading_, lane), true)) return TileClass::partial;
  }
  open_boxes_.assign(1, box);
  for (int groups = 0; !open_boxes_.empty(); ++groups) {
    if (groups == kMaxGroups) return TileClass::partial;
    const auto parts = split(open_boxes_.back());
    open_boxes_.pop_back();
    reading_.evaluate(parts);
    for (std::size_t lane = 0; lane < parts.count; ++lane) {
      const Interval verdict = kept(reading_, lane);
      if (is_partial_by(verdict, is_one_entry(parts.parts[lane]))) return TileClass::partial;
      if (verdict == kUnknown) open_boxes_.push_back(parts.parts[lane]);
    }
  }
  return kept_seen ? TileClass::full : TileClass::empty;
}

TileClass Classifier::classify(std::int64_t sequence, std::int64_t head, const Box& box) {
  enter(sequence, head);
  if (box.is_empty()) return TileClass::empty;
  if (clipped(box, lengths_) != box) {
    fail_argument("box of queries [{}, {}) and keys [{}, {}): expected it within s_q = {} and s_kv = {}",
                  box.query_begin, box.query_end, box.key_begin, box.key_end, lengths_.query_end, lengths_.key_end);
  }
  const Box existing = clipped(box, entries_);
  if (existing.is_empty()) return TileClass::empty;
  reading_.evaluate(std::span(&existing, 1));
  const Interval verdict = kept(reading_, 0);
  if (verdict.is_false()) return TileClass::empty;
  if (verdict.is_true()) return existing == box ? TileClass::full : TileClass::partial;
  return is_one_entry(existing) ? TileClass::partial : bisect(existing, existing == box);
}

TileRectangle Classifier::tiles_of(std::int64_t sequence, std::int64_t head, TileSizes tile) {
  enter(sequence, head);
  if (tile.queries < 1 || tile.keys < 1)
    fail_argument("tile sizes are {} queries by {} keys, expected 1 or more of both", tile.queries, tile.keys);
  return {0, ceil_div(lengths_.query_end, tile.queries), 0, ceil_div(lengths_.key_end, tile.keys)};
}

/// Evaluates up to kLanes rectangles. Visits those that are decided or single tiles; the others stay open.
void Classifier::visit_or_open(std::span<const TileRectangle> rectangles, TileSizes tile, const TileVisitor& visit) {
  group_.count = 0;
  for (const TileRectangle& tiles : rectangles) {
    // Field by field: a whole Box that is copied right after its fields were stored stalls for as long as half of an
    // evaluation takes.
    Box& box = group_.boxes[group_.count];
    const std::int64_t first_key = tiles.column_begin * tile.keys;
    box.query_begin = tiles.row_begin * tile.queries;
    box.query_end = std::min(tiles.row_end * tile.queries, entries_.query_end);
    box.key_begin = std::max(first_key, entries_.key_begin);
    box.key_end = std::min(tiles.column_end * tile.keys, entries_.key_end);
    if (box.key_begin >= box.key_end) {
      visit(tiles, TileClass::empty);
      continue;
    }
    group_.tiles[group_.count] = &tiles;
    group_.is_whole[group_.count++] = box.key_begin == first_key;
  }
  if (group_.count == 0) return;
  reading_.evaluate(std::span(group_.boxes.data(), group_.count));
  std::array<std::size_t, kLanes> unknown;  // single tiles: looked into last, since that evaluates again
  std::size_t unknown_count = 0;
  for (std::size_t lane = 0; lane < group_.count; ++lane) {
    const TileRectangle& tiles = *group_.tiles[lane];
    const Interval verdict = kept(reading_, lane);
    if (verdict.is_false()) {
      visit(tiles, TileClass::empty);
    } else if (verdict.is_true() && group_.is_whole[lane]) {
      visit(tiles, TileClass::full);
    } else if (tiles.tiles() > 1) {
      const Tape tape = reading_.tape_inside(lane);
      open_tiles_.push_back({tiles, tape, reading_.tapes()});
    } else if (verdict.is_true() || is_one_entry(group_.boxes[lane])) {
      visit(tiles, TileClass::partial);
    } else {
      unknown[unknown_count++] = lane;
    }
  }
  for (std::size_t i = 0; i < unknown_count; ++i)
    visit(*group_.tiles[unknown[i]], bisect(group_.boxes[unknown[i]], group_.is_whole[unknown[i]]));
}

void Classifier::walk(std::int64_t sequence, std::int64_t head, TileSizes tile, const TileVisitor& visit) {
  const TileRectangle all = tiles_of(sequence, head, tile);
  open_tiles_.clear();
  if (all.tiles() > 0) visit_or_open(std::span(&all, 1), tile, visit);
  while (!open_tiles_.empty()) {
    const OpenTiles open = open_tiles_.back();
    open_tiles_.pop_back();
    reading_.drop_tapes(open.tape_count);
    reading_.use(open.tape);
    const auto parts = split(open.tiles);
    visit_or_open(std::span(parts.parts.data(), parts.count), tile, visit);
  }
}

EntryCount Classifier::count_entries(std::int64_t sequence, std::int64_t head, std::int64_t max_boxes) {
  enter(sequence, head);
  EntryCount count{.all = lengths_.entries()};
  if (entries_.is_empty()) return count;
  const auto include = [&](const Box& box, const Interval& verdict, bool is_last) {
    if (verdict.is_false()) return;
    if (verdict.is_true()) {
      count.least += box.entries();
      count.most += box.entries();
    } else if (is_last || is_one_entry(box)) {
      count.most += box.entries();
    } else {
      open_boxes_.push_back(box);
    }
  };
  open_boxes_.clear();
  reading_.evaluate(std::span(&entries_, 1));
  include(entries_, kept(reading_, 0), max_boxes <= 1);
  for (std::int64_t boxes = 1; !open_boxes_.empty();) {
    const auto parts = split(open_boxes_.back());
    open_boxes_.pop_back();
    boxes += static_cast<std::int64_t>(parts.count);
    reading_.evaluate(parts);
    for (std::size_t lane = 0; lane < parts.count; ++lane)
      include(parts.parts[lane], kept(reading_, lane), boxes >= max_boxes);
  }
  return count;
}

}  // namespace tiles
}  // namespace tilewise
