// How the keys of a decoded sequence are split: over those that its mask keeps, wherever they lie.
#pragma once

#include <cstdint>

#include "tiles/kept_ranges.h"
#include "tiles/key_spans.h"

namespace tilewise::attention {

/// The splits of one sequence. Every split lies within one range of kept keys.
struct DecodeSplits {
  tiles::KeptRanges ranges{1};  // counted from the first key that exists
  std::int64_t keys = 1;        // of a split, at most: those of a range differ by no more than a step
  std::int64_t step = 1;        // that splits are multiples of, but for the last of a range

  /// At least 1: of a sequence that keeps nothing one split without keys is left.
  std::int64_t count() const;
  tiles::KeyRange at(std::int64_t split) const;
};

/// What splits are made of: multiples of `step` keys, `least_keys` or more of them, at most `most` splits, which is at
/// least KeptRanges::kMost.
struct SplitRules {
  std::int64_t step, least_keys, most;
};

/// Splits of `keys` keys, all kept.
DecodeSplits split_all(std::int64_t keys, const SplitRules& rules);

/// Splits of the keys of a box that any of its queries keeps, to the step: at most rules.most, and no more than splits
/// of rules.least_keys would have of all its keys. `spans` are in the sequence; of a mask that differs between heads
/// take split_all.
DecodeSplits split_kept(tiles::KeySpans& spans, const Box& box, const SplitRules& rules);

}  // namespace tilewise::attention
