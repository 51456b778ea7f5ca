// Products of float32 by tensor cores, which take 11 bits of it (TF32): each factor is split into two such pieces, of
// which three products are summed up; what is left out is 2^-22 of a product.
//
// The tensor cores' own sums are cut off, not rounded, so a long sum would be off by its number of terms, all in one
// direction. Here a sum has the terms of 16 columns, the small ones first, and is then added in float32.
//
// Of m16n8k8's 8 columns of A, lane 4 g + t holds t and t + 4; here these stand for columns 2 t and 2 t + 1 of the
// matrix, and likewise the rows of B, so that accumulators are left operands as they are.
#pragma once

#include "mma.h"

namespace tilewise::cuda {

/// A left operand: 16 rows by 16 columns.
struct WideLeftFragment {
  float pairs[2][4];  // [8-column block], (g, 2t), (g + 8, 2t), (g, 2t + 1), (g + 8, 2t + 1)
};

/// Two right operands side by side: 16 rows by 16 columns.
struct WideRightFragment {
  float pairs[2][2][2];  // [8-column block][8-row block][rows 2t, 2t + 1], column g
};

template <>
struct FragmentsOf<Float32> {
  using Left = WideLeftFragment;
  using Right = WideRightFragment;
};

__device__ inline void set_pair(WideLeftFragment& a, Float32, int r, float low, float high) {
  a.pairs[r / 2][r % 2] = low, a.pairs[r / 2][2 + r % 2] = high;
}
__device__ inline void keep_pair(WideLeftFragment& a, int r, bool low, bool high) {
  if (!low) a.pairs[r / 2][r % 2] = 0;
  if (!high) a.pairs[r / 2][2 + r % 2] = 0;
}
__device__ inline void load_pair(WideLeftFragment& a, int r, const Float32* from) {
  const float2 pair = *reinterpret_cast<const float2*>(from);
  set_pair(a, Float32{}, r, pair.x, pair.y);
}
__device__ inline void store_pair_of(unsigned to, const WideLeftFragment& a, int r) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(a.pairs[r / 2][r % 2]), "f"(a.pairs[r / 2][2 + r % 2])
               : "memory");
}

template <int kRows, int kColumns>
struct LaneAddress<SharedTile<Float32, kRows, kColumns>> {
  using Tile = SharedTile<Float32, kRows, kColumns>;
  unsigned address;  // of the fragment at (0, 0)

  __device__ static LaneAddress left(const Tile& tile, int lane) { return {tile.at(lane / 4, lane % 4 * 2)}; }
  __device__ static LaneAddress right(const Tile& tile, int lane) { return {tile.at(lane % 4 * 2, lane / 4)}; }
  __device__ static LaneAddress left_transposed(const Tile& tile, int lane) { return right(tile, lane); }
  __device__ static LaneAddress right_transposed(const Tile& tile, int lane) { return left(tile, lane); }

  __device__ LaneAddress plus(unsigned bytes) const { return {address + bytes}; }
  __device__ unsigned at(int row, int column) const { return Tile::moved(address, row, column); }
};

__device__ inline void load_float(float& to, unsigned from) {
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(to) : "r"(from) : "memory");
}
__device__ inline void load_floats(float& first, float& second, unsigned from) {
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(first), "=f"(second) : "r"(from) : "memory");
}

template <int kRows, int kColumns>
__device__ inline WideLeftFragment load_left(const LaneAddress<SharedTile<Float32, kRows, kColumns>>& from, int row,
                                             int column) {
  WideLeftFragment a;
#pragma unroll
  for (int block = 0; block < 2; ++block) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
      load_floats(a.pairs[block][half], a.pairs[block][2 + half], from.at(row + 8 * half, column + 8 * block));
  }
  return a;
}

template <int kRows, int kColumns>
__device__ inline WideLeftFragment load_left_transposed(const LaneAddress<SharedTile<Float32, kRows, kColumns>>& from,
                                                        int row, int column) {
  WideLeftFragment a;
#pragma unroll
  for (int block = 0; block < 2; ++block) {
#pragma unroll
    for (int e = 0; e < 4; ++e) load_float(a.pairs[block][e], from.at(row + 8 * block + e / 2, column + e % 2 * 8));
  }
  return a;
}

template <int kRows, int kColumns>
__device__ inline WideRightFragment load_right_transposed(const LaneAddress<SharedTile<Float32, kRows, kColumns>>& from,
                                                          int row, int column) {
  WideRightFragment b;
#pragma unroll
  for (int j = 0; j < 2; ++j) {
#pragma unroll
    for (int block = 0; block < 2; ++block)
      load_floats(b.pairs[j][block][0], b.pairs[j][block][1], from.at(row + 8 * j, column + 8 * block));
  }
  return b;
}

template <int kRows, int kColumns>
__device__ inline WideRightFragment load_right(const LaneAddress<SharedTile<Float32, kRows, kColumns>>& from, int row,
                                               int column) {
  WideRightFragment b;
#pragma unroll
  for (int j = 0; j < 2; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) load_float(b.pairs[j][e / 2][e % 2], from.at(row + e / 2 * 8 + e % 2, column + 8 * j));
  }
  return b;
}

/// A float32 as two TF32: the nearest one, and what is left of it. Volatile, so that they are made where they are used:
/// kept from one product to the next, and out of loops, they would take three registers for one.
struct SplitFloat {
  unsigned large, small;

  __device__ explicit SplitFloat(float x) {
    asm volatile("cvt.rna.tf32.f32 %0, %1;" : "=r"(large) : "f"(x));
    asm volatile("cvt.rna.tf32.f32 %0, %1;" : "=r"(small) : "f"(x - __uint_as_float(large)));
  }
};

__device__ inline void multiply_add_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// d += a b, of 16 x 16 and 16 x 8.
__device__ inline void multiply_add(Float32, float (&d)[4], const WideLeftFragment& a, const float (&b)[2][2]) {
  unsigned large_a[2][4], small_a[2][4], large_b[2][2], small_b[2][2];
#pragma unroll
  for (int block = 0; block < 2; ++block) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const SplitFloat split(a.pairs[block][e]);
      large_a[block][e] = split.large, small_a[block][e] = split.small;
    }
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const SplitFloat split(b[block][e]);
      large_b[block][e] = split.large, small_b[block][e] = split.small;
    }
  }
  float sum[4] = {0, 0, 0, 0};
#pragma unroll
  for (int block = 0; block < 2; ++block) {
    multiply_add_tf32(sum, small_a[block], large_b[block]);
    multiply_add_tf32(sum, large_a[block], small_b[block]);
  }
#pragma unroll
  for (int block = 0; block < 2; ++block) multiply_add_tf32(sum, large_a[block], large_b[block]);
#pragma unroll
  for (int e = 0; e < 4; ++e) d[e] += sum[e];
}

}  // namespace tilewise::cuda
