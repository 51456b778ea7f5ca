// Steady tiles that follow each other: what is known of one need not be looked up for each.
#pragma once

#include "lane_scores.h"

namespace tilewise::cuda::sm90 {

/// What is to be known of a lane's tile, where the next lane's is the next one of the walk if `is_followed`. By all
/// lanes of a warp.
__device__ inline SteadyTile steady_tile_of(float value, bool is_steady, bool is_followed) {
  const unsigned lane = threadIdx.x % 32;
  const bool is_next = __shfl_down_sync(~0u, int(is_steady), 1) != 0;
  const bool is_same = __shfl_down_sync(~0u, value, 1) == value;
  const unsigned going_on = __ballot_sync(~0u, is_steady && is_next && is_same && is_followed && lane < 31);
  return {value, is_steady ? __ffs(int(~(going_on >> lane))) : 0};
}

/// Takes a tile off a run, or where none is left off the next one, whose first it then is. Whether there is one: a run
/// without tiles is none.
template <class Run, class Next>
__device__ inline bool take_of_run(Run& run, const Next& next) {
  if (run.left == 0) {
    run = next();
    if (run.left == 0) return false;
  }
  --run.left;
  return true;
}

}  // namespace tilewise::cuda::sm90
