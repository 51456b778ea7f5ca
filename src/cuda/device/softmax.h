// Online softmax over the key tiles of a warp's rows, in units of log2.
//
// A row's weights are 2^(x - base), where x is its score times log2(e). The base is the row's maximum over the first
// tiles, and stays as long as no tile's weights grow past kLargestWeight: any base near the maximum gives the same
// quotient, and leaving it alone saves the maximum, its reduction over the lanes and the rescaling of what is summed up
// (Dao et al., FlashAttention, 2022, algorithm 1, rescales at every tile).
#pragma once

#include "mma.h"

namespace tilewise::cuda {

inline constexpr float kLog2E = 1.44269504088896340736f;
inline constexpr float kLn2 = 0.693147180559945309417f;

__device__ inline float infinity() { return __int_as_float(0x7f800000); }

/// The base of a row that has kept nothing yet: below every finite score, which is above -2^127 in these units, and
/// finite itself, so that a removed entry's weight comes out as 2^-inf = 0, and what was summed up so far, nothing, is
/// rescaled by 0 or 1.
inline constexpr float kNoBase = -0x1.fp127f;

/// From such a base on it makes no difference whether scores below -2^126 are clamped to that: their weights are 0.
inline constexpr float kLeastFreeBase = -0x1p120f;

/// 2^x, to 2 units in the last place; -inf gives 0.
__device__ inline float exp2_of(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// 1 / x, to 1 unit in the last place; 0 beyond 2^126.
__device__ inline float reciprocal_of(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// 2^x to 2^-13.7 of it, without the unit that ex2 and tanh share: x = n + f, |f| <= 1/2, a minimax polynomial of f, n
/// added to its exponent. Below 2^-126 it stays there, beyond 2^127 too; of NaN it makes a number beyond 2^127.
__device__ inline float exp2_by_polynomial(float x) {
  constexpr float kToInteger = 0x1.8p23f;  // added, it leaves no bits behind the point
  float y;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(x), "f"(-126.0f));
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(y), "f"(127.0f));
  const float shifted = y + kToInteger, f = y - (shifted - kToInteger);
  const float p = fmaf(fmaf(fmaf(0.055171322f, f, 0.24261054f), f, 0.69326097f), f, 0.99992812f);
  return __int_as_float(__float_as_int(p) + (__float_as_int(shifted) << 23));
}

/// The largest (or the sum) over the four lanes that share rows.
__device__ inline float largest_of_row(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
__device__ inline float sum_of_row(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

/// What a warp knows of its rows: kRowBlocks * 16 of them, two in each block for every lane.
template <int kRowBlocks>
struct RowStatistics {
  float base[kRowBlocks][2];  // in log2 units, or kNoBase
  float sum[kRowBlocks][2];   // this lane's part of the sum of the weights

  /// `first` is the lane's first row. Rows from `end` on are padding: with a base from the start, however little they
  /// keep, they never make their warp look for one.
  __device__ void clear(int first, int end) {
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        base[i][half] = first + 16 * i + 8 * half < end ? kNoBase : 0;
        sum[i][half] = 0;
      }
    }
  }

  /// The first tile: each row's base is the largest of factor * s, or none, and nothing is summed up.
  template <int kKeyBlocks>
  __device__ void begin_at(const Accumulator<kRowBlocks, kKeyBlocks>& s, float factor) {
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        base[i][half] = largest_with(kNoBase, s, factor, i, half);
        sum[i][half] = 0;
      }
    }
  }

  /// Likewise, of the largest or the least of a row's scores: a multiplication for a row, not for each entry.
  template <int kKeyBlocks>
  __device__ void begin_at_extreme(const Accumulator<kRowBlocks, kKeyBlocks>& s, float factor) {
    if (factor >= 0) {
      begin_at_extreme(s, factor, -infinity(), [](float x, float y) { return fmaxf(x, y); });
    } else {
      begin_at_extreme(s, factor, infinity(), [](float x, float y) { return fminf(x, y); });
    }
  }

  /// Moves each row's base to the largest of itself and factor * s, if that is more than `room` above it, and rescales
  /// what was summed up with the old one: the sums and o.
  template <int kKeyBlocks, int kColumnBlocks>
  __device__ void rebase(const Accumulator<kRowBlocks, kKeyBlocks>& s, float factor,
                         Accumulator<kRowBlocks, kColumnBlocks>& o, float room = 0) {
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float largest = largest_with(base[i][half], s, factor, i, half);
        const float next = room == 0 || largest > base[i][half] + room ? largest : base[i][half];
        const float rescale = exp2_of(base[i][half] - next);
        base[i][half] = next;
        sum[i][half] *= rescale;
#pragma unroll
        for (int j = 0; j < kColumnBlocks; ++j) {
          o.x[i][j][2 * half] *= rescale;
          o.x[i][j][2 * half + 1] *= rescale;
        }
      }
    }
  }

  /// Whether every row of the warp has a base.
  __device__ bool all_based() const {
    bool all = true;
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) all = all && base[i][0] > kNoBase && base[i][1] > kNoBase;
    return __all_sync(~0u, all);
  }
  /// Likewise one with which scores need not be clamped.
  __device__ bool all_free() const {
    bool all = true;
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) all = all && base[i][0] >= kLeastFreeBase && base[i][1] >= kLeastFreeBase;
    return __all_sync(~0u, all);
  }

 private:
  template <int kKeyBlocks, class Extreme>
  __device__ void begin_at_extreme(const Accumulator<kRowBlocks, kKeyBlocks>& s, float factor, float none,
                                   const Extreme& extreme) {
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float x = none;
#pragma unroll
        for (int j = 0; j < kKeyBlocks; ++j) x = extreme(x, extreme(s.x[i][j][2 * half], s.x[i][j][2 * half + 1]));
        base[i][half] = fmaxf(kNoBase, largest_of_row(factor * x));
        sum[i][half] = 0;
      }
    }
  }

  template <int kKeyBlocks>
  __device__ static float largest_with(float base, const Accumulator<kRowBlocks, kKeyBlocks>& s, float factor, int i,
                                       int half) {
    float largest = -infinity();
#pragma unroll
    for (int j = 0; j < kKeyBlocks; ++j) {
      largest = fmaxf(largest, fmaxf(factor * s.x[i][j][2 * half], factor * s.x[i][j][2 * half + 1]));
    }
    return fmaxf(base, largest_of_row(largest));
  }
};

/// A tile's weights as left operands, made from its scores pair by pair, so that a kernel can weave the exponentials
/// into a matrix product: 2^(factor * s - base).
template <class Element, int kRowBlocks, int kKeyBlocks>
class Weights {
 public:
  static constexpr int kPairs = kRowBlocks * kKeyBlocks * 2;

  __device__ Weights() {
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) sum_[i][0] = sum_[i][1] = 0;
  }

  /// All of them.
  __device__ void make(const Accumulator<kRowBlocks, kKeyBlocks>& s, float factor,
                       const RowStatistics<kRowBlocks>& rows) {
    make_of<0>([&](int i, int j, int e, float base) { return fmaf(s.x[i][j][e], factor, -base); }, rows);
  }

  /// All of them, 2^exponent(i, j, e, base) for the element e of block (i, j). Of kPolynomials of 8 pairs by
  /// polynomials.
  template <int kPolynomials, class Exponent>
  __device__ void make_of(const Exponent& exponent, const RowStatistics<kRowBlocks>& rows) {
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      if (pair * 5 % 8 < kPolynomials) {
        make_pair_of(pair, exponent, rows, [](float x) { return exp2_by_polynomial(x); });
      } else {
        make_pair_of(pair, exponent, rows, exp2_of);
      }
    }
  }

  /// Likewise the share of step `step` of kSteps, in the order in which a product with v takes them.
  template <int kSteps, class Exponent>
  __device__ void make_share(int step, const Exponent& exponent, const RowStatistics<kRowBlocks>& rows) {
    constexpr int kAtOnce = (kPairs + kSteps - 1) / kSteps, kEvery = kPairs < kSteps ? kSteps / kPairs : 1;
    if (step % kEvery != 0) return;
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n) {
      const int pair = step / kEvery * kAtOnce + n;
      if (pair < kPairs) make_pair_of(pair, exponent, rows, exp2_of);
    }
  }

  /// Whether a row of the warp has outgrown its base (or has a NaN).
  __device__ bool outgrown() const {
    bool all_small = true;
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
      all_small = all_small && sum_[i][0] <= kLargestWeight<Element> && sum_[i][1] <= kLargestWeight<Element>;
    }
    return !__all_sync(~0u, all_small);
  }

  /// Likewise with a limit of its own, or has a base below kLeastFreeBase.
  __device__ bool outgrown(const RowStatistics<kRowBlocks>& rows, float limit = kLargestWeight<Element>) const {
    bool all_well = true;
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        all_well = all_well && sum_[i][half] <= limit && rows.base[i][half] >= kLeastFreeBase;
      }
    }
    return !__all_sync(~0u, all_well);
  }

  __device__ void add_sums_to(RowStatistics<kRowBlocks>& rows) const {
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
      rows.sum[i][0] += sum_[i][0];
      rows.sum[i][1] += sum_[i][1];
    }
  }

  LeftOf<Element> fragments[kKeyBlocks / 2][kRowBlocks];

 private:
  template <class Exponent, class Power>
  __device__ void make_pair_of(int pair, const Exponent& exponent, const RowStatistics<kRowBlocks>& rows, Power power) {
    const int r = pair % 4, i = pair / 4 % kRowBlocks, k = pair / 4 / kRowBlocks, half = r % 2;
    const int j = 2 * k + r / 2;
    const float low = power(exponent(i, j, 2 * half, rows.base[i][half]));
    const float high = power(exponent(i, j, 2 * half + 1, rows.base[i][half]));
    sum_[i][half] += low;
    sum_[i][half] += high;
    set_pair(fragments[k][i], Element{}, r, low, high);
  }

  float sum_[kRowBlocks][2];  // this lane's part
};

}  // namespace tilewise::cuda
