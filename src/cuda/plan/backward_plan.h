// The backward kernel's shape and shared memory: plain arithmetic, no GPU needed.
#pragma once

#include <cstdint>

#include "cuda/plan/forward_plan.h"

namespace tilewise::cuda {

/// Tiles are 64 x 64 and a block has 4 warps, whose registers hold d_k and d_v of 16 keys each: up to 128 columns of
/// both. One plan for all.
struct BackwardPlan {
  static constexpr int kQueries = 64, kKeys = 64, kWarps = 4;

  int threads() const { return kWarps * 32; }

  /// Dynamic shared memory of a block: k, v, a tile of score gradients, and two tiles of q and d_o with two numbers a
  /// row.
  std::int64_t shared_bytes(const ForwardShape& shape) const;
};

/// Throws Error(unsupported) for what the backward kernel does not take.
void validate_backward(const ForwardShape& shape);

}  // namespace tilewise::cuda
