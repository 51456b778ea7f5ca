// The largest score of a head, which a forward pass tells where it is asked for.
#pragma once

#include "mma.h"
#include "softmax.h"

namespace tilewise::cuda {

/// A lane's largest of scale * product so far, over entries that exist and are not removed.
class LargestScore {
 public:
  /// `scores` are -inf where an entry is removed; rows are the queries from `first_query` on, of which those below
  /// `queries` exist.
  template <int kRowBlocks, int kKeyBlocks>
  __device__ void note(const Accumulator<kRowBlocks, kKeyBlocks>& products,
                       const Accumulator<kRowBlocks, kKeyBlocks>& scores, float scale, int first_query, int queries) {
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (first_query + 16 * i + 8 * half >= queries) continue;
#pragma unroll
        for (int j = 0; j < kKeyBlocks; ++j) {
#pragma unroll
          for (int e = 2 * half; e < 2 * half + 2; ++e) {
            if (scores.x[i][j][e] != -infinity()) largest_ = fmaxf(largest_, scale * products.x[i][j][e]);
          }
        }
      }
    }
  }

  /// Raises *to to that of the warp.
  __device__ void store(float* to) const {
    float largest = largest_of_row(largest_);
#pragma unroll
    for (int step = 4; step < 32; step *= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
    if (threadIdx.x % 32 == 0) raise(to, largest + 0.0f);  // + 0: no negative zero
  }

 private:
  /// *to = max(*to, x): as ints floats are ordered alike from 0 on, and as unsigned ones the other way round below it.
  __device__ static void raise(float* to, float x) {
    if (x >= 0) {
      atomicMax(reinterpret_cast<int*>(to), __float_as_int(x));
    } else {
      atomicMin(reinterpret_cast<unsigned*>(to), __float_as_uint(x));
    }
  }

  float largest_ = -infinity();
};

}  // namespace tilewise::cuda
