// Dropout on a tile of weights.
#pragma once

#include <cstdint>

#include "core/dropout.h"
#include "cpu/kernels.h"
#include "variant/lanes/dropout_strip.h"

namespace tilewise::attention {

/// Multiplies each weight of the block by 0 or by dropout's scale. The block's keys count from `first_key`;
/// `head_index` is sequence * h_q + head. `on_lanes`: variant::dropout_function, where there is one; the same bits.
void drop_weights(const Dropout& dropout, std::uint32_t head_index, std::int64_t first_key,
                  const cpu::ScoreBlock& block, variant::DropoutFunction on_lanes);

}  // namespace tilewise::attention
