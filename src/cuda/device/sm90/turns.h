// Sums in a fixed order: blocks that add to the same tile of d_q do so one after the other, each in its turn.
//
// A tile's blocks add in the order in which they have begun (KeyWork), so that a block waits only for such as run
// already, and there is no deadlock however few run at a time.
#pragma once

#include "sm90_call.h"
#include "walk.h"

namespace tilewise::cuda::sm90 {

/// What a block does: a row of key tiles, in an ordered pass at first its place in the order in which they are begun,
/// and the part of its queries.
struct KeyWork {
  int row, kv_head, sequence;
  int part = 0, parts = 1;

  /// The next piece of work. Key heads take turns, as many together as call.heads_together, and the last ones all
  /// together: were blocks that begin at the same time all of one head, each would start a tile behind the one before.
  /// `places` times `kv_heads` times `sequences` blocks ask, once each, and the last one leaves the counter as it was.
  __device__ static KeyWork take(const BackwardCall& call, int places, int kv_heads, int sequences) {
    const unsigned all = kv_heads * sequences, last = call.longest_first_from;
    const unsigned number = atomicAdd(call.next_block, 1u);
    if (number == places * all - 1) *call.next_block = 0;
    const unsigned together = call.heads_together, of_last = places * last;
    const unsigned first = number < of_last ? number / (places * together) * together : last;
    const unsigned end = number < of_last ? ::min(first + together, last) : all;
    const unsigned within = number - places * first, head = first + within % (end - first);
    return {int(within / (end - first)), int(head % kv_heads), int(head / kv_heads)};
  }
};

/// What a block of an ordered pass does. The last heads' blocks begin with the longest lists, and these with their last
/// tiles: the shortest ones are then left to the end, where the others' longest lists would outlast everything by half
/// of their length.
struct OrderedWork : KeyWork {
  int flip;          // 0, or of the last heads -1
  const int* turns;  // [lists, capacity] of this order, where there are lists

  __device__ static OrderedWork take(const BackwardCall& call, int places, int kv_heads, int sequences) {
    const KeyWork work = KeyWork::take(call, places, kv_heads, sequences);
    const TileLists& lists = call.arguments.lists;
    const bool is_last = work.sequence * kv_heads + work.kv_head >= call.longest_first_from;
    return {work, is_last ? -1 : 0, lists.turns + (is_last ? turns_of_longest_first(lists, sequences) : 0)};
  }

  /// The place of its row among so many, of which the longest is first.
  __device__ int place(int rows) const { return flip != 0 ? row : rows - 1 - row; }
  /// Which of `count` tiles it visits when it has visited so many.
  __device__ int index(int visited, int count) const { return (visited ^ flip) + (count & flip); }
};

/// How many blocks have added to a tile.
struct TurnCount {
  int* count;

  /// Until so many have. Relaxed: what follows are additions, made in the second-level cache after this load has come
  /// back from there. A load that acquires would empty the first-level cache (CCTL.IVALL) once a tile, and what
  /// consumers read of the sequence in front of every tile's products would come from afar.
  __device__ void wait_for(int turn) const {
    int now;
    do {
      asm volatile("ld.relaxed.gpu.global.s32 %0, [%1];" : "=r"(now) : "l"(count) : "memory");
    } while (now != turn);
  }
  /// What this thread knows to be added is before the next turn.
  __device__ void pass_on() const { asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(count) : "memory"); }
};

}  // namespace tilewise::cuda::sm90
