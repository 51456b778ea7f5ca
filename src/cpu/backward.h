// Backward attention over tiles of keys, written once over an engine: weights are recomputed from lse, d_k and d_v of a
// key tile stay in cache while its queries pass, d_q accumulates in memory.
// Tri Dao et al., "FlashAttention" (2022), Algorithm 4, with the loops of Dao, "FlashAttention-2" (2023).
#pragma once

#include <cstdint>

#include "cpu/ahead.h"
#include "cpu/exp2.h"
#include "cpu/kernels.h"
#include "cpu/prepared.h"
#include "cpu/units.h"

namespace tilewise::cpu {

template <class Engine>
class BackwardKernel {
 public:
  /// Workspace of one task, in floats.
  static std::int64_t workspace_floats(const Shape& shape) {
    return kKeys * (4 * kStrip + (kPacks ? 2 * kRowStride : 0) + Engine::rounded_to_panel(shape.d_qk) +
                    Engine::rounded_to_panel(shape.d_v)) +
           2 * kWeightsFloats + Engine::packed_k_floats(shape.d_qk) + Engine::packed_k_floats(shape.d_v) +
           Engine::packed_v_floats(shape.d_qk);
  }

  static void run(const BackwardTask& task) { BackwardKernel(task).run(); }

 private:
  using Lanes = typename Engine::Lanes;
  using Vec = typename Lanes::Vec;
  using Head = Prepared<Engine>;
  using Block = typename Head::template Block<const float>;
  static constexpr int kVectors = Engine::kVectors;
  static constexpr int kStrip = Engine::kStrip;
  static constexpr int kStrips = Head::kStrips;
  static constexpr int kKeys = Engine::kBackwardKeys;
  static constexpr int kQueries = Engine::kBackwardQueries;
  static constexpr int kRows = Engine::kRows, kLeastRows = Engine::kLeastRows;
  static_assert(kKeys % kRows == 0 && kRows % kLeastRows == 0 && kKeys <= Engine::kTileKeys);
  // Where operands hold several neighbours a lane, weights and gradients are packed once more for d_k and d_v. Else
  // they take the place of the scores and gradients that they are made of, strip by strip.
  static constexpr bool kPacks = Engine::kDepth > 1;
  static constexpr std::int64_t kWeightsStride = kPacks ? kQueries + 16 : kStrip;
  static constexpr std::int64_t kStripStep = kPacks ? kStrip : kKeys * kStrip;  // floats from strip to strip
  static constexpr std::int64_t kWeightsFloats = kPacks ? kKeys * kWeightsStride : kStrips * kStripStep;

  // A cache line more than the queries: rows a multiple of four lines apart would share a quarter of the cache's sets.
  static constexpr std::int64_t kRowStride = kPacks ? kQueries / Engine::kDepth + 16 : kStripStep;

  /// A tile: kept keys of each strip of queries, relative to the tile's first key.
  struct Tile {
    std::int64_t query, key;  // indices of the first
    int keys;                 // present
    KeySpan spans[kStrips];   // absolute key indices
  };

  explicit BackwardKernel(const BackwardTask& task) : task_(task), shape_(task.shape) {
    float* free = task.workspace;
    const auto take = [&free](std::int64_t floats) {
      float* taken = free;
      free += floats;
      return taken;
    };
    weights_ = take(kWeightsFloats);
    d_scores_ = take(kWeightsFloats);
    weight_rows_ = kPacks ? take(kKeys * kRowStride) : weights_;
    d_score_rows_ = kPacks ? take(kKeys * kRowStride) : d_scores_;
    scores_ = take(kKeys * kStrip);
    raw_scores_ = take(kKeys * kStrip);
    d_weights_ = take(kKeys * kStrip);
    factors_ = take(kKeys * kStrip);
    d_k_ = take(std::int64_t{kKeys} * Engine::rounded_to_panel(shape_.d_qk));
    d_v_ = take(std::int64_t{kKeys} * Engine::rounded_to_panel(shape_.d_v));
    packed_k_ = take(Engine::packed_k_floats(shape_.d_qk));
    packed_v_ = take(Engine::packed_k_floats(shape_.d_v));
    k_columns_ = take(Engine::packed_v_floats(shape_.d_qk));
  }

  void run() {
    for (std::int64_t key = task_.key_begin; key < task_.key_end; key += kKeys) {
      const std::int64_t left = task_.key_end - key;
      key_tile(key, static_cast<int>(left < kKeys ? left : kKeys));
    }
  }

  void key_tile(std::int64_t key, int keys) {
    bool is_begun = false;  // once a query keeps some of it
    for (int head = 0; head < task_.head_count; ++head) {
      units_ = score_units(task_.scale, task_.heads[head].score);
      for (std::int64_t query = 0; query < shape_.s_q; query += kQueries) {
        Tile tile{query, key, keys, {}};
        if (!classify(task_.heads[head], &tile)) continue;
        if (!is_begun) begin_keys(key, keys);
        is_begun = true;
        query_block(task_.heads[head], tile);
      }
    }
    if (!is_begun) {
      clear_rows(task_.d_k, key, keys, shape_.d_qk);
      return clear_rows(task_.d_v, key, keys, shape_.d_v);
    }
    Engine::unpack_rows(d_k_, Engine::rounded_to_panel(shape_.d_qk), task_.scale, key, keys, shape_.d_qk, task_.d_k);
    Engine::unpack_rows(d_v_, Engine::rounded_to_panel(shape_.d_v), 1, key, keys, shape_.d_v, task_.d_v);
  }

  void begin_keys(std::int64_t key, int keys) {
    clear(d_k_, std::int64_t{kKeys} * Engine::rounded_to_panel(shape_.d_qk));
    clear(d_v_, std::int64_t{kKeys} * Engine::rounded_to_panel(shape_.d_v));
    k_ = Engine::pack_k(task_.k, key, keys, shape_.d_qk, packed_k_);
    v_ = Engine::pack_k(task_.v, key, keys, shape_.d_v, packed_v_);
    Engine::pack_k_columns(task_.k, key, keys, shape_.d_qk, k_columns_);
    // Rows past the last key belong to register blocks that reach over it.
    const int present = (keys + kRows - 1) / kRows * kRows;
    for (int strip = 0; strip < kStrips; ++strip) {
      clear_part(weights_ + strip * kStripStep, keys, present);
      clear_part(d_scores_ + strip * kStripStep, keys, present);
    }
  }

  /// Fills tile->spans; false where nothing is kept.
  bool classify(const BackwardHead& head, Tile* tile) const {
    const std::int64_t key_end = tile->key + tile->keys;
    const std::int64_t query_end = tile->query + kQueries < shape_.s_q ? tile->query + kQueries : shape_.s_q;
    const KeySpan whole = head.walk(tile->query, query_end, tile->key, key_end);
    if (whole.begin >= whole.end) return false;
    const bool full = whole.full_begin == whole.begin && whole.full_end == whole.end;
    if (!full) head.walk.strips(tile->query, query_end, kStrip, whole.begin, whole.end, tile->spans);
    for (int i = 0; i < kStrips; ++i) {
      KeySpan& span = tile->spans[i];
      if (full) span = whole;
      if (tile->query + i * kStrip >= query_end || span.begin >= span.end) {
        span = {tile->key, tile->key, tile->key, tile->key};
      } else {
        span = aligned(span, tile->key, Engine::kDepth);
      }
    }
    return true;
  }

  void query_block(const BackwardHead& head, const Tile& tile) {
    const Block block = Head::block(head.prepared, shape_, tile.query);
    if (block.is_odd[0] == Head::kNothingKept) return;  // though the walk could not prove it
    for (int i = 0; i < kStrips; ++i) strip(head, tile, block, i);
    // From the first kept key on, so that a block of kept keys takes no more rows than it has, wherever it lies.
    int low = tile.keys, high = 0;
    for (const KeySpan& span : tile.spans) {
      if (span.begin >= span.end) continue;
      const int begin = static_cast<int>(span.begin - tile.key), end = static_cast<int>(span.end - tile.key);
      low = begin < low ? begin : low;
      high = end > high ? end : high;
    }
    for (int row = low - low % kLeastRows, rows; row < high; row += rows) {
      rows = high - row > kLeastRows && row + kRows <= kKeys ? kRows : kLeastRows;
      const auto keeps = [&](int strip) {  // any of these keys
        const std::int64_t key = tile.key + row;
        return tile.spans[strip].begin < key + rows && tile.spans[strip].end > key;
      };
      for (int strip = 0; strip < kStrips; ++strip) {
        if (!keeps(strip)) continue;
        const int begin = strip * kStrip;
        while (strip + 1 < kStrips && keeps(strip + 1)) ++strip;
        const int end = (strip + 1) * kStrip;
        rows == kRows ? accumulate<kRows>(head, tile, row, begin, end, block)
                      : accumulate<kLeastRows>(head, tile, row, begin, end, block);
      }
    }
  }

  /// d_k and d_v of M keys from `row` on += those of queries [begin, end) of the block.
  template <int M>
  void accumulate(const BackwardHead& head, const Tile& tile, int row, int begin, int end, const Block& block) {
    float* d_v = d_v_ + std::int64_t{row} * Engine::rounded_to_panel(shape_.d_v);
    float* d_k = d_k_ + std::int64_t{row} * Engine::rounded_to_panel(shape_.d_qk);
    const std::int64_t first = row * (kPacks ? kRowStride : kStrip);
    const float *weights = weight_rows_ + first, *d_scores = d_score_rows_ + first;
    if constexpr (!kPacks) {
      if (*block.reads_rows != 0) {
        Engine::template accumulate_from_rows<M>(weights, kRowStride, begin, end, head.d_o, tile.query, shape_.d_v,
                                                 d_v);
        Engine::template accumulate_from_rows<M>(d_scores, kRowStride, begin, end, head.q, tile.query, shape_.d_qk,
                                                 d_k);
        return;
      }
    }
    Engine::template accumulate_rows<M>(weights, kRowStride, begin, end, kQueries, block.d_o_right, shape_.d_v, d_v);
    Engine::template accumulate_rows<M>(d_scores, kRowStride, begin, end, kQueries, block.q_right, shape_.d_qk, d_k);
  }

  /// Weights and gradients of scores of one strip, zero where its first and last blocks of rows reach over what is
  /// kept, and its share of d_q.
  void strip(const BackwardHead& head, const Tile& tile, const Block& block, int index) {
    const int first = static_cast<int>(tile.spans[index].begin - tile.key);
    const int end = static_cast<int>(tile.spans[index].end - tile.key);
    if (first >= end) return;
    const int from = first < kRows ? 0 : first - kRows, present = (tile.keys + kRows - 1) / kRows * kRows;
    const int to = end + kRows < present ? end + kRows : present;
    for (float* rows : {weights_ + index * kStripStep, d_scores_ + index * kStripStep}) {
      clear_part(rows, from, first);
      clear_part(rows, end, to);
    }
    kept_strip(head, tile, block, index);
    pack_rows(from, to, index);
    accumulate_d_q(head, tile, index);
  }

  void kept_strip(const BackwardHead& head, const Tile& tile, const Block& block, int index) {
    const KeySpan& span = tile.spans[index];
    const int first = static_cast<int>(span.begin - tile.key), keys = static_cast<int>(span.end - span.begin);
    const std::int64_t query = tile.query + index * kStrip;
    const int queries = static_cast<int>(shape_.s_q - query < kStrip ? shape_.s_q - query : kStrip);
    float* weights = weights_ + index * kStripStep + first * kWeightsStride;
    float* d_scores = d_scores_ + index * kStripStep + first * kWeightsStride;
    const bool in_place = !kPacks && block.is_odd[index] == 0;
    float *scores = in_place ? weights : scores_, *d_weights = in_place ? d_scores : d_weights_;
    NextStrip ahead = next_strip(head, tile, block, index);
    const auto piece = [&](float* values, std::int64_t begin, std::int64_t end, bool partial) {
      return ScoreBlock{values + (begin - span.begin) * kStrip, kStrip, query, begin, queries,
                        static_cast<int>(end - begin),          partial};
    };
    const bool adjoins = head.adjoint.apply != nullptr, drops = head.dropout.apply != nullptr;
    const Ahead reads = reads_ahead<Lanes>(head.score, piece(scores, span.begin, span.end, true));
    Engine::qk(block.q + index * Engine::packed_q_floats(shape_.d_qk), k_, first, keys, shape_.d_qk,
               units_.product_factor, adjoins ? raw_scores_ : scores, reads.then(&ahead.q, keys / Engine::kBlock + 1));
    for_pieces(span, [&](std::int64_t begin, std::int64_t end, bool partial) {
      if (adjoins) {
        const int row = static_cast<int>(begin - span.begin);
        head.adjoint.score(head.adjoint.context, {piece(raw_scores_, begin, end, partial), row,
                                                  scores + std::int64_t{row} * kStrip, nullptr, 0});
      } else if (head.score.apply != nullptr && (partial || !head.score.only_masks)) {
        head.score.apply(head.score.context, piece(scores, begin, end, partial));
      }
    });
    Engine::qk(block.d_o + index * Engine::packed_q_floats(shape_.d_v), v_, first, keys, shape_.d_v, 1, d_weights,
               ahead.d_o);
    if (drops) {
      for (int i = 0; i < keys * kStrip; ++i) factors_[i] = 1;
      head.dropout.apply(head.dropout.context, piece(factors_, span.begin, span.end, false));
    }
    const RowNumbers rows{block.reference + index * kStrip, block.delta + index * kStrip, block.share + index * kStrip};
    if (adjoins) {
      drops ? differentiate<true, true>(rows, keys, scores, d_weights, weights, d_scores)
            : differentiate<false, true>(rows, keys, scores, d_weights, weights, d_scores);
    } else {
      drops ? differentiate<true, false>(rows, keys, scores, d_weights, weights, d_scores)
            : differentiate<false, false>(rows, keys, scores, d_weights, weights, d_scores);
    }
    if (block.is_odd[index] != 0) differentiate_odd(rows, keys, drops, adjoins, weights, d_scores);
    if (queries < kStrip) clear_absent(queries, keys, weights, d_scores);
    if (adjoins) {
      head.adjoint.apply(head.adjoint.context,
                         {piece(raw_scores_, span.begin, span.end, true), 0, nullptr, d_scores, kWeightsStride});
    }
  }

  /// d_q of one strip += k^T d_scores.
  void accumulate_d_q(const BackwardHead& head, const Tile& tile, int index) {
    const KeySpan& span = tile.spans[index];
    const int first = static_cast<int>(span.begin - tile.key), keys = static_cast<int>(span.end - span.begin);
    const float* right = d_scores_ + index * kStripStep + first * kWeightsStride;
    if constexpr (kPacks) {
      gather(right, keys, d_weights_);
      Engine::pack_p(d_weights_, keys);
      right = d_weights_;
    }
    const std::int64_t floats = Head::d_q_strip(shape_);
    const std::int64_t query = tile.query + index * kStrip;
    float* d_q = Head::d_q_of(head.d_q, shape_, query);
    float& has_some = head.d_q[query / kStrip];
    const Ahead ahead = index + 1 == kStrips ? Ahead() : Ahead(d_q + floats, floats, shape_.d_qk / Engine::kBlock + 1);
    Engine::pv(k_columns_, first, right, kPacks ? kStrip : kWeightsStride, keys, shape_.d_qk, has_some == 0, d_q,
               ahead);
    has_some = 1;
  }

  /// What the strip after this one reads, to be fetched meanwhile: over 4096 queries it is long gone from L2.
  struct NextStrip {
    Ahead q, d_o;
  };

  NextStrip next_strip(const BackwardHead& head, const Tile& tile, const Block& block, int index) const {
    const std::int64_t touches = (tile.spans[index].end - tile.spans[index].begin) / Engine::kBlock + 1;
    const std::int64_t q = Engine::packed_q_floats(shape_.d_qk), d_o = Engine::packed_q_floats(shape_.d_v);
    if (index + 1 == kStrips) {
      // Next come the products with the right sides; the first of them is fetched only in part.
      if (*block.reads_rows == 0) return {Ahead(block.d_o_right, kQueries * std::int64_t{Engine::kPanel}, touches), {}};
      const auto* rows = static_cast<const float*>(head.d_o.data) + tile.query * head.d_o.stride;
      return {Ahead(rows, kQueries, Engine::kPanel * 4, head.d_o.stride * 4, touches), {}};
    }
    return {Ahead(block.q + (index + 1) * q, q, touches), Ahead(block.d_o + (index + 1) * d_o, d_o, touches)};
  }

  /// Numbers of the rows of a strip, [kStrip] each.
  struct RowNumbers {
    const float *reference, *delta, *share;
  };

  /// weights = exp(score - lse), d_scores = weights (d_weights - delta), both with rows kWeightsStride apart, or in
  /// place of scores and d_weights. kDrops: d_weights and then the weights are multiplied by factors_. kGuards: a
  /// weight of 0 gives a d_score of 0 even where d_weights is not finite.
  template <bool kDrops, bool kGuards>
  void differentiate(const RowNumbers& rows, int keys, const float* scores, const float* d_weights, float* weights,
                     float* d_scores) {
    const Exp2<Lanes> exp2(kLog2E);
    const Vec natural = Lanes::broadcast(static_cast<float>(units_.natural));
    Vec references[kVectors], deltas[kVectors];
    for (int n = 0; n < kVectors; ++n) {
      references[n] = Lanes::load(rows.reference + n * Lanes::kWidth);
      deltas[n] = Lanes::load(rows.delta + n * Lanes::kWidth);
    }
    for (int key = 0; key < keys; ++key) {
#pragma GCC unroll 8
      for (int n = 0; n < kVectors; ++n) {
        const std::int64_t dense = key * kStrip + n * Lanes::kWidth, at = key * kWeightsStride + n * Lanes::kWidth;
        const Vec weight = exp2(Lanes::fms(Lanes::load(scores + dense), natural, references[n]));
        Vec d_weight = Lanes::load(d_weights + dense), kept_weight = weight;
        if constexpr (kDrops) {
          const Vec factor = Lanes::load(factors_ + dense);
          d_weight = Lanes::mul(d_weight, factor);
          kept_weight = Lanes::mul(weight, factor);
        }
        Lanes::store(weights + at, kept_weight);
        const Vec d_score = Lanes::mul(weight, Lanes::sub(d_weight, deltas[n]));
        Lanes::store(d_scores + at, kGuards ? Lanes::zero_where_zero(weight, d_score) : d_score);
      }
    }
  }

  /// The same once more, entry by entry, for odd rows: those whose lse or delta is NaN, which must not reach what they
  /// do not keep, or whose lse is too large to tell weights by.
  void differentiate_odd(const RowNumbers& rows, int keys, bool drops, bool guards, float* weights, float* d_scores) {
    for (int i = 0; i < kStrip; ++i) {
      if (rows.share[i] == 0) continue;
      const double reference = double{rows.reference[i]} * units_.natural;
      for (int key = 0; key < keys; ++key) {
        const std::int64_t dense = key * kStrip + i, at = key * kWeightsStride + i;
        const float score = scores_[dense], factor = drops ? factors_[dense] : 1;
        const float exponent = static_cast<float>(double{score} * units_.natural - reference);
        const float weight = score == -__builtin_inff() ? 0.0f : __builtin_expf(exponent) * rows.share[i];
        // Where a program has clamped the score its derivative is 0.
        const bool passes = !(weight == 0 || (guards && score <= -0x1p126f));
        weights[at] = weight * factor;
        d_scores[at] = passes ? weight * (d_weights_[dense] * factor - rows.delta[i]) : 0.0f;
      }
    }
  }

  /// A program may leave anything in the lanes past the last query; sums over queries must not see it.
  static void clear_absent(int queries, int keys, float* weights, float* d_scores) {
    for (int key = 0; key < keys; ++key) {
      clear(weights + key * kWeightsStride + queries, kStrip - queries);
      clear(d_scores + key * kWeightsStride + queries, kStrip - queries);
    }
  }

  /// One strip's columns of rows [begin, end) of weights_ and d_scores_ to weight_rows_ and d_score_rows_.
  void pack_rows(int begin, int end, int index) {
    if constexpr (kPacks) {
      const std::int64_t from = index * kStrip, to = index * kStrip / Engine::kDepth;
      for (int key = begin; key < end; ++key) {
        Engine::pack_row(weights_ + key * kWeightsStride + from, weight_rows_ + key * kRowStride + to);
        Engine::pack_row(d_scores_ + key * kWeightsStride + from, d_score_rows_ + key * kRowStride + to);
      }
    }
  }

  static void gather(const float* rows, int keys, float* dense) {
    for (int key = 0; key < keys; ++key) copy(rows + key * kWeightsStride, kStrip, dense + key * kStrip);
  }

  static void clear_part(float* rows, int begin, int end) {
    for (int row = begin; row < end; ++row) clear(rows + row * kWeightsStride, kStrip);
  }
  static TILEWISE_INLINE void clear(float* values, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) values[i] = 0;
  }
  static TILEWISE_INLINE void copy(const float* from, std::int64_t count, float* to) {
    for (std::int64_t i = 0; i < count; ++i) to[i] = from[i];
  }

  const BackwardTask& task_;
  const Shape& shape_;
  ScoreUnits units_{};
  typename Engine::Keys k_{}, v_{};
  float* weights_;       // one block of queries: [kStrips] strips of [kKeys][kStrip], packed [kKeys][kWeightsStride]
  float* d_scores_;      // the same of the gradients of raw scores, unscaled
  float* weight_rows_;   // [kKeys][kRowStride], weights_ as the left side of d_v
  float* d_score_rows_;  // [kKeys][kRowStride], d_scores_ as the left side of d_k
  float* scores_;        // [kKeys][kStrip], with d_weights_: where weights cannot take their place
  float* raw_scores_;    // [kKeys][kStrip], before the program
  float* d_weights_;     // [kKeys][kStrip]
  float* factors_;       // [kKeys][kStrip], of dropout: 0 or 1 / p_keep
  float* d_k_;           // [kKeys][rounded d_qk], unscaled
  float* d_v_;           // [kKeys][rounded d_v]
  float* packed_k_;      // k and v where they cannot be read in place
  float* packed_v_;
  float* k_columns_;  // k packed as v is for the forward pass
};

}  // namespace tilewise::cpu
