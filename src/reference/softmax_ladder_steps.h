// The five steps of the softmax ladder on a counting machine.
#pragma once

#include <cstdint>

#include "reference/counting_machine.h"
#include "reference/slow_problem.h"
#include "tilewise/softmax_ladder.h"

namespace tilewise::reference {

/// How `chunks` (rows = 1) and `tiled` cut the problem.
struct TileShape {
  std::int64_t rows = 1;  ///< Queries together.
  std::int64_t keys = 1;  ///< Keys together.
};

/// Bytes of fast memory that `tiled` uses with tiles of this shape: for each query its row and statistics; a chunk of
/// keys and values; one query's scores and statistics for that chunk.
std::int64_t tiled_bytes(TileShape tile, std::int64_t d_qk, std::int64_t d_v);

/// The largest tile of at most `chunk` keys that fits: as many rows as there is room for. Each row more spares reading
/// keys and values, while more keys only spare rescaling, so keys come second.
/// Throws Error(invalid_argument) where chunk is below 1 or not even one row fits.
TileShape choose_tile(const SlowProblem& problem, const LadderOptions& options);

// The steps, each for at least one key: without keys there is nothing to divide by.
void run_plain_sums(Machine& machine, SlowProblem& problem);
void run_maximum_first(Machine& machine, SlowProblem& problem);
void run_online(Machine& machine, SlowProblem& problem);
void run_chunks(Machine& machine, SlowProblem& problem, std::int64_t chunk);
void run_tiled(Machine& machine, SlowProblem& problem, TileShape tile);

}  // namespace tilewise::reference
