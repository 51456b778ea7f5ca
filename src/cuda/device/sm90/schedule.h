// Which piece of work a block takes next.
#pragma once

#include "sm90_call.h"
#include "walk.h"

namespace tilewise::cuda::sm90 {

/// A query tile of a head, as the producer tells it to the consumers.
struct Work {
  int query_tile;  // -1: there is no more
  int head, sequence;
  int kv_head;  // set where it is told
};

/// Hands out the work by a counter in global memory: the blocks' first pieces by their numbers, the others to whoever
/// is done first. The order is: sequences; heads, as many together as the second-level cache holds keys and values of;
/// rows of query tiles, the longest list first; the heads of the group.
class Schedule {
 public:
  __device__ explicit Schedule(const ForwardCall& call) : call_(call), index_(blockIdx.x) {}

  __device__ bool has_work() const { return index_ < total(); }

  template <bool kHasLists>
  __device__ Work work() const {
    const int of_sequence = call_.query_tiles * call_.h_q, of_group = call_.query_tiles * call_.heads_together;
    const int sequence = index_ / of_sequence, within = index_ % of_sequence;
    const int first_head = within / of_group * call_.heads_together, place = within % of_group;
    const int heads = min(call_.heads_together, call_.h_q - first_head);
    const int head = first_head + place % heads;
    int tile = place / heads;
    if constexpr (kHasLists) tile = row_of(call_.arguments.lists, sequence, head, tile);
    return {tile, head, sequence, 0};
  }

  /// Every block asks once more than it gets, so the last to ask, who sees total - 1, leaves the counter as it was.
  __device__ void advance() {
    const unsigned asked = atomicAdd(call_.next_work, 1u);
    if (asked == unsigned(total()) - 1) *call_.next_work = 0;
    int blocks;  // read here, and not kept: a producer has few registers
    asm volatile("mov.u32 %0, %%nctaid.x;" : "=r"(blocks));
    index_ = int(asked) + blocks;
  }

 private:
  /// Not kept: a producer has few registers.
  __device__ int total() const { return call_.query_tiles * call_.h_q * call_.b; }

  const ForwardCall& call_;
  int index_;
};

}  // namespace tilewise::cuda::sm90
