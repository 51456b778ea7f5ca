// The loops by which a processor's arithmetic and memory are measured, compiled for each instruction set.
#pragma once

#include <cstdint>

#include "core/isa.h"

namespace tilewise::cpu {

struct RateLoops {
  /// Runs `rounds` of independent float32 multiply-adds and returns how many FLOPs that was. The sum goes to `*sink`,
  /// so that the work is not optimised away.
  double (*multiply_add)(std::int64_t rounds, float* sink);

  /// Likewise dot products of bfloat16 pairs with float32 sums; null where the instruction set has none.
  double (*bfloat16_dot)(std::int64_t rounds, float* sink);

  /// Sums `count` floats, a multiple of 256; to `*sink` likewise.
  void (*read)(const float* data, std::int64_t count, float* sink);
};

/// So many bytes that no cache of this machine holds half of them: 256 MiB at least.
std::int64_t bytes_beyond_caches();

/// The loops compiled for an instruction set; defined in rate_loops.cc once for each.
template <Isa>
const RateLoops& compiled_rate_loops();

}  // namespace tilewise::cpu
