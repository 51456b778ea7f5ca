// Which heads' sums of d_q are complete: the kernel behind rounds these while the last blocks are still at others.
#pragma once

#include "launches.h"
#include "sm90_call.h"

namespace tilewise::cuda::sm90 {

/// How many blocks of a key head have added all that they have to its sums: 0 before, call.key_tiles in the end. Where
/// call.counts_added is 0, nobody counts.
struct AddedCount {
  int* count;

  __device__ static AddedCount of(const BackwardCall& call, int sequence, int kv_head) {
    const BackwardArguments& a = call.arguments;
    return {a.d_q_turns + static_cast<long long>(sequence) * (a.h_q / a.heads_per_kv) + kv_head};
  }
  /// By a thread that knows of all of a block's additions.
  __device__ void add_block(const BackwardCall& call) const {
    if (call.counts_added == 0) return;
    asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(count) : "memory");
  }
  /// By one thread, until all blocks have. All have begun, and the count was cleared, when the kernel behind begins, so
  /// that it neither waits for ever nor sees what a call before has counted.
  __device__ void wait(const BackwardCall& call) const {
    for (;;) {
      int blocks;
      asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(blocks) : "l"(count) : "memory");
      if (blocks == call.key_tiles) return;
      __nanosleep(200);
    }
  }
};

/// Waits, in the kernel behind, until a head's sums are complete. Blocks of the last head wait for all that is in front
/// of the kernel, so that it does not end before that.
__device__ inline void wait_for_sums(const BackwardCall& call, int sequence, int head) {
  const BackwardArguments& a = call.arguments;
  if (call.counts_added == 0 || (sequence == int(gridDim.z) - 1 && head == a.h_q - 1)) return wait_for_kernels_before();
  if (threadIdx.x == 0) AddedCount::of(call, sequence, head / a.heads_per_kv).wait(call);
  __syncthreads();
}

}  // namespace tilewise::cuda::sm90
