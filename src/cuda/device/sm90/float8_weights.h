// Weights of float8_e4m3 from a tile's products.
#pragma once

#include "sm90/wgmma.h"
#include "softmax.h"

namespace tilewise::cuda::sm90 {

/// Where a row's largest weight lies when its base is chosen. Codes end at 448, and below 2^-6 they lose digits: the
/// higher, the more of a row's small weights have all of theirs. 32 of that size, as many as a thread has of a row's
/// tile, are below kMostOfRow.
inline constexpr float kLog2Peak = 3;

/// What a thread's weights of a row's tile may come to: then none is beyond the codes, which to ask of each of them
/// would take a tenth more instructions.
inline constexpr float kMostOfRow = 448;

/// A row's weights are 2^(x - base), as softmax.h has them; here x counts what the scale of the key's value adds to it,
/// so that products with values need no other factor. A row's base is its largest x of the first tiles less kLog2Peak,
/// and stays as long as its weights do not outgrow it.
template <int kKeyBlocks>
class Float8Weights {
 public:
  static constexpr int kSteps = kKeyBlocks / 4;  // of 32 keys

  __device__ Float8Weights() : sums_{0, 0} {}

  /// From factor * s; the values' scale is 2^log2_of_value.
  __device__ void make(const Accumulator<1, kKeyBlocks>& s, float factor, float log2_of_value,
                       const RowStatistics<1>& rows) {
    const float begin[2] = {log2_of_value - rows.base[0][0], log2_of_value - rows.base[0][1]};
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        // Register r of a left operand has places 4t to 4t + 3, or 16 more, of row g or g + 8: float8_values.h puts
        // keys of two neighbouring blocks of products there.
        const int half = r % 2, j = 4 * k + r / 2 * 2;
        float w[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          w[e] = exp2_of(fmaf(s.x[0][j + e / 2][2 * half + e % 2], factor, begin[half]));
          sums_[half] += w[e];
        }
        fragments[k].pairs[r] = packed(Float8E4m3{}, w[0], w[1], w[2], w[3]);
      }
    }
  }

  /// Whether a row of the warp has outgrown its base (or has a NaN).
  __device__ bool outgrown() const { return !__all_sync(~0u, sums_[0] <= kMostOfRow && sums_[1] <= kMostOfRow); }

  __device__ void add_sums_to(RowStatistics<1>& rows, float inverse_of_value) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) rows.sum[0][half] = fmaf(sums_[half], inverse_of_value, rows.sum[0][half]);
  }

  LeftFragment fragments[kSteps];

 private:
  float sums_[2];  // this lane's part
};

/// The base that a row would have from factor * s alone.
template <int kKeyBlocks>
__device__ inline float float8_base(const Accumulator<1, kKeyBlocks>& s, float factor, float log2_of_value, int half) {
  float largest = -infinity();
#pragma unroll
  for (int j = 0; j < kKeyBlocks; ++j) {
    largest = fmaxf(largest, fmaxf(factor * s.x[0][j][2 * half], factor * s.x[0][j][2 * half + 1]));
  }
  return fmaxf(kNoBase, largest_of_row(largest) + (log2_of_value - kLog2Peak));
}

/// Moves each row's base up to that, and rescales what was summed up with the old one.
template <int kKeyBlocks, int kColumnBlocks>
__device__ inline void rebase_float8(RowStatistics<1>& rows, const Accumulator<1, kKeyBlocks>& s, float factor,
                                     float log2_of_value, Accumulator<1, kColumnBlocks>& o) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float next = fmaxf(rows.base[0][half], float8_base(s, factor, log2_of_value, half));
    const float rescale = exp2_of(rows.base[0][half] - next);
    rows.base[0][half] = next;
    rows.sum[0][half] *= rescale;
#pragma unroll
    for (int j = 0; j < kColumnBlocks; ++j) {
      o.x[0][j][2 * half] *= rescale;
      o.x[0][j][2 * half + 1] *= rescale;
    }
  }
}

}  // namespace tilewise::cuda::sm90
