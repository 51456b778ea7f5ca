// Lengths and offsets, from a launch's arguments to memory.
#pragma once

#include "arguments.h"

namespace tilewise::cuda {

/// Writes a batch of sequences, a thread to each.
__device__ inline void write_sequences(const SequenceBatch& batch, SequenceShape* to) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < batch.count) to[i] = batch.shapes[batch.are_all_alike ? 0 : i];
}

}  // namespace tilewise::cuda
