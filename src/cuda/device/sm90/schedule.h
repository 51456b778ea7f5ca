// Which piece of work a block takes next.
#pragma once

#include "sm90_call.h"
#include "walk.h"

namespace tilewise::cuda::sm90 {

/// A query tile of a head, as the producer tells it to the consumers.
struct Work {
  int query_tile;  // -1: there is no more; where there are lists, at first its place in their order
  int head, sequence;
  int kv_head;  // set where it is told
};

/// Hands out the work by a counter in global memory: the blocks' first pieces by their numbers, the others to whoever
/// is done first. The order is: rows far longer than most, of all heads, since the last of them to begin would
/// otherwise outlast everything; heads, sequence by sequence, as many together as the second-level cache holds keys and
/// values of; rows of query tiles, the longest list first; the heads of the group.
class Schedule {
 public:
  __device__ explicit Schedule(const ForwardCall& call) : call_(call), index_(blockIdx.x) {}

  __device__ bool has_work() const { return index_ < total(); }

  __device__ Work work() const {
    const int heads = call_.h_q * call_.b, long_rows = call_.arguments.lists.long_rows;  // heads of all sequences
    if (index_ < long_rows * heads) return of_head(index_ % heads, index_ / heads);
    const int within = index_ - long_rows * heads, of_group = (call_.query_tiles - long_rows) * call_.heads_together;
    const int first_head = within / of_group * call_.heads_together, place = within % of_group;
    const int together = min(call_.heads_together, heads - first_head);
    return of_head(first_head + place % together, long_rows + place / together);
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
  __device__ Work of_head(int head, int row) const { return {row, head % call_.h_q, head / call_.h_q, 0}; }
  /// Not kept: a producer has few registers.
  __device__ int total() const { return call_.query_tiles * call_.h_q * call_.b; }

  const ForwardCall& call_;
  int index_;
};

}  // namespace tilewise::cuda::sm90
