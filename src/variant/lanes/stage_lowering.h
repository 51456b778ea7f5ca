// A variant's stages, one after the other, lowered to values of one program.
#pragma once

#include <vector>

#include "variant/lanes/lowering.h"

namespace tilewise::variant {

/// What a score stage leaves.
struct LoweredScore {
  Lowering::View view;       // where nodes see the score that enters the stage
  Lowering::ValueId result;  // before it is clamped
};

struct LoweredStages {
  Lowering::ValueId score;           // of the whole variant, -inf where an entry is removed
  std::vector<LoweredScore> scores;  // of each score stage
};

/// `with_keeps`: false where all entries are known to be kept.
LoweredStages lower_stages(Lowering& lowering, const std::vector<Stage>& stages, bool with_keeps);

}  // namespace tilewise::variant
