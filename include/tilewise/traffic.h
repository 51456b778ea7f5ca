// Predicted memory traffic of attention's forward pass: standard, tiled, and how tiling depends on fast memory.
//
// Slow memory is what tensors live in; fast memory is what arithmetic can reach (shared memory and registers of a GPU,
// caches of a processor). Bytes count what crosses between them, each element as often as the algorithm asks for it.
#pragma once

#include <cstdint>
#include <vector>

#include "tilewise/problem.h"
#include "tilewise/tensor.h"
#include "tilewise/tiles.h"
#include "tilewise/variant.h"

namespace tilewise {

/// What the bytes of a problem depend on besides its lengths and heads. All of q, k, v, o and the scores have one
/// dtype.
struct AttentionShape {
  std::int64_t d_qk = 128;
  std::int64_t d_v = 128;
  DType dtype = DType::bfloat16;
};

/// Doubles, since bytes of N x N scores may pass 2^63; whole numbers up to 2^53.
struct Traffic {
  double bytes_read = 0;
  double bytes_written = 0;

  double bytes() const { return bytes_read + bytes_written; }
  friend bool operator==(const Traffic&, const Traffic&) = default;
};

/// Standard attention (Algorithm 0 of FlashAttention; Dao et al. 2022), whatever is masked. For each query head: read
/// q and k, write S; read S, write P; read P and v, write o. S and P are [s_q, s_kv].
Traffic standard_traffic(const Problem& problem, const AttentionShape& shape);

/// Tiled attention with query tiles outermost (Dao 2023). For each query head: read q once, read the keys and values of
/// each kept tile, write o and, in float32, lse. Throws as classify_tiles, for every sequence and head.
Traffic tiled_traffic(const Variant& variant, const Bindings& bindings, const Problem& problem,
                      const AttentionShape& shape, TileSizes tile = {});

/// One point of the law that FlashAttention's traffic is O(N^2 d^2 / M) (its Theorem 2), N^2 being s_q * s_kv.
struct TrafficLawPoint {
  std::int64_t fast_memory = 0;  ///< M, in bytes.
  Traffic tiled;                 ///< Of the paper's Algorithm 1 without a mask, with the tiles that it chooses for M.
  double law = 0;                ///< N^2 d^2 / M elements, in bytes, of the whole problem; d is (d_qk + d_v) / 2.
};

/// The law at M = 16 KiB to 16 MiB, in steps of 4. Algorithm 1 has key tiles of M / (4 d) rows outermost; for each of
/// them it reads q, o and the rows' statistics (maximum and sum), and writes o and the statistics.
std::vector<TrafficLawPoint> traffic_law(const Problem& problem, const AttentionShape& shape);

}  // namespace tilewise
