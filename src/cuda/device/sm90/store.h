// From registers to shared memory, and from accumulators to rows in global memory.
#pragma once

#include "mma.h"
#include "sm90/barrier.h"
#include "store_rows.h"

namespace tilewise::cuda::sm90 {

__device__ inline void store_zeros(unsigned to) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %1, %1, %1};" ::"r"(to), "r"(0) : "memory");
}

__device__ inline void store_four(unsigned to, const float (&x)[4]) {
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to), "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3])
               : "memory");
}
/// The same place of block `rank` of the cluster.
__device__ inline unsigned address_in(unsigned place, unsigned rank) {
  unsigned there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(place), "r"(rank));
  return there;
}
/// From such a place.
__device__ inline void add_four(float (&x)[4], unsigned from) {
  float y[4];
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(y[0]), "=f"(y[1]), "=f"(y[2]), "=f"(y[3])
               : "r"(from)
               : "memory");
#pragma unroll
  for (int e = 0; e < 4; ++e) x[e] += y[e];
}

/// Stores the transposes of four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l
/// / 8.
__device__ inline void store_transposed(unsigned to, const unsigned (&matrices)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(matrices[0]),
               "r"(matrices[1]), "r"(matrices[2]), "r"(matrices[3])
               : "memory");
}

/// Likewise, not transposed.
__device__ inline void store_matrices(unsigned to, const unsigned (&matrices)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(matrices[0]),
               "r"(matrices[1]), "r"(matrices[2]), "r"(matrices[3])
               : "memory");
}

/// Puts a warp's 16 rows of an accumulator, times their multipliers, into rows from `row` on of a ChunkedTile.
template <class Element, class Tile, int kBlocks>
__device__ inline void stage_rows(const Tile& tile, int row, const Accumulator<1, kBlocks>& x,
                                  const float (&multiplier)[2]) {
  static_assert(kBlocks % 2 == 0);
  // Read anew: the same address as rows were read from would be kept since then. A score of twelve operations spilled 8
  // bytes by that, backward at d 128, and was at 0.736 of plain, without it at 0.787.
  const int lane = thread_read_anew() % 32;
  const unsigned first = tile.at(row + lane % 16, lane / 16 * 8);
#pragma unroll
  for (int j = 0; j < kBlocks; j += 2) {
    unsigned matrices[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* value = &x.x[0][j + i / 2][i % 2 * 2];
      matrices[i] = packed(Element{}, value[0] * multiplier[i % 2], value[1] * multiplier[i % 2]);
    }
    store_matrices(Tile::behind(first, j / 2), matrices);
  }
}

/// Writes rows `row` and `row + 8`, as far as they are below `end`, times their multipliers: kColumns of them, 16 bytes
/// at a time, so that the four lanes of a row write 64 bytes side by side. Rows begin at multiples of 16 bytes.
template <int kColumns, class Element, int kBlocks>
__device__ inline void store_rows(Element* to, long long stride, int row, int end, const Accumulator<1, kBlocks>& x,
                                  const float (&multiplier)[2]) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    Element* const from_row = to + (row + 8 * half) * stride;
#pragma unroll
    for (int group = 0; group < (kBlocks + 3) / 4; ++group) {
      unsigned pairs[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int block = 4 * group + j < kBlocks ? 4 * group + j : 0;
        const float* value = &x.x[0][block][2 * half];
        pairs[j] = packed(Element{}, value[0] * multiplier[half], value[1] * multiplier[half]);
      }
      transpose_quad(pairs);
      const int column = 32 * group + 8 * t;
      if (row + 8 * half < end && column < kColumns) {
        *reinterpret_cast<uint4*>(from_row + column) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
      }
    }
  }
}

}  // namespace tilewise::cuda::sm90
