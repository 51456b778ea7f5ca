// Turns: for each tile of queries, in which order rows of key tiles come to it, where sums are made in a fixed order.
#pragma once

#include "walk.h"

namespace tilewise::cuda {

/// Turns in a column of query tiles, of rows that come in the order of `row_at(place)`. The column tells where a row
/// lists the tile (1) and where not (0); so many ints behind each of these its turn is written, or in its place.
template <class RowAt>
__device__ inline void number_turns(int* column, const TileLists& lists, int rows, long long behind,
                                    const RowAt& row_at) {
  constexpr int kAtOnce = 16;  // rows whose numbers are on their way together
  int turn = 0;
  for (int place = 0; place < rows; place += kAtOnce) {
    int* at[kAtOnce];
    int listed[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) at[i] = column + row_at(::min(place + i, rows - 1)) * lists.capacity;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) listed[i] = *at[i];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (place + i < rows) at[i][behind] = turn;
      turn += listed[i];
    }
  }
}

/// Turns in both orders, from what the classifier leaves in place of the first: a thread to a column.
__device__ inline void number_turns(const ClassifyArguments& arguments, int rows) {
  const TileLists& lists = arguments.lists;
  const int column = blockIdx.x * blockDim.x + threadIdx.x, head = blockIdx.y, sequence = blockIdx.z;
  if (column * arguments.tile_queries >= arguments.sequences[sequence].queries) return;  // a longer sequence's
  const int first_head = head / arguments.heads_per_kv * arguments.heads_per_kv;  // by whose order blocks take rows
  int* const turns = arguments.turns + list_of(lists, sequence, head, 0) * lists.capacity + column;
  number_turns(turns, lists, rows, turns_of_longest_first(lists, gridDim.z),
               [&](int place) { return row_of(lists, sequence, first_head, place); });
  number_turns(turns, lists, rows, 0, [&](int place) { return row_of(lists, sequence, first_head, rows - 1 - place); });
}

}  // namespace tilewise::cuda
