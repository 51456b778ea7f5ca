// The warp's matrix product: fragments in registers, their loads from shared memory, and D += A B. For 16-bit elements;
// mma_float32.h has the same for float32.
//
// A warp holds a matrix in pieces: lane = 4 g + t (g = 0..7, t = 0..3) holds rows g and g + 8 of a 16-row block, and
// columns 2 t and 2 t + 1 of each 8-column block (PTX ISA, "Matrix Fragments for mma.m16n8k16").
#pragma once

#include "element.h"
#include "shared_tile.h"

namespace tilewise::cuda {

/// A left operand: 16 rows by 16 columns.
struct LeftFragment {
  unsigned pairs[4];  // rows (g, columns 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8)
};

/// Two right operands side by side: 16 rows by 16 columns.
struct RightFragment {
  unsigned pairs[2][2];  // [8-column block][rows 2t, rows 2t + 8], column g
};

/// An element's fragments.
template <class Element>
struct FragmentsOf {
  using Left = LeftFragment;
  using Right = RightFragment;
};
template <class Element>
using LeftOf = typename FragmentsOf<Element>::Left;
template <class Element>
using RightOf = typename FragmentsOf<Element>::Right;

/// Two neighbouring elements of a left operand: r as in LeftFragment::pairs.
template <class Element>
__device__ inline void set_pair(LeftFragment& a, Element, int r, float low, float high) {
  a.pairs[r] = packed(Element{}, low, high);
}
/// Sets to zero what is not kept of them.
__device__ inline void keep_pair(LeftFragment& a, int r, bool low, bool high) {
  a.pairs[r] &= (low ? 0xffffu : 0) | (high ? 0xffff0000u : 0);
}
/// Takes them from memory.
template <class Element>
__device__ inline void load_pair(LeftFragment& a, int r, const Element* from) {
  a.pairs[r] = *reinterpret_cast<const unsigned*>(from);
}
/// Stores them in shared memory.
__device__ inline void store_pair_of(unsigned to, const LeftFragment& a, int r) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(a.pairs[r]) : "memory");
}

/// float32 sums: kRowBlocks * 16 rows by kColumnBlocks * 8 columns.
template <int kRowBlocks, int kColumnBlocks>
struct Accumulator {
  float x[kRowBlocks][kColumnBlocks][4];  // (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)

  __device__ void clear() { fill(0); }
  __device__ void fill(float value) {
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int j = 0; j < kColumnBlocks; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) x[i][j][e] = value;
      }
    }
  }
};

__device__ inline void load_matrices(unsigned (&to)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}
__device__ inline void load_matrices_transposed(unsigned (&to)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

/// Where a lane begins to read a tile's fragments, made once; every fragment then is an exclusive or and a constant
/// away. Rows and columns of fragments are multiples of 16.
template <class Tile>
struct LaneAddress {
  unsigned address;  // of the fragment at (0, 0)

  /// For load_left, load_right and so on.
  __device__ static LaneAddress left(const Tile& tile, int lane) { return {tile.at(lane % 16, lane / 16 * 8)}; }
  __device__ static LaneAddress right(const Tile& tile, int lane) { return left(tile, lane); }
  __device__ static LaneAddress right_transposed(const Tile& tile, int lane) {
    return {tile.at(lane % 8 + lane / 16 * 8, lane / 8 % 2 * 8)};
  }
  __device__ static LaneAddress left_transposed(const Tile& tile, int lane) { return right_transposed(tile, lane); }

  __device__ LaneAddress plus(unsigned bytes) const { return {address + bytes}; }
  __device__ unsigned at(int row, int column) const { return Tile::moved(address, row, column); }
};

/// Rows [row, row + 16) and columns [column, column + 16) of a tile as a left operand.
template <class Tile>
__device__ inline LeftFragment load_left(const LaneAddress<Tile>& from, int row, int column) {
  LeftFragment a;
  load_matrices(a.pairs, from.at(row, column));
  return a;
}

/// Whether the GPU stores 16-bit fragments as it loads them.
#if __CUDA_ARCH__ >= 900
inline constexpr bool kStoresMatrices = true;
#else
inline constexpr bool kStoresMatrices = false;
#endif

/// Stores a left operand as those rows and columns; where kStoresMatrices.
template <class Tile>
__device__ inline void store_left(const LaneAddress<Tile>& to, int row, int column, const LeftFragment& a) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to.at(row, column)),
               "r"(a.pairs[0]), "r"(a.pairs[1]), "r"(a.pairs[2]), "r"(a.pairs[3])
               : "memory");
}

/// The transpose of rows [row, row + 16) and columns [column, column + 16) of a tile as a left operand: its rows are
/// the tile's columns.
template <class Tile>
__device__ inline LeftFragment load_left_transposed(const LaneAddress<Tile>& from, int row, int column) {
  LeftFragment a;
  load_matrices_transposed(a.pairs, from.at(row, column));
  return a;
}

/// The transpose of rows [row, row + 16) and columns [column, column + 16) of a tile as a right operand: its rows are
/// the tile's columns.
template <class Tile>
__device__ inline RightFragment load_right_transposed(const LaneAddress<Tile>& from, int row, int column) {
  unsigned pairs[4];
  load_matrices(pairs, from.at(row, column));
  return {{{pairs[0], pairs[1]}, {pairs[2], pairs[3]}}};
}

/// Rows [row, row + 16) and columns [column, column + 16) of a tile as a right operand.
template <class Tile>
__device__ inline RightFragment load_right(const LaneAddress<Tile>& from, int row, int column) {
  unsigned pairs[4];
  load_matrices_transposed(pairs, from.at(row, column));
  return {{{pairs[0], pairs[1]}, {pairs[2], pairs[3]}}};
}

/// d += a b, of 16 x 16 and 16 x 8.
__device__ inline void multiply_add(BFloat16, float (&d)[4], const LeftFragment& a, const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a.pairs[0]), "r"(a.pairs[1]), "r"(a.pairs[2]), "r"(a.pairs[3]), "r"(b[0]), "r"(b[1]));
}
__device__ inline void multiply_add(Float16, float (&d)[4], const LeftFragment& a, const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a.pairs[0]), "r"(a.pairs[1]), "r"(a.pairs[2]), "r"(a.pairs[3]), "r"(b[0]), "r"(b[1]));
}

}  // namespace tilewise::cuda

#include "mma_float32.h"
