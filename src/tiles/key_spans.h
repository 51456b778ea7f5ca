// Which keys of a tile are kept, as kernels ask for it while they walk.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "tiles/kept_ranges.h"
#include "tiles/mask.h"
#include "tilewise/problem.h"
#include "tilewise/tiles.h"

namespace tilewise::tiles {

/// Keys of a tile: those outside [begin, end) are kept by no query, those in [full_begin, full_end) by every one;
/// nothing is known of the rest. begin == end: nothing is kept.
struct KeySpan {
  std::int64_t begin, full_begin, full_end, end;

  bool is_empty() const { return begin >= end; }
  friend bool operator==(const KeySpan&, const KeySpan&) = default;
};

/// Entries of a box of which a mask keeps one, or of which that could not be told.
struct KeptEntries {
  Box box;
  bool is_certain;  // all of the box is kept
};

/// Which way a kernel walks from tile to tile. What is decided for a tile is tried for those to come as well, since
/// kLanes boxes cost no more than one.
enum class Walk : std::uint8_t { along_keys, along_queries };

/// Finds the spans of one mask. Keeps one verdict: make one for each thread.
class KeySpans {
 public:
  /// Keeps a reference to the mask.
  explicit KeySpans(const Mask& mask) : mask_(&mask), reading_(mask.program) {}

  /// To be called before anything else of a call: whatever was known is forgotten. Keeps a reference.
  void start(const Problem& problem);

  /// Moves to a sequence and head.
  void enter(std::int64_t sequence, std::int64_t head, Walk walk);

  /// The span of a box that is not empty, inside the sequence's lengths. Keys before key_start exist as far as this is
  /// concerned. Rounded outwards (and its full part inwards) to sixteenths of the box's keys, or where it has more than
  /// 64 queries, which are next asked for in strips, to quarters.
  KeySpan operator()(const Box& box);

  /// The spans of the strips of `step` queries that such a box consists of, the last of which may be shorter:
  /// spans[i] of strip i. Costs a quarter of asking for each.
  void strips(const Box& box, std::int64_t step, KeySpan* spans);

  /// Adds the ranges of keys, counted from the box's first, outside of which such a box keeps nothing. They begin and
  /// end at multiples of `step` keys, of more where the box has more than 512 steps.
  void find_ranges(const Box& box, std::int64_t step, KeptRanges& ranges);

  /// What the mask keeps of such a box, found by bisection down to single entries; nothing where it is proven to keep
  /// none. Gives up on the rare mask that needs too many boxes.
  std::optional<KeptEntries> find_kept(const Box& box);

 private:
  /// Evaluates the box, those that the walk comes to next, and a larger one that begins with it. Returns what the mask
  /// leaves of the box.
  TileClass classify(const Box& box);
  KeySpan span_of_class(const Box& box, TileClass found);
  KeySpan refine(const Box& box);

  const Mask* mask_;
  variant::IntervalReading reading_;
  const Problem* problem_ = nullptr;
  std::int64_t sequence_ = -1, head_ = -1;
  Walk walk_ = Walk::along_keys;
  std::int64_t s_q_ = 0, s_kv_ = 0;
  Box known_;                                 // all of one class, which is not partial
  TileClass known_class_ = TileClass::empty;  // of known_
  std::int64_t reach_ = kLeastReach;          // lengths of the larger box that is tried next
  std::array<Box, variant::kLanes - 2> next_;
  std::array<TileClass, variant::kLanes - 2> next_class_{};

  static constexpr std::int64_t kLeastReach = 4, kMostReach = 1024;
};

}  // namespace tilewise::tiles
