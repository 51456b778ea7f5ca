// Where the backward pass adds up d_q, in float32.
#pragma once

#include "element.h"

namespace tilewise::cuda {

/// The sums of a head: blocks of 16 queries x 8 columns one behind the other, each as the lanes of a warp hold it after
/// a product. A warp so adds 512 bytes that lie side by side; of rows of d_qk numbers it would add eight pieces of 32
/// bytes in eight lines by each instruction, whose way through the first-level cache takes four times as long.
template <int kColumns>
struct QuerySums {
  static constexpr int kRows = 16, kFloats = 128;           // of a block
  static constexpr int kNextRows = kColumns / 8 * kFloats;  // from a block to that of the next queries
  static_assert(kColumns % 8 == 0);

  float* first;  // [blocks of queries, blocks of columns, kFloats]

  /// Queries that a head has room for: a multiple of kRoom.
  static constexpr int kRoom = 128;
  __device__ static int room(int queries) { return (queries + kRoom - 1) / kRoom * kRoom; }
  /// The sums of a head whose number, counted through all sequences, is `head`.
  __device__ static QuerySums of_head(float* all, long long head, int most_queries) {
    return {all + head * room(most_queries) * kColumns};
  }

  /// Where a lane's numbers of the block at a query and a column begin: rows g and g + 8, columns 2t and 2t + 1.
  __device__ float* place(int query, int column, int lane) const {
    return first + query / kRows * static_cast<long long>(kNextRows) + column / 8 * kFloats + lane * kOfLane;
  }
  __device__ static void add(float* to, const float (&x)[4]) {
#if __CUDA_ARCH__ >= 900
    asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3])
                 : "memory");
#else
    for (int e = 0; e < 4; ++e) atomicAdd(to + 32 * e, x[e]);
#endif
  }
  /// x += what lies there.
  __device__ static void read(const float* from, float (&x)[4]) {
#if __CUDA_ARCH__ >= 900
    const float4 four = *reinterpret_cast<const float4*>(from);
    x[0] += four.x, x[1] += four.y, x[2] += four.z, x[3] += four.w;
#else
    for (int e = 0; e < 4; ++e) x[e] += from[32 * e];
#endif
  }

 private:
#if __CUDA_ARCH__ >= 900
  static constexpr int kOfLane = 4;
#else
  static constexpr int kOfLane = 1;  // whose others are 32 numbers further on
#endif
};

}  // namespace tilewise::cuda
