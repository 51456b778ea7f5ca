// A variant's stages as lane programs: what kernels run on a tile of scores.
#pragma once

#include "variant/lanes/program.h"

namespace tilewise::variant {

/// Each has one output, the new scores: those of removed entries are -inf, a stage's finite results are clamped from
/// below at -2^126, NaN stays. The output may lie where the scores do.
struct VariantLanes {
  LaneProgram full;                 // for tiles all of whose entries the keeps are proven to keep: score stages alone
  LaneProgram partial;              // for others: keeps too
  bool changes_full_tiles = false;  // false: `full` would copy the scores
  bool changes_partial_tiles = false;  // likewise
};

/// Throws Error as LaneProgram does.
VariantLanes lower_variant(const Variant& variant, const LaneOptions& options);

}  // namespace tilewise::variant
