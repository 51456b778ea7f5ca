// A variant's mask: what of it decides which entries are removed.
#pragma once

#include <vector>

#include "variant/interval_reading.h"

namespace tilewise::tiles {

/// A program whose wanted values are bools: an entry is kept where all of them are true. See docs/decisions/masks.md.
struct Mask {
  variant::IntervalProgram program;
  bool follows_head = false;  // whether heads differ
  std::vector<bool> removes;  // [stages], whether a stage may remove an entry
};

/// Whether the entries of a lane's box are kept, by a reading of a mask's program: three-valued.
inline variant::Interval kept(const variant::IntervalReading& reading, std::size_t lane) {
  variant::Interval result = variant::single(1);
  for (const variant::Register condition : reading.wanted()) {
    const variant::Interval& value = reading.value(condition, lane);
    result.low = value.low < result.low ? value.low : result.low;
    result.high = value.high < result.high ? value.high : result.high;
  }
  return result;
}

/// The mask of a variant: its keeps, and its score stages that can reach -inf for a score of at most 2^63 in magnitude,
/// somewhere in `universe`. Conditions that hold all over the universe are left out, with everything that only they
/// read. The slots' tables must stay while the mask is used.
Mask make_mask(const Variant::Data& variant, const variant::SlotBounds& slots, const variant::IntervalPlace& universe);

/// Bounds of the coordinates over all sequences and heads of a valid problem that have entries.
variant::IntervalPlace universe_of(const Problem& problem);

}  // namespace tilewise::tiles
