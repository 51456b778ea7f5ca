// The score buffer: in which units it is held, and where the score program touches it.
#pragma once

#include "cpu/ahead.h"
#include "cpu/block.h"
#include "cpu/kernels.h"

namespace tilewise::cpu {

inline constexpr float kLog2E = 1.44269504f;

/// A row's reference maximum is raised, and what it has accumulated rescaled, only when a score exceeds it by this much
/// (in log2). Weights stay below 2^16 and sums below 2^16 s_kv, far from overflow, and the pass over o is almost never
/// made.
inline constexpr float kRescaleGrowth = 16;
inline constexpr float kMostWeight = 0x1p16f;  // 2^kRescaleGrowth

/// What a score in the score buffer stands for. Scaling q would round each of its elements, so the scale is left to the
/// exponential (no cost), or applied to whole products where a program wants to see scores as the variant defines them
/// (1 to 2% of the products at d 64), unless it is a power of two, as at d 16, 64 and 256.
struct ScoreUnits {
  bool raw;              // no program changes kept scores
  float q_factor;        // q is packed times this, exactly: +-1 or a power of two
  float product_factor;  // products with packed q times this are what the buffer holds
  float log2;            // log2 of a weight for one unit in the buffer; positive
  double natural;        // the same in natural log
};

/// Whether products by it are exact: a power of two, so near to one that only elements below 2^-110 lose digits.
TILEWISE_INLINE bool scales_exactly(float magnitude) {
  return magnitude >= 0x1p-16f && magnitude <= 1 && (__builtin_bit_cast(std::uint32_t, magnitude) & 0x7fffff) == 0;
}

template <class Engine>
TILEWISE_INLINE ScoreUnits score_units(float scale, const ScoreProgram& score) {
  const bool raw = score.apply == nullptr || score.only_masks;
  const float magnitude = scale < 0 ? -scale : scale;
  if (!raw) {
    const bool exact = Engine::kDepth == 1 && scales_exactly(magnitude);  // pairs are packed as they lie
    return {false, exact ? scale : 1, exact ? 1 : scale, kLog2E, 1};
  }
  // Below this the exponential's own range would not hold; that includes a scale of zero.
  if (magnitude < 0x1p-99f) return {true, scale, 1, kLog2E, 1};
  return {true, scale < 0 ? -1.0f : 1.0f, 1, magnitude * kLog2E, magnitude};
}

/// The span with its beginning moved down to a multiple of `step` keys from `origin`: whole lanes of packed operands.
/// The keys taken in keep nothing, so they are masked like the rest of a partial piece.
TILEWISE_INLINE KeySpan aligned(KeySpan span, std::int64_t origin, std::int64_t step) {
  if (span.begin < span.end) span.begin -= (span.begin - origin) % step;
  return span;
}

/// Rows [begin, begin + count) of `width` elements become zero: what rows that keep nothing are given. Rows that lie
/// one behind the other are cleared as one, since long stores need not read the memory first.
TILEWISE_INLINE void clear_rows(const MutableRows& rows, std::int64_t begin, std::int64_t count, int width) {
  const std::int64_t element = rows.dtype == DType::float32 ? 4 : 2;
  char* row = static_cast<char*>(rows.data) + begin * rows.stride * element;
  if (rows.stride == width) {
    __builtin_memset(row, 0, static_cast<std::size_t>(count * width * element));
    return;
  }
  for (std::int64_t i = 0; i < count; ++i, row += rows.stride * element)
    __builtin_memset(row, 0, static_cast<std::size_t>(width * element));
}

/// What the program will read for a block, to be fetched while the block's products are computed. Not in line, since it
/// is rarely there.
template <class Lanes>
__attribute__((noinline)) Ahead reads_ahead(const ScoreProgram& score, const ScoreBlock& block) {
  if (score.ahead == nullptr) return {};
  const ReadAhead reads = score.ahead(score.context, block);
  // One line of each row at once: rows may be pages apart, and translations are then found six at a time. One after the
  // other, they held the products back by 370 cycles each where a table's rows come to their next page.
  const char* row = static_cast<const char*>(reads.first);
  for (std::int64_t i = 0; i < reads.rows; ++i, row += reads.stride_bytes) __builtin_prefetch(row);
  return Ahead(reads.first, reads.rows, reads.row_bytes, reads.stride_bytes, 1);
}

/// Rows [begin, begin + count) of `width` elements.
TILEWISE_INLINE Ahead rows_ahead(const Rows& rows, int width, std::int64_t begin, std::int64_t count,
                                 std::int64_t touches) {
  const std::int64_t bytes = rows.dtype == DType::float32 ? 4 : 2;
  return {static_cast<const char*>(rows.data) + begin * rows.stride * bytes, count, width * bytes, rows.stride * bytes,
          touches};
}
/// Likewise; nothing of rows that are gathered or dequantised.
TILEWISE_INLINE Ahead rows_ahead(const RowSource& source, int width, std::int64_t begin, std::int64_t count,
                                 std::int64_t touches) {
  if (source.block_table != nullptr || source.scales != nullptr) return {};
  return rows_ahead(source.rows, width, begin, count, touches);
}

/// The pieces of a span: before, inside and behind its full part. visit(begin, end, partial).
template <class Visit>
TILEWISE_INLINE void for_pieces(const KeySpan& span, const Visit& visit) {
  const auto piece = [&](std::int64_t begin, std::int64_t end, bool partial) {
    if (begin < end) visit(begin, end, partial);
  };
  if (span.full_begin >= span.full_end) return piece(span.begin, span.end, true);
  piece(span.begin, span.full_begin, true);
  piece(span.full_begin, span.full_end, false);
  piece(span.full_end, span.end, true);
}

/// Runs the program over the pieces of a span; at(begin, end, partial) is the block of those keys.
template <class At>
TILEWISE_INLINE void apply_score(const ScoreProgram& score, const KeySpan& span, const At& at) {
  if (score.apply == nullptr) return;
  for_pieces(span, [&](std::int64_t begin, std::int64_t end, bool partial) {
    if (partial || !score.only_masks) score.apply(score.context, at(begin, end, partial));
  });
}

}  // namespace tilewise::cpu
