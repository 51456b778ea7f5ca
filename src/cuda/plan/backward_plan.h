// Tiles, warps and registers of the backward kernel: plain arithmetic, no GPU needed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cuda/plan/forward_plan.h"

namespace tilewise::cuda {

/// A block's warps share a tile of scores [keys, queries] as a grid, and d_k and d_v as another one. With one column of
/// warps in both, weights go from the one to the other in registers.
struct BackwardPlan {
  int queries = 64, keys = 64;  // of a tile
  int warps = 4;
  int stages = 2;         // tiles of q and d_o in shared memory
  int score_columns = 1;  // warps side by side in a tile of scores
  int column_warps = 1;   // warps side by side in d_k and d_v
  int blocks = 1;         // on a multiprocessor at a time

  int threads() const { return warps * 32; }

  /// Dynamic shared memory of a block: k, v, one or two tiles of scores' size, and `stages` tiles of q and d_o with two
  /// numbers a row.
  std::int64_t shared_bytes(const ForwardShape& shape) const;

  /// Registers of a thread for d_k, d_v and two tiles of scores.
  int matrix_registers(const ForwardShape& shape) const;

  /// Static shared memory in which warps add up the diagonals' gradients of tables (device/tile_gradients.h).
  std::int64_t gradient_bytes() const;

  bool fits(const ForwardShape& shape, const Multiprocessor& limits, const KeptFields& kept = {}) const;

  /// "64 x 128, 8 warps, 2 stages, 1 block".
  std::string text() const;

  bool operator==(const BackwardPlan&) const = default;
};

/// Plans worth measuring, the one that is believed best first; `changes_scores`: the variant has score functions.
/// Throws Error(unsupported) for what no backward kernel takes: dimensions as of the forward kernel, of which every GPU
/// from 8.0 on has room for one plan, except that float32 beyond about 176 columns needs more than 99 KiB a block.
std::vector<BackwardPlan> backward_candidates(const ForwardShape& shape, bool changes_scores,
                                              const Multiprocessor& limits, const KeptFields& kept = {});

/// The first of the candidates.
BackwardPlan choose_backward(const ForwardShape& shape, bool changes_scores, const Multiprocessor& limits,
                             const KeptFields& kept = {});

/// Into how many parts a deterministic backward pass splits a head's key tiles, each with sums of d_q of its own: by
/// the plan's most keys alone, so that results depend neither on the batch nor on the GPU's size.
int deterministic_parts(std::int64_t s_kv);

}  // namespace tilewise::cuda
