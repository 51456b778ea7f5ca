// What the kernels for compute capability 9.0 are given besides the arguments that all kernels take.
#pragma once

#include "arguments.h"

namespace tilewise::cuda::sm90 {

/// A tensor's address, extents, strides and box, as the driver encodes them (cuTensorMapEncodeTiled).
struct alignas(64) TensorMap {
  unsigned long long words[16];
};

/// A forward call. Blocks stay, and take one piece of work after the other: a (sequence, head, query tile).
struct ForwardCall {
  TensorMap q, k, v;  // boxes: 64 columns of a query tile, and of a key tile
  TensorMap o;        // box: 64 columns of a warp's 16 queries
  ForwardArguments arguments;
  unsigned* next_work;  // 0 before and after
  int query_tiles;      // of the longest sequence
  int h_q, b;
  int heads_together;  // of any sequence, whose keys and values the second-level cache holds at a time
  int box_rows;        // where k and v lie in pages: rows of their boxes, which divide a page's and a key tile's
  float factor;        // scale * log2(e); where scale is 0, a number so small that it makes no difference
};

/// A backward call. In its workspace a head has whole tiles of 64 queries, and `d_q_sums` is in tiles of 64 queries by
/// all columns (rounded up to 64), each in the order in which a block's threads hold it (sm90/backward_rows.h).
struct BackwardCall {
  TensorMap q, k, v, d_o;  // boxes: 64 columns of a query tile, and of a key tile
  TensorMap d_k, d_v;      // boxes: 64 columns of a warp's 16 keys; where they are asked for
  BackwardArguments arguments;
  int query_tiles;       // of the longest sequence
  float factor;          // scale * log2(e); where scale is 0, a number so small that it makes no difference
  unsigned* next_block;  // of a deterministic pass: 0 before and after
  int heads_together;    // likewise: key heads, of any sequence, whose key tiles blocks take by turns
  int key_tiles;         // of the longest sequence
  int shared_from;       // key tiles of all heads and sequences from this one on are launched apart, a cluster for each
  int counts_added;      // whether blocks count when they have added to sums of d_q (sm90/added.h)
  int longest_first_from;  // of a deterministic pass: from this key head of all on, blocks begin with the longest lists
};

/// A call of decoding whose values are the keys' first columns.
struct LatentCall {
  TensorMap k;  // box: 64 columns of a key tile's rows, or as many rows as divide it and a page
  DecodeArguments decode;
  int box_rows;
};

}  // namespace tilewise::cuda::sm90
