// What a forward kernel is given. Plain data, read by the kernel and by the host that fills it in.
#pragma once

namespace tilewise::cuda {

/// One sequence of a call: lengths, and where its indices 0 lie.
struct SequenceShape {
  int queries, keys;             // s_q, s_kv
  int key_start;                 // first key index that exists
  int query_offset, key_offset;  // position of index 0
  int query_token, key_token;    // row of index 0 in the storage of the whole batch
  int padding;
};

/// A tensor of [b, h, s, d], or, packed, [h, tokens, d] with a batch stride of 0. Strides in elements; that of d is 1.
struct TensorView {
  void* data;
  long long batch, head, row;
};

/// A row of tiles as blocks take it, in one load: its number, how many tiles it visits, and where a walk that begins
/// near its queries' own positions does so: the index of that visit, and its entry. Both are 0 in an empty row.
struct alignas(16) RowStart {
  int row, count, index, entry;
};

/// The key tiles that each row of query tiles visits, in the order of the visits; in a backward pass, the query tiles
/// that each row of key tiles meets. There is a list for every (sequence, head, row); heads that share their lists have
/// a head stride of 0.
struct TileLists {
  const int* tiles;       // [lists, capacity], entries as Visit reads them (walk.h)
  const int* count;       // [lists], tiles of a list
  const RowStart* order;  // [lists], for each (sequence, head) its rows in the order in which blocks take them
  long long capacity;     // the most tiles of a list
  long long sequence_rows, head_rows;  // strides of lists
  int long_rows;                       // so many of a sequence's first rows in `order` are far longer than most
  int parts;                           // of each of these lists, which different blocks may take; 1 at least
  int heads_together;  // of so many heads, what blocks at work visit is in the second-level cache; 0: not known
  int padding;
  const int* turns;  // [2, lists, capacity] or null: how many rows list a tile that blocks take before a row, where
                     // they take the shortest list first, and where the longest
};

/// What makes such lists.
struct ClassifyArguments {
  const SequenceShape* sequences;  // [b]
  TileLists lists;                 // the shape of
  int *tiles, *count;              // these, to be written
  RowStart* order;                 // likewise
  int* turns;                      // likewise, or null
  int tile_queries, tile_keys;
  int part_queries, part_keys;  // of a tile, of which its entry tells
  int by_key;                   // rows are key tiles
  int ends_with_queries;        // the last query tile does so, and the first begins ahead of them (lead_of, walk.h)
  int heads_per_kv;
};

/// Dropout (docs/decisions/dropout.md): an entry is kept when its random byte is below keep_below.
struct DropoutArguments {
  unsigned long long seed;
  unsigned offset;
  unsigned keep_below;
  float scale;  // of kept weights: 256 / keep_below
  int padding;
  const long long* seed_and_offset;  // [2] on the GPU, in place of the first two; or null
};

/// Sequences whose numbers lie on the GPU: [b] each, `stride` elements apart, or null for what Sequence has by default.
struct SequenceColumns {
  struct Column {
    const int* data;
    long long stride;
  };
  Column queries, keys, key_start, query_offset, key_offset, query_token, key_token;
  int b;
  int most_queries, most_keys;   // what tensors and workspace have room for
  int query_tokens, key_tokens;  // rows of packed storage; -1 where it is not packed
};

/// Sequences on their way to the GPU, by value: what a launch's arguments hold (4 kB).
struct SequenceBatch {
  static constexpr int kMost = 96;
  SequenceShape shapes[kMost];
  int count;          // of sequences to be written
  int are_all_alike;  // the first of the shapes stands for all of them
};

/// Keys and values in pages: row j of a sequence is row j % page_tokens of page table[sequence, j / page_tokens]. A
/// tensor's batch stride is then that of pages. A number that is no page's is a hole, whose rows read as zeros.
struct PageTable {
  const int* table;        // [b, pages of a sequence]
  long long sequence;      // its stride of sequences
  int pages, page_tokens;  // how many pages there are, and the rows of one
  int shift;               // page_tokens is 2^shift; below 0 where it is no power of two
  int padding;
};

/// So many keys from a multiple of it share what a scale makes of them.
inline constexpr int kScaleBlock = 128;

/// What the scales of a block of keys come to.
struct alignas(16) Float8Block {
  float factor;         // scale * log2(e) * the keys' scale
  float log2_of_value;  // log2 of the values' scale
  float inverse_of_value;
  float padding;
};

/// What kernels for float8_e4m3 have besides (docs/decisions/fp8.md).
struct Float8Arguments {
  TensorView q_scales, k_scales, v_scales;  // float [b, h, blocks]; strides of 0 where a head has but one
  unsigned char* values;  // workspace [b, h_kv, d_v, key_blocks * kScaleBlock]: v transposed (sm90/float8_values.h)
  Float8Block* blocks;    // workspace [b, h_kv, key_blocks]
  int key_blocks;         // of the longest sequence
  int h_kv;
};

struct ForwardArguments {
  TensorView q, k, v, o;  // q [b, h_q, s_q, d_qk], k [b, h_kv, s_kv, d_qk], v [b, h_kv, s_kv, d_v], o as q with d_v
  TensorView lse;         // float [b, h_q, s_q]; its data may be null
  const SequenceShape* sequences;   // [b]
  TileLists lists;                  // where the kernel was made for lists
  DropoutArguments dropout;         // where it was made for dropout
  int queries_packed, keys_packed;  // tensors of that side are packed: a sequence's rows begin at its tokens
  int heads_per_kv;                 // h_q / h_kv
  float scale;                      // of q.k
  int planned;                      // sequences and lists are the plan's: no kernel in front of this one writes them
  PageTable pages;                  // where the kernel was made for pages
  float* max_score;                 // [h_q], -inf at first, where the kernel was made for it
  // Of lists in parts, a row being one of the long ones' queries: workspace [b, h_q, rows, parts, d_v] and, in log2
  // units, [b, h_q, rows, parts].
  float *partial_o, *partial_lse;
  Float8Arguments float8;  // where it was made for that dtype
};

/// Few queries against many keys, which are split among blocks.
struct DecodeArguments {
  ForwardArguments forward;
  SequenceShape alike;  // every sequence, where forward.sequences is null
  float* o;             // workspace [b, h_q, s_q of the longest, splits, d_v], where there is more than one split
  float* lse;           // workspace [b, h_q, s_q of the longest, splits], in log2 units
  int splits, s_q, h_q, row_tiles;  // row_tiles: of 16 rows, which cover the queries of a key head
};

/// Sums of gradients of tables and parameters; null where one is not asked for. All lie one behind the other, so that
/// an element has a number, which tells its place in arrays beside them.
///
/// Sums that do not depend on the order are made in two passes: the first finds the largest magnitude that is added to
/// each element, the second adds in 64-bit fixed point, with units by that.
struct GradientSums {
  static constexpr int kMost = 16;
  enum Pass { kAtomics, kFindLargest, kAddFixed };
  float* tables[kMost];      // [extents] each, without gaps
  float* parameters[kMost];  // one number each
  const float* first;        // of all
  unsigned* largest;         // [elements of all], bits of the largest magnitude, in the last two passes
  long long* fixed;          // [elements of all], sums in units of fixed_unit(largest), in the last pass
  int pass;                  // a Pass
};

/// Where sums go, as elements of a tensor.
struct GradientStore {
  enum Element { kFloat32, kFloat64, kBFloat16, kFloat16 };
  const float* sums;        // [elements], row-major
  const unsigned* largest;  // [elements], of sums in fixed point; null for sums in float32
  const long long* fixed;   // [elements], likewise
  void* to;
  long long elements;
  long long extents[4], strides[4];  // [rank], strides in elements
  int rank;
  int element;  // an Element
};

struct BackwardArguments {
  TensorView q, k, v, o, d_o;  // as in ForwardArguments; d_o as o
  TensorView lse, d_lse;       // float [b, h_q, s_q]; d_lse's data may be null, for 0
  TensorView d_q, d_k, d_v;    // results, as q, k and v; their data may be null
  float* reference;    // workspace [b, h_q, s_q of the longest]: lse in log2 units, +inf for rows without weights
  float* delta;        // workspace, likewise: sum over d_v of d_o * o, less d_lse
  float* d_q_sums;     // workspace [parts, b, h_q, sums of a head], in each family's order (query_sums.h)
  long long d_q_part;  // its stride of parts; 0 where all blocks add to one, by atomics
  int d_q_parts;
  int* d_q_turns;  // workspace [b, h_q, tiles of 64 queries]: what passes of the family for 9.0 count by
  int key_tiles;   // of the longest sequence
  const SequenceShape* sequences;  // [b]
  TileLists lists;  // rows are key tiles and entries query tiles; `order` is [sequences, h_kv, key tiles]
  DropoutArguments dropout;
  GradientSums gradients;  // where the kernel was made for them
  int queries_packed, keys_packed, heads_per_kv;
  int h_q, s_q;  // heads, and queries of the longest sequence
  float scale;
};

/// New tokens on their way into pages.
struct AppendArguments {
  TensorView k, v;                 // [b, h_kv, s, d], or packed as queries are
  TensorView k_pages, v_pages;     // [pages, h_kv, page_tokens, d]
  const SequenceShape* sequences;  // [b]; queries are the new tokens, keys all of them
  PageTable pages;
  double rotary_log2_base;  // -log2 of the base
  int rotary_columns;       // that are rotated, even; 0 for none
  int rotary_interleaved;   // pairs are neighbours, else half of the columns apart
  int tokens_packed;
};

}  // namespace tilewise::cuda
