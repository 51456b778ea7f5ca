// Lengths and offsets, from a launch's arguments to memory.
#pragma once

#include "arguments.h"

namespace tilewise::cuda {

/// Writes a batch of sequences, a thread to each.
__device__ inline void write_sequences(const SequenceBatch& batch, SequenceShape* to) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < batch.count) to[i] = batch.shapes[batch.are_all_alike ? 0 : i];
}

__device__ inline int clamped(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

/// Puts together sequences whose numbers lie on the GPU, a thread to each. Lengths and tokens are clamped to what there
/// is, so that no kernel leaves its tensors.
__device__ inline void gather_sequences(const SequenceColumns& columns, SequenceShape* to) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= columns.b) return;
  const auto read = [&](const SequenceColumns::Column& column, int otherwise) {
    return column.data == nullptr ? otherwise : column.data[i * column.stride];
  };
  SequenceShape made;
  made.queries = clamped(read(columns.queries, columns.most_queries), 0, columns.most_queries);
  made.keys = clamped(read(columns.keys, columns.most_keys), 0, columns.most_keys);
  made.query_token = read(columns.query_token, 0);
  made.key_token = read(columns.key_token, 0);
  if (columns.query_tokens >= 0) {
    made.query_token = clamped(made.query_token, 0, columns.query_tokens);
    made.queries = clamped(made.queries, 0, columns.query_tokens - made.query_token);
  }
  if (columns.key_tokens >= 0) {
    made.key_token = clamped(made.key_token, 0, columns.key_tokens);
    made.keys = clamped(made.keys, 0, columns.key_tokens - made.key_token);
  }
  made.key_start = clamped(read(columns.key_start, 0), 0, made.keys);
  made.key_offset = read(columns.key_offset, 0);
  made.query_offset = read(columns.query_offset, made.key_offset + made.keys - made.queries);
  made.padding = 0;
  to[i] = made;
}

}  // namespace tilewise::cuda
