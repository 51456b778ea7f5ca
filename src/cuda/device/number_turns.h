// Turns: for each tile of queries, in which order rows of key tiles come to it, where sums are made in a fixed order.
#pragma once

#include "walk.h"

namespace tilewise::cuda {

/// Turns from what the classifier leaves there, 1 where a row lists a tile and 0 where not: a thread to a column of
/// query tiles.
__device__ inline void number_turns(const ClassifyArguments& arguments, int rows) {
  constexpr int kAtOnce = 16;  // rows whose numbers are on their way together
  const TileLists& lists = arguments.lists;
  const int column = blockIdx.x * blockDim.x + threadIdx.x, head = blockIdx.y, sequence = blockIdx.z;
  if (column * arguments.tile_queries >= arguments.sequences[sequence].queries) return;  // a longer sequence's
  const int first_head = head / arguments.heads_per_kv * arguments.heads_per_kv;  // by whose order blocks take rows
  int turn = 0;
  for (int place = 0; place < rows; place += kAtOnce) {
    int* at[kAtOnce];
    int listed[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int row = row_from_end(lists, sequence, first_head, ::min(place + i, rows - 1), rows);
      at[i] = arguments.turns + list_of(lists, sequence, head, row) * lists.capacity + column;
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) listed[i] = *at[i];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (place + i < rows) *at[i] = turn;
      turn += listed[i];
    }
  }
}

}  // namespace tilewise::cuda
