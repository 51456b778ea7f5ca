// The warpgroup's matrix product: D += A B of 64 rows, by the tensor cores on their own.
//
// D is in registers: each of the four warps has 16 rows, laid out as Accumulator (mma.h). A is in registers (64 x 16
// for an instruction, LeftFragment of each warp's rows) or in shared memory, B in shared memory. Tiles in shared memory
// are in chunks of 64 columns, one after the other: a chunk's rows take 128 bytes each, swizzled as the copy engine
// does.
#pragma once

#include "mma.h"

namespace tilewise::cuda::sm90 {

/// The instruction for results of kColumns columns: from_registers and from_shared, by where A is. It names each of its
/// registers, so the host writes its text for the columns that a program needs, in a header of its own
/// (launch/hopper_program.h, wgmma_shapes).
template <class Element, int kColumns>
struct Product;

/// A tile of kRows rows and kColumns columns (rounded up to whole chunks) at a multiple of 1024.
template <int kRows, int kColumns>
struct ChunkedTile {
  static_assert(kRows % 8 == 0);
  static constexpr int kTileRows = kRows, kChunks = (kColumns + 63) / 64;
  static constexpr int kChunkBytes = kRows * 128;
  static constexpr int kBytes = kChunks * kChunkBytes;

  unsigned address;

  __device__ unsigned chunk(int index) const { return address + index * kChunkBytes; }
  /// Column is a multiple of 8 and `row` below kRows.
  __device__ unsigned at(int row, int column) const {
    return chunk(column / 64) + row * 128 + ((column / 8 ^ row) & 7) * 16 + column % 8 * 2;
  }
  /// The address 16 * step columns behind `first`, of a column below 16: what at() gives, by an instruction instead of
  /// a dozen.
  __device__ static unsigned behind(unsigned first, int step) {
    return (first ^ step % 4 * 32) + step / 4 * kChunkBytes;
  }
};

/// Tells the tensor cores where an operand lies (PTX ISA, "Matrix Descriptor Format"). Everything is counted in 16
/// bytes: start, the distance between 64-column chunks (of transposed operands), the distance between groups of 8 rows;
/// swizzling by 128 bytes.
struct Operand {
  unsigned long long bits;

  /// `rows`: of a chunk.
  __device__ static Operand of(unsigned address, int rows) {
    constexpr unsigned long long kSwizzle128 = 1ull << 62, kEightRows = (1024ull >> 4) << 32;
    return {kSwizzle128 | kEightRows | static_cast<unsigned long long>(rows * 128 >> 4) << 16 |
            ((address & 0x3ffff) >> 4)};
  }
  __device__ Operand plus(int bytes) const { return {bits + (bytes >> 4)}; }
};

/// Before the first product of a group that reads or adds to registers which other instructions have written.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
/// Closes a group of products.
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Until at most kPending of the newest groups are under way.
template <int kPending>
__device__ inline void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Keeps the compiler from moving or merging what it knows of these registers across this point.
template <int kBlocks>
__device__ inline void pin(Accumulator<1, kBlocks>& d) {
#pragma unroll
  for (int j = 0; j < kBlocks; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) asm volatile("" : "+f"(d.x[0][j][e])::"memory");
  }
}

/// d = a b^T (kClear) or d += a b^T: a [64, kDepth] and b [kColumns, kDepth], both with their rows in shared memory's
/// rows. `a_rows` and `b_rows`: rows of their chunks.
template <class Element, bool kClear, int kDepth, int kBlocks>
__device__ inline void multiply_rows(Accumulator<1, kBlocks>& d, Operand a, int a_rows, Operand b, int b_rows) {
#pragma unroll
  for (int k = 0; k < kDepth / 16; ++k) {
    const int inside = k % 4 * 32;
    Product<Element, kBlocks * 8>::template from_shared<0, 0>(d.x[0], a.plus(k / 4 * a_rows * 128 + inside).bits,
                                                              b.plus(k / 4 * b_rows * 128 + inside).bits,
                                                              !(kClear && k == 0));
  }
}

/// Likewise with a in registers.
template <class Element, bool kClear, int kSteps, int kBlocks>
__device__ inline void multiply_rows(Accumulator<1, kBlocks>& d, const LeftFragment (&a)[kSteps], Operand b,
                                     int b_rows) {
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
    Product<Element, kBlocks * 8>::template from_registers<0>(
        d.x[0], a[k].pairs, b.plus(k / 4 * b_rows * 128 + k % 4 * 32).bits, !(kClear && k == 0));
  }
}

/// d = a^T b^T: a [16 kSteps, 64] and b [columns, 16 kSteps] in chunks of `b_rows` rows.
template <class Element, int kSteps, int kBlocks>
__device__ inline void multiply_columns_by_rows(Accumulator<1, kBlocks>& d, Operand a, Operand b, int b_rows) {
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
    Product<Element, kBlocks * 8>::template from_shared<1, 0>(d.x[0], a.plus(k * 16 * 128).bits,
                                                              b.plus(k / 4 * b_rows * 128 + k % 4 * 32).bits, k != 0);
  }
}

/// d += a b: a [64, 16 kSteps] in registers, b [16 kSteps, kColumns] in shared memory.
template <class Element, int kSteps, int kBlocks>
__device__ inline void add_product(Accumulator<1, kBlocks>& d, const LeftFragment (&a)[kSteps], Operand b) {
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
    Product<Element, kBlocks * 8>::template from_registers<1>(d.x[0], a[k].pairs, b.plus(k * 16 * 128).bits, true);
  }
}

/// Likewise with a in shared memory, [64, 16 kSteps] of one chunk.
template <class Element, int kSteps, int kBlocks>
__device__ inline void add_product(Accumulator<1, kBlocks>& d, Operand a, Operand b) {
  static_assert(kSteps <= 4);
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
    Product<Element, kBlocks * 8>::template from_shared<0, 1>(d.x[0], a.plus(k * 32).bits, b.plus(k * 16 * 128).bits,
                                                              true);
  }
}

}  // namespace tilewise::cuda::sm90
