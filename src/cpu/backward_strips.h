// What the backward pass makes of the strips of queries of a tile: weights recomputed from lse and the gradients of
// their scores, as d_v and d_k take them, and the strips' shares of d_q.
#pragma once

#include <cstdint>

#include "cpu/ahead.h"
#include "cpu/differentiation.h"
#include "cpu/kernels.h"
#include "cpu/prepared.h"
#include "cpu/subnormals.h"
#include "cpu/units.h"

namespace tilewise::cpu {

template <class Engine>
class BackwardStrips {
 public:
  using Head = Prepared<Engine>;
  using Block = typename Head::template Block<const float>;
  static constexpr int kStrip = Engine::kStrip;
  static constexpr int kStrips = Head::kStrips;
  static constexpr int kKeys = Engine::kBackwardKeys;
  static constexpr int kQueries = Engine::kBackwardQueries;

  // Where operands hold several neighbours a lane, weights and gradients are packed once more for d_k and d_v.
  static constexpr bool kPacks = Engine::kDepth > 1;
  static constexpr std::int64_t kRowStride = kQueries / Engine::kDepth + 16;

  /// A tile: kept keys of each strip of queries.
  struct Tile {
    std::int64_t query, key;  // indices of the first
    int keys;                 // present
    KeySpan spans[kStrips];   // absolute key indices
  };

  static std::int64_t workspace_floats(const Shape& shape) {
    return std::int64_t{kKeys} * (4 * kStrip + 2 * kWeightsStride + (kPacks ? 2 * kRowStride : 0)) +
           Engine::packed_k_floats(shape.d_qk) + Engine::packed_k_floats(shape.d_v) +
           Engine::packed_v_floats(shape.d_qk);
  }

  /// Keeps references to the shape and the workspace, workspace_floats(shape) floats, 64-byte aligned.
  BackwardStrips(const Shape& shape, float* workspace) : shape_(shape) {
    const auto take = [&workspace](std::int64_t floats) {
      float* taken = workspace;
      workspace += floats;
      return taken;
    };
    weights_ = take(kKeys * kWeightsStride);
    d_scores_ = take(kKeys * kWeightsStride);
    weight_rows_ = kPacks ? take(kKeys * kRowStride) : weights_;
    d_score_rows_ = kPacks ? take(kKeys * kRowStride) : d_scores_;
    scores_ = take(kKeys * kStrip);
    raw_scores_ = take(kKeys * kStrip);
    d_weights_ = take(kKeys * kStrip);
    factors_ = take(kKeys * kStrip);
    packed_k_ = take(Engine::packed_k_floats(shape_.d_qk));
    packed_v_ = take(Engine::packed_k_floats(shape_.d_v));
    k_columns_ = take(Engine::packed_v_floats(shape_.d_qk));
  }

  /// Moves to the keys of a tile.
  void begin_keys(const Rows& k, const Rows& v, std::int64_t key, int keys) {
    k_ = Engine::pack_k(k, key, keys, shape_.d_qk, packed_k_);
    v_ = Engine::pack_k(v, key, keys, shape_.d_v, packed_v_);
    Engine::pack_k_columns(k, key, keys, shape_.d_qk, k_columns_);
    // Rows past the last key belong to register blocks that reach over it.
    for (int row = keys; row < reached(keys); ++row) {
      clear(weights_ + row * kWeightsStride, kWeightsStride);
      clear(d_scores_ + row * kWeightsStride, kWeightsStride);
    }
  }

  /// All strips of a tile of a head with these units.
  void run(const BackwardHead& head, const ScoreUnits& units, const Tile& tile, const Block& block) {
    units_ = units;
    for (int i = 0; i < kStrips; ++i) {
      if constexpr (Engine::kRingFloats > 0) {
        if (i + 1 < kStrips && are_alike(head, tile, block, i)) {
          two_strips(head, tile, block, i++);
          continue;
        }
      }
      strip(head, tile, block, i);
    }
  }

  /// [keys][kRowStride] from a tile's key `row` on, the left sides of d_v and d_k: zero where blocks of rows reach over
  /// what a strip keeps.
  const float* weights(int row) const { return weight_rows_ + row * kRowStride; }
  const float* d_scores(int row) const { return d_score_rows_ + row * kRowStride; }

  static TILEWISE_INLINE void clear(float* values, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) values[i] = 0;
  }

 private:
  using Lanes = typename Engine::Lanes;
  static constexpr int kRows = Engine::kRows;
  // A cache line more than the queries: rows a multiple of four lines apart would share a quarter of the cache's sets.
  static constexpr std::int64_t kWeightsStride = kQueries + 16;
  static constexpr std::int64_t kRowWidth = kStrip / Engine::kDepth;  // of one strip

  /// Rows that blocks of rows reach over where so many keys are present.
  static constexpr int reached(int keys) {
    const int whole = (keys + kRows - 1) / kRows * kRows;
    return whole < kKeys ? whole : kKeys;
  }

  /// Weights and gradients of scores of one strip, zero where its first and last blocks of rows reach over what is
  /// kept, and its share of d_q.
  void strip(const BackwardHead& head, const Tile& tile, const Block& block, int index) {
    const int first = static_cast<int>(tile.spans[index].begin - tile.key);
    const int end = static_cast<int>(tile.spans[index].end - tile.key);
    if (first >= end) return;
    const bool packs_at_once = can_pack_at_once(head, tile, block, index);
    const KeySpan around = clear_around(tile, index, packs_at_once);
    kept_strip(head, tile, block, index, packs_at_once);
    if (!packs_at_once) pack_rows(static_cast<int>(around.begin), static_cast<int>(around.end), index);
    accumulate_d_q(head, tile, index, packs_at_once);
  }

  /// Zeros where blocks of rows reach over what the strip keeps; the rows that they and the kept ones are.
  KeySpan clear_around(const Tile& tile, int index, bool packed) {
    const int first = static_cast<int>(tile.spans[index].begin - tile.key);
    const int end = static_cast<int>(tile.spans[index].end - tile.key);
    const int from = first < kRows ? 0 : first - kRows, present = reached(tile.keys);
    const int to = end + kRows < present ? end + kRows : present;
    const std::int64_t stride = packed ? kRowStride : kWeightsStride, width = packed ? kRowWidth : kStrip;
    for (float* rows : {packed ? weight_rows_ : weights_, packed ? d_score_rows_ : d_scores_}) {
      for (int row = from; row < to; ++row) {
        if (row < first || row >= end) clear(rows + row * stride + index * width, width);
      }
    }
    return {from, first, end, to};
  }

  /// Whether two_strips does for this one and the next: plain, and with the same whole groups of keys.
  bool are_alike(const BackwardHead& head, const Tile& tile, const Block& block, int index) const {
    const KeySpan &span = tile.spans[index], &next = tile.spans[index + 1];
    return can_pack_at_once(head, tile, block, index) && can_pack_at_once(head, tile, block, index + 1) &&
           (head.score.apply == nullptr || head.score.only_masks) && span.begin < span.end &&
           span.full_begin == span.begin && span.full_end == span.end && next.full_begin == next.begin &&
           next.full_end == next.end && span.begin == next.begin && span.end == next.end &&
           (span.end - span.begin) % Engine::kGroup == 0;
  }

  /// strip for two, with products made beside what becomes of those before.
  void two_strips(const BackwardHead& head, const Tile& tile, const Block& block, int index) {
    const KeySpan& span = tile.spans[index];
    const int first = static_cast<int>(span.begin - tile.key), keys = static_cast<int>(span.end - span.begin);
    float* const right[2] = {d_weights_, d_weights_ + kKeys / 2 * kStrip};
    float* d_q[2];
    for (int i = 0; i < 2; ++i) {
      clear_around(tile, index + i, true);
      derive(block, first, keys, index + i, right[i]);
      const std::int64_t query = tile.query + (index + i) * kStrip;
      d_q[i] = Head::d_q_of(head.d_q, shape_, query);
      float& has_some = head.d_q[query / kStrip];
      if (has_some == 0) clear(d_q[i], Head::d_q_strip(shape_));
      has_some = 1;
    }
    const std::int64_t floats = 2 * Head::d_q_strip(shape_);
    const Ahead ahead =
        index + 2 == kStrips ? Ahead() : Ahead(d_q[1] + floats / 2, floats, shape_.d_qk / kStrip * 2 + 1);
    Engine::pv_of_two(k_columns_, first, {right[0], right[1]}, keys, shape_.d_qk, d_q, ahead);
  }

  /// Weights and gradients of scores of one strip as operands, of d_q's in `right`.
  void derive(const Block& block, int first, int keys, int index, float* right) {
    const Differentiation<Engine> differentiation(numbers(block, index), units_.natural);
    const DerivedRows rows = packed_rows(first, index);
    NextStrip ahead = next_strip(block, keys, index);
    const auto pack = [&]<int kPart, int kShare>(const float* products, int key, int from)
        __attribute__((always_inline)) {
#pragma GCC unroll 4
      for (int pair = from + kShare * kPart / 4; pair < from + kShare * (kPart + 1) / 4; ++pair) {
        const float* scores = products + pair * 2 * kStrip;
        differentiation.pack(scores, scores + Engine::kGroupFloats, rows.from(key + 2 * pair),
                             right + (key / 2 + pair) * kStrip);
      }
    };
    const FlushedSubnormals<Flushed::all> flushed;  // products of bfloat16 read and make none anyway
    Engine::template two_products<false>({{block.q + index * Engine::packed_q_floats(shape_.d_qk), k_, shape_.d_qk},
                                          {block.d_o + index * Engine::packed_q_floats(shape_.d_v), v_, shape_.d_v}},
                                         first, keys, scores_, ahead.q.then(&ahead.d_o, 2 * keys / Engine::kGroup),
                                         pack);
  }

  /// Whether weights and gradients are final when they are made, so that they need not be stored before they are
  /// packed.
  bool can_pack_at_once(const BackwardHead& head, const Tile& tile, const Block& block, int index) const {
    return kPacks && head.adjoint.apply == nullptr && head.dropout.apply == nullptr && block.is_odd[index] == 0 &&
           tile.query + (index + 1) * kStrip <= shape_.s_q;
  }

  /// Weights and gradients of scores of the keys that a strip keeps.
  void kept_strip(const BackwardHead& head, const Tile& tile, const Block& block, int index, bool packs_at_once) {
    make_entries(head, tile, block, index);
    const KeySpan& span = tile.spans[index];
    const int first = static_cast<int>(span.begin - tile.key), keys = static_cast<int>(span.end - span.begin);
    const bool adjoins = head.adjoint.apply != nullptr, drops = head.dropout.apply != nullptr;
    const EntryRows entries{scores_, d_weights_, drops ? factors_ : nullptr};
    const RowNumbers rows = numbers(block, index);
    const Differentiation<Engine> differentiation(rows, units_.natural);
    if constexpr (kPacks) {
      if (packs_at_once) return pack_entries(differentiation, keys, packed_rows(first, index));
    }
    const std::int64_t at = index * kStrip + first * kWeightsStride;
    const DerivedRows to{weights_ + at, d_scores_ + at, kWeightsStride};
    if (adjoins) {
      drops ? differentiation.template rows<true, true>(entries, keys, to)
            : differentiation.template rows<false, true>(entries, keys, to);
    } else {
      drops ? differentiation.template rows<true, false>(entries, keys, to)
            : differentiation.template rows<false, false>(entries, keys, to);
    }
    if (block.is_odd[index] != 0) differentiate_odd<Engine>(rows, units_.natural, entries, keys, adjoins, to);
    if (const int queries = queries_of(tile, index); queries < kStrip) clear_absent(queries, keys, to);
    if (adjoins) {
      const ScoreBlock raw = piece(tile, index, raw_scores_, span.begin, span.end, true);
      head.adjoint.apply(head.adjoint.context, {raw, 0, nullptr, to.d_scores, kWeightsStride});
    }
  }

  /// Scores, through the program, gradients of weights, and factors of dropout of the keys that a strip keeps.
  void make_entries(const BackwardHead& head, const Tile& tile, const Block& block, int index) {
    const KeySpan& span = tile.spans[index];
    const int first = static_cast<int>(span.begin - tile.key), keys = static_cast<int>(span.end - span.begin);
    const std::int64_t touches = keys / Engine::kBlock + 1;
    NextStrip ahead = next_strip(block, keys, index);
    if (index + 1 == kStrips && *block.reads_rows != 0)
      ahead.q = rows_ahead(head.d_o, Engine::kPanel, tile.query, kQueries, touches);
    const bool adjoins = head.adjoint.apply != nullptr;
    const Ahead reads = reads_ahead<Lanes>(head.score, piece(tile, index, scores_, span.begin, span.end, true));
    Engine::qk(block.q + index * Engine::packed_q_floats(shape_.d_qk), k_, first, keys, shape_.d_qk,
               units_.product_factor, adjoins ? raw_scores_ : scores_, reads.then(&ahead.q, touches));
    for_pieces(span, [&](std::int64_t begin, std::int64_t end, bool partial) {
      if (adjoins) {
        const int row = static_cast<int>(begin - span.begin);
        head.adjoint.score(head.adjoint.context, {piece(tile, index, raw_scores_, begin, end, partial), row,
                                                  scores_ + std::int64_t{row} * kStrip, nullptr, 0});
      } else if (head.score.apply != nullptr && (partial || !head.score.only_masks)) {
        head.score.apply(head.score.context, piece(tile, index, scores_, begin, end, partial));
      }
    });
    Engine::qk(block.d_o + index * Engine::packed_q_floats(shape_.d_v), v_, first, keys, shape_.d_v, 1, d_weights_,
               ahead.d_o);
    if (head.dropout.apply == nullptr) return;
    for (int i = 0; i < keys * kStrip; ++i) factors_[i] = 1;
    head.dropout.apply(head.dropout.context, piece(tile, index, factors_, span.begin, span.end, false));
  }

  /// Queries of a strip that are present.
  int queries_of(const Tile& tile, int index) const {
    const std::int64_t left = shape_.s_q - tile.query - index * kStrip;
    return static_cast<int>(left < kStrip ? left : kStrip);
  }

  /// Keys [begin, end) of `values`, which holds those that the strip keeps.
  ScoreBlock piece(const Tile& tile, int index, float* values, std::int64_t begin, std::int64_t end,
                   bool partial) const {
    return {values + (begin - tile.spans[index].begin) * kStrip,
            kStrip,
            tile.query + index * kStrip,
            begin,
            queries_of(tile, index),
            static_cast<int>(end - begin),
            partial};
  }

  /// d_q of one strip += k^T d_scores.
  void accumulate_d_q(const BackwardHead& head, const Tile& tile, int index, bool is_packed) {
    const KeySpan& span = tile.spans[index];
    const int first = static_cast<int>(span.begin - tile.key), keys = static_cast<int>(span.end - span.begin);
    const float* right = d_scores_ + index * kStrip + first * kWeightsStride;
    if constexpr (kPacks) {
      if (!is_packed) {
        gather(right, keys, d_weights_);
        Engine::pack_p(d_weights_, keys);
      }
      right = d_weights_;
    }
    const std::int64_t floats = Head::d_q_strip(shape_);
    const std::int64_t query = tile.query + index * kStrip;
    float* d_q = Head::d_q_of(head.d_q, shape_, query);
    float& has_some = head.d_q[query / kStrip];
    const FlushedSubnormals<Flushed::results> flushed;
    const Ahead ahead = index + 1 == kStrips ? Ahead() : Ahead(d_q + floats, floats, shape_.d_qk / Engine::kBlock + 1);
    Engine::pv(k_columns_, first, right, kPacks ? kStrip : kWeightsStride, keys, shape_.d_qk, has_some == 0, d_q,
               ahead);
    has_some = 1;
  }

  /// What the strip after this one reads, to be fetched meanwhile: over 4096 queries it is long gone from L2.
  struct NextStrip {
    Ahead q, d_o;
  };

  NextStrip next_strip(const Block& block, int keys, int index) const {
    const std::int64_t touches = keys / Engine::kBlock + 1;
    const std::int64_t q = Engine::packed_q_floats(shape_.d_qk), d_o = Engine::packed_q_floats(shape_.d_v);
    if (index + 1 == kStrips) {
      // Next come the products with the right sides; the first of them is fetched only in part.
      return {Ahead(block.d_o_right, kQueries * std::int64_t{Engine::kPanel}, touches), {}};
    }
    return {Ahead(block.q + (index + 1) * q, q, touches), Ahead(block.d_o + (index + 1) * d_o, d_o, touches)};
  }

  static RowNumbers numbers(const Block& block, int index) {
    return {block.reference + index * kStrip, block.delta + index * kStrip, block.share + index * kStrip};
  }

  /// A strip's columns of weight_rows_ and d_score_rows_, from row `first` on.
  DerivedRows packed_rows(int first, int index) {
    const std::int64_t at = first * kRowStride + index * kRowWidth;
    return {weight_rows_ + at, d_score_rows_ + at, kRowStride};
  }

  /// d_weights_ becomes the right side of d_q in place: a row is written once the rows that it takes have been read.
  void pack_entries(const Differentiation<Engine>& differentiation, int keys, const DerivedRows& to) {
    const FlushedSubnormals<Flushed::all> flushed;
    const int even = keys / 2 * 2;
    for (int key = 0; key < even; key += 2) {
      const std::int64_t at = key * kStrip;
      differentiation.pack(scores_ + at, d_weights_ + at, to.from(key), d_weights_ + at / 2);
    }
    if (even == keys) return;
    const std::int64_t at = even * kStrip;
    differentiation.template pack<false>(scores_ + at, d_weights_ + at, to.from(even), d_weights_ + at / 2);
  }

  /// A program may leave anything in the lanes past the last query; sums over queries must not see it.
  static void clear_absent(int queries, int keys, const DerivedRows& of) {
    for (int key = 0; key < keys; ++key) {
      clear(of.weights + key * of.stride + queries, kStrip - queries);
      clear(of.d_scores + key * of.stride + queries, kStrip - queries);
    }
  }

  /// One strip's columns of rows [begin, end) of weights_ and d_scores_ to weight_rows_ and d_score_rows_.
  void pack_rows(int begin, int end, int index) {
    if constexpr (kPacks) {
      const std::int64_t from = index * kStrip, to = index * kRowWidth;
      for (int key = begin; key < end; ++key) {
        Engine::pack_row(weights_ + key * kWeightsStride + from, weight_rows_ + key * kRowStride + to);
        Engine::pack_row(d_scores_ + key * kWeightsStride + from, d_score_rows_ + key * kRowStride + to);
      }
    }
  }

  static void gather(const float* rows, int keys, float* dense) {
    for (int key = 0; key < keys; ++key) copy(rows + key * kWeightsStride, kStrip, dense + key * kStrip);
  }

  static TILEWISE_INLINE void copy(const float* from, std::int64_t count, float* to) {
    for (std::int64_t i = 0; i < count; ++i) to[i] = from[i];
  }

  const Shape& shape_;
  ScoreUnits units_{};
  typename Engine::Keys k_{}, v_{};
  float* weights_;       // [kKeys][kWeightsStride], one block of queries
  float* d_scores_;      // [kKeys][kWeightsStride], the same of the gradients of raw scores, unscaled
  float* weight_rows_;   // [kKeys][kRowStride], weights_ as the left side of d_v
  float* d_score_rows_;  // [kKeys][kRowStride], d_scores_ as the left side of d_k
  float* scores_;        // [kKeys][kStrip]
  float* raw_scores_;    // [kKeys][kStrip], before the program
  float* d_weights_;     // [kKeys][kStrip]
  float* factors_;       // [kKeys][kStrip], of dropout: 0 or 1 / p_keep
  float* packed_k_;      // k and v where they cannot be read in place
  float* packed_v_;
  float* k_columns_;  // k packed as v is for the forward pass
};

}  // namespace tilewise::cpu
