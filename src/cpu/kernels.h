// The seam between the planning side and the kernels: plain data and function pointers, nothing of an instruction set.
#pragma once

#include <cstdint>

#include "tilewise/tensor.h"

namespace tilewise::cpu {

/// A block of scores (or weights) of one query head, transposed: vector lanes run along queries.
struct ScoreBlock {
  float* values;             // [keys, stride], entry (key, query) at values[key * stride + query]
  std::int64_t stride;       // floats between neighbouring keys; >= queries, the floats between are padding
  std::int64_t query_begin;  // query_index of column 0
  std::int64_t key_begin;    // key_index of row 0
  int queries, keys;         // extents
  bool partial;              // true: some entry may be removed; false: the walk proved that all are kept
};

/// Memory that a score program reads for a block, beyond its registers.
struct ReadAhead {
  const void* first = nullptr;
  std::int64_t rows = 0, row_bytes = 0, stride_bytes = 0;
};

/// Replaces the values of a block (scale already applied) by the variant's scores, -inf where an entry is removed.
/// `context` is the caller's; null `apply` means that scores are used as they are and everything is kept.
struct ScoreProgram {
  void (*apply)(const void* context, const ScoreBlock& block) = nullptr;
  const void* context = nullptr;
  bool only_masks = false;  // kept scores are unchanged: applied to partial blocks only
  ReadAhead (*ahead)(const void* context, const ScoreBlock& block) = nullptr;  // null: nothing to speak of
};

/// Multiplies the weights of a block by 0 or 1 / p_keep; null `apply` means no dropout.
struct DropoutHook {
  void (*apply)(const void* context, const ScoreBlock& block) = nullptr;
  const void* context = nullptr;
};

/// What a backward pass hands to a score program and its adjoint: a block of one strip of queries.
struct AdjointBlock {
  ScoreBlock scores;      // before the program
  int row;                // of the strip's span, where the block begins
  float* results;         // [keys, scores.stride], the program's scores; out of the program, not for the adjoint
  float* d_scores;        // [keys, d_stride]; in, the gradient of the results; out, of `scores`. For the adjoint only
  std::int64_t d_stride;  // floats between neighbouring keys of d_scores
};

/// A score program that changes kept scores, with its adjoint; null: the derivative of every kept score is one. For
/// each strip `score` is called with the blocks of its span, then `apply` with the whole span, whose d_scores are 0
/// where the weight is 0 and must be left so.
struct AdjointHook {
  void (*score)(const void* context, const AdjointBlock& block) = nullptr;  // as ScoreProgram, out of place
  void (*apply)(const void* context, const AdjointBlock& block) = nullptr;
  const void* context = nullptr;
};

/// Where the kept entries of a tile lie. Keys outside [begin, end) keep nothing, keys in [full_begin, full_end) keep
/// every query of the tile, and only the rest needs its mask evaluated. begin == end: the tile is empty.
struct KeySpan {
  std::int64_t begin, full_begin, full_end, end;
};

/// Classifies tiles: (query indices [query_begin, query_end)) x (key indices [key_begin, key_end)).
/// Null `classify` means that everything is kept.
struct TileWalk {
  KeySpan (*classify)(const void* context, std::int64_t query_begin, std::int64_t query_end, std::int64_t key_begin,
                      std::int64_t key_end) = nullptr;
  const void* context = nullptr;
  // The strips of `step` queries of a tile, spans[i] of strip i; null: one after the other.
  void (*classify_strips)(const void* context, std::int64_t query_begin, std::int64_t query_end, std::int64_t step,
                          std::int64_t key_begin, std::int64_t key_end, KeySpan* spans) = nullptr;

  // Always inlined: a copy compiled for one instruction set must not serve the others.
  __attribute__((always_inline)) KeySpan operator()(std::int64_t query_begin, std::int64_t query_end,
                                                    std::int64_t key_begin, std::int64_t key_end) const {
    if (classify == nullptr) return {key_begin, key_begin, key_end, key_end};
    return classify(context, query_begin, query_end, key_begin, key_end);
  }
  __attribute__((always_inline)) void strips(std::int64_t query_begin, std::int64_t query_end, std::int64_t step,
                                             std::int64_t key_begin, std::int64_t key_end, KeySpan* spans) const {
    if (classify_strips != nullptr)
      return classify_strips(context, query_begin, query_end, step, key_begin, key_end, spans);
    for (std::int64_t query = query_begin; query < query_end; query += step)
      *spans++ = (*this)(query, query + step < query_end ? query + step : query_end, key_begin, key_end);
  }
};

/// Rows of one head of a sequence: row i starts at data + i * stride elements, its elements are contiguous.
struct Rows {
  const void* data = nullptr;
  std::int64_t stride = 0;
  DType dtype = DType::float32;
};

/// Keys or values of one sequence and head, rows of one tensor or of pages: the one thing that kernels of the forward
/// pass load them from (row_source.h).
struct RowSource {
  Rows rows;                                  // strided: row i as in Rows; paged: slot i of page 0
  const std::int32_t* block_table = nullptr;  // [pages of the sequence], indices of pages, -1 a hole; null: strided
  std::int64_t page_tokens = 0;
  std::int64_t page_stride = 0;        // elements between neighbouring pages
  std::int64_t first_slot = 0;         // paged: of row 0, counted from the beginning of the block table
  const float* scales = nullptr;       // int8: an element's value is itself times its row's scale
  std::int64_t scale_stride = 1;       // floats between neighbouring rows' scales
  std::int64_t scale_page_stride = 0;  // paged: between neighbouring pages
};

/// As Rows, written to.
struct MutableRows {
  void* data = nullptr;
  std::int64_t stride = 0;
  DType dtype = DType::float32;
};

/// Sizes that a kernel's tiles and workspace depend on.
struct Shape {
  std::int64_t s_q = 0, s_kv = 0;
  int d_qk = 0, d_v = 0;
  DType kv_dtype = DType::float32;  // as k and v are stored: how much room gathered rows may take. float32's is enough
};

/// Attention of one query head over queries [query_begin, query_end): one task of a forward pass.
struct ForwardTask {
  Shape shape;
  std::int64_t query_begin = 0, query_end = 0;  // query_end - query_begin <= Kernels::tile_queries
  Rows q;                                       // [s_q, d_qk]
  RowSource k;                                  // [s_kv, d_qk]
  RowSource v;                                  // [s_kv, d_v]
  MutableRows o;                                // [s_q, d_v]
  float* lse = nullptr;                         // [s_q], natural log; may be null
  float scale = 1;
  const float* sink = nullptr;  // one logit that joins the denominator only; may be null
  TileWalk walk;
  ScoreProgram score;
  DropoutHook dropout;
  float* maximum = nullptr;  // [query_end - query_begin]; with `sum`, may be null: what the weights of a row are
                             // relative to, in the units of the score buffer, and
  float* sum = nullptr;      // [query_end - query_begin], of those weights: more digits than lse has where it is large
  float* workspace = nullptr;  // Kernels::forward_floats(shape) floats, 64-byte aligned
};

/// Whether float32 has too few digits for weights exp(score - lse): at 2^16 they are 0.4% off, at 2^126, where a row of
/// clamped scores lies, log(n) is lost altogether.
inline constexpr float kLargeLse = 0x1p16f;

/// What a backward pass needs of one query head, packed once and read by every key tile.
struct PrepareTask {
  Shape shape;
  std::int64_t query_begin = 0, query_end = 0;  // begins at a multiple of Kernels::backward_queries
  Rows q;                                       // [s_q, d_qk]
  Rows o;                                       // [s_q, d_v]
  Rows d_o;                                     // [s_q, d_v]
  const float* lse = nullptr;                   // [s_q], as the forward pass returned it
  const float* d_lse = nullptr;                 // [s_q]; null: zero
  const float* maximum = nullptr;               // [query_end - query_begin]; with `sum`, may be null: of a ForwardTask.
  const float* sum = nullptr;  // [query_end - query_begin]; needed where a finite lse is kLargeLse or more in magnitude
  float scale = 1;
  // Key tiles are to read rows of q and d_o where they lie, as far as they lie so that this is possible: fewer bytes
  // where a query sees few keys, more misses of the first-level cache where it sees many.
  bool reads_rows = false;
  ScoreProgram score;         // as in the forward pass
  float* delta = nullptr;     // [s_q], out: rowsum(d_o * o) - d_lse
  float* prepared = nullptr;  // out, Kernels::prepared_floats(shape) floats for the head, 64-byte aligned
};

/// One query head's share in a backward task.
struct BackwardHead {
  const float* prepared = nullptr;  // of the whole head
  Rows q;                           // as in the PrepareTask
  Rows d_o;                         // likewise
  float* d_q = nullptr;  // [d_q_floats], accumulated: the sum over this task's keys, packed and unscaled; its first
                         // Kernels::d_q_flags are zeroed before
  TileWalk walk;
  ScoreProgram score;
  AdjointHook adjoint;
  DropoutHook dropout;
};

/// Keys [key_begin, key_end) against all queries of the query heads that share them: their d_k and d_v are finished
/// here, d_q is a partial sum.
struct BackwardTask {
  Shape shape;
  std::int64_t key_begin = 0, key_end = 0;
  Rows k;           // [s_kv, d_qk]
  Rows v;           // [s_kv, d_v]
  MutableRows d_k;  // [s_kv, d_qk]
  MutableRows d_v;  // [s_kv, d_v]
  float scale = 1;
  const BackwardHead* heads = nullptr;  // [head_count]
  int head_count = 0;
  float* workspace = nullptr;  // Kernels::backward_floats(shape) floats, 64-byte aligned
};

/// Adds the partial sums of d_q of one head in their order, scales and writes them.
struct FinishTask {
  Shape shape;
  std::int64_t query_begin = 0, query_end = 0;  // begins at a multiple of Kernels::backward_queries
  float* const* partials = nullptr;             // [partial_count], each d_q_floats long; one of them receives the sum
  int partial_count = 0;
  float scale = 1;
  MutableRows d_q;  // [s_q, d_qk]
};

/// One query of one of the heads that share keys.
struct DecodeRow {
  const void* q = nullptr;  // [d_qk]
  std::int64_t query = 0;   // its index
  TileWalk walk;
  ScoreProgram score;  // is given blocks of one query: [keys, 1]
};

/// A few rows against keys [key_begin, key_end), a split of a long cache. The result is partial: the splits of a row
/// are merged (tiles/merge.h), and a sink is added at the end. Tasks that differ only in their rows, their keys' and
/// values' place, and outputs may be computed together, tile by tile: heads that neighbour each other in a page or a
/// token then read its memory together.
struct DecodeTask {
  Shape shape;  // s_q is not read
  std::int64_t key_begin = 0, key_end = 0;
  DType q_dtype = DType::float32;
  const DecodeRow* rows = nullptr;  // [row_count]
  int row_count = 0;
  RowSource k;  // [s_kv, d_qk]
  RowSource v;  // [s_kv, d_v]
  float scale = 1;
  float* o = nullptr;          // [row_count, d_v], normalised over the split's own keys
  float* lse = nullptr;        // [row_count]
  float* workspace = nullptr;  // Kernels::decode_floats(shape, row_count) floats, 64-byte aligned
};

/// Decode tasks that are computed together at most; of more, some come after the others.
inline constexpr int kMostDecodeTasks = 8;

/// The kernels of one instruction set. Thread-safe: all that they write is in the task.
struct Kernels {
  const char* name;  // "avx2"
  DType operand;     // what products take; bfloat16: other inputs would be rounded to it, so plans give it no others
  std::int64_t tile_queries;                           // most queries of a forward task; a multiple of strip_queries
  int strip_queries;                                   // the walk is asked again for each strip of a partial tile
  int tile_keys;                                       // most keys of a block of scores, forward and backward
  int decode_keys;                                     // and of a decode task
  std::int64_t (*forward_floats)(const Shape& shape);  // workspace of one forward task
  void (*forward)(const ForwardTask& task);

  std::int64_t backward_keys, backward_queries;         // a backward tile
  std::int64_t backward_step;                           // tasks are best a multiple of so many keys
  std::int64_t (*prepared_floats)(const Shape& shape);  // of one query head
  std::int64_t (*unread_floats)(const Shape& shape);    // of those, where key tiles read all rows that they may
  std::int64_t (*d_q_floats)(const Shape& shape);       // of one partial sum of one query head
  std::int64_t (*d_q_flags)(const Shape& shape);        // its first floats, which are to be zeroed before
  std::int64_t (*backward_floats)(const Shape& shape);  // workspace of one backward task
  void (*prepare)(const PrepareTask& task);
  void (*backward)(const BackwardTask& task);
  void (*finish)(const FinishTask& task);

  std::int64_t (*decode_floats)(const Shape& shape, int row_count);  // workspace of one decode task; whole lines
  void (*decode)(const DecodeTask* tasks, int count);

  const Kernels* narrow;  // the same with strips of fewer queries, for masks that keep narrow bands or small blocks;
                          // null: there are none
  double narrow_cost = 1.05;  // what the same entries take there, of the time here
};

/// For every processor of the architecture.
const Kernels& baseline_kernels();
/// To be called only where the processor has AVX2, FMA and F16C.
const Kernels& avx2_kernels();
/// To be called only where the processor has AVX-512 F, BW, DQ and VL as well.
const Kernels& avx512_kernels();
/// And AVX512-VNNI.
const Kernels& avx512_vnni_kernels();
/// And AVX512-BF16.
const Kernels& avx512_bf16_kernels();
/// And AMX-TILE, AMX-BF16 and AMX-INT8, granted by the operating system.
const Kernels& amx_kernels();
/// The same for float32 queries on int8 caches, which they decode, with AVX-512's other kernels.
const Kernels& amx_code_kernels();

}  // namespace tilewise::cpu
