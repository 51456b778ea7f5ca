// Products of tiles that the warps of a block share.
#pragma once

#include "mma.h"

namespace tilewise::cuda {

/// How warps share a matrix of kRowBlocks x kColumnBlocks blocks of 16 x 16: kRowWarps * kColumnWarps warps, each with
/// a piece of its own. Columns that do not divide evenly leave the last warps with less. Warps are counted down a
/// column first, or, `kAlongRows`, along a row.
template <int kRowBlocks, int kColumnBlocks, int kRowWarps, int kColumnWarps, bool kAlongRows = false>
struct WarpGrid {
  static_assert(kRowBlocks % kRowWarps == 0);
  static constexpr int kRows = kRowBlocks / kRowWarps;                                // blocks of a warp
  static constexpr int kColumns = (kColumnBlocks + kColumnWarps - 1) / kColumnWarps;  // at most
  static constexpr bool kEven = kColumnBlocks % kColumnWarps == 0;
  using Sums = Accumulator<kRows, 2 * kColumns>;

  __device__ static int row(int warp) { return (kAlongRows ? warp / kColumnWarps : warp % kRowWarps) * kRows * 16; }
  __device__ static int column(int warp) { return first_column(warp) * 16; }
  /// Whether a warp's column block exists.
  __device__ static bool has(int warp, int block) { return kEven || first_column(warp) + block < kColumnBlocks; }

 private:
  __device__ static int first_column(int warp) {
    return (kAlongRows ? warp % kColumnWarps : warp / kRowWarps) * kColumns;
  }
};

/// Left operands: kRowBlocks * 16 rows by kColumnBlocks * 16 columns.
template <class Element, int kRowBlocks, int kColumnBlocks>
struct Fragments {
  LeftOf<Element> of[kColumnBlocks][kRowBlocks];
};

/// Sums rounded to Element.
template <class Element, int kRowBlocks, int kBlocks>
__device__ inline Fragments<Element, kRowBlocks, kBlocks / 2> fragments_of(Element,
                                                                           const Accumulator<kRowBlocks, kBlocks>& x) {
  Fragments<Element, kRowBlocks, kBlocks / 2> made;
#pragma unroll
  for (int k = 0; k < kBlocks / 2; ++k) {
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
      const auto& near = x.x[i][2 * k];
      const auto& far = x.x[i][2 * k + 1];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        set_pair(made.of[k][i], Element{}, half, near[2 * half], near[2 * half + 1]);
        set_pair(made.of[k][i], Element{}, half + 2, far[2 * half], far[2 * half + 1]);
      }
    }
  }
  return made;
}

/// sums += a b over kSteps blocks of 16, with fragments from left(step, row block) and right(step, column block of 16),
/// of column blocks that exist: has(column block). Right ones are loaded ahead of their use, since ldmatrix takes about
/// as long as two blocks' products.
template <int kSteps, class Element, int kRowBlocks, int kColumnBlocks, class Left, class Right, class Has>
__device__ inline void multiply(Element, Accumulator<kRowBlocks, kColumnBlocks>& sums, Left left, Right right,
                                Has has) {
  constexpr int kAhead = 2, kBlocks = kColumnBlocks / 2, kProducts = kSteps * kBlocks;
  LeftOf<Element> a[2][kRowBlocks];
  RightOf<Element> b[kAhead + 1];
  const auto load_row = [&](int k) {
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) a[k % 2][i] = left(k, i);
  };
  const auto load = [&](int product) {
    if (has(product % kBlocks)) b[product % (kAhead + 1)] = right(product / kBlocks, product % kBlocks);
  };
  load_row(0);
#pragma unroll
  for (int product = 0; product < kAhead && product < kProducts; ++product) load(product);
#pragma unroll
  for (int product = 0; product < kProducts; ++product) {
    const int k = product / kBlocks, j = product % kBlocks;
    if (j == 0 && k + 1 < kSteps) load_row(k + 1);
    if (product + kAhead < kProducts) load(product + kAhead);
    if (!has(j)) continue;
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
      multiply_add(Element{}, sums.x[i][2 * j], a[k % 2][i], b[product % (kAhead + 1)].pairs[0]);
      multiply_add(Element{}, sums.x[i][2 * j + 1], a[k % 2][i], b[product % (kAhead + 1)].pairs[1]);
    }
  }
}

}  // namespace tilewise::cuda
