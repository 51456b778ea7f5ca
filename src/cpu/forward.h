// Forward attention over one tile of queries: online softmax over key tiles, written once over an engine.
// Tri Dao et al., "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness" (2022), Algorithm 1,
// with query tiles outermost and the rescaling deferred (see kRescaleGrowth).
#pragma once

#include <cstdint>

#include "cpu/ahead.h"
#include "cpu/exp2.h"
#include "cpu/kernels.h"
#include "cpu/row_source.h"
#include "cpu/strip_softmax.h"
#include "cpu/subnormals.h"
#include "cpu/units.h"

namespace tilewise::cpu {

template <class Engine>
class ForwardKernel {
 public:
  static constexpr int kStrip = Engine::kStrip;
  static constexpr int kTileKeys = Engine::kTileKeys;
  static constexpr std::int64_t kTileQueries = Engine::kTileQueries;
  static constexpr int kStrips = static_cast<int>(kTileQueries / kStrip);

  /// Workspace of one task, in floats. Without keys no more than the strips are touched.
  static std::int64_t workspace_floats(const Shape& shape) {
    const std::int64_t needed = (shape.s_q + kStrip - 1) / kStrip, strips = needed < kStrips ? needed : kStrips;
    const std::int64_t of_strips =
        strips * (Engine::packed_q_floats(shape.d_qk) + Softmax::o_floats(shape) + 2 * kStrip);
    if (shape.s_kv == 0) return of_strips;
    return of_strips + Engine::packed_k_floats(shape.d_qk) + Engine::packed_v_floats(shape.d_v) + kTileKeys * kStrip +
           Engine::kRingFloats + staged_floats(kTileKeys, shape.d_qk, shape.kv_dtype) +
           staged_floats(kTileKeys, shape.d_v, shape.kv_dtype);
  }

  static void run(const ForwardTask& task) { ForwardKernel(task).run(); }

 private:
  using Softmax = StripSoftmax<Engine>;
  using Strip = typename Softmax::Strip;
  using Lanes = typename Engine::Lanes;
  using Vec = typename Lanes::Vec;
  static constexpr int kVectors = Engine::kVectors;

  explicit ForwardKernel(const ForwardTask& task)
      : task_(task), shape_(task.shape), units_(score_units<Engine>(task.scale, task.score)), softmax_(task, units_) {
    float* free = task.workspace;
    const auto take = [&free](std::int64_t floats) {
      float* taken = free;
      free += floats;
      return taken;
    };
    for (std::int64_t begin = task.query_begin; begin < task.query_end; begin += kStrip) {
      Strip& strip = strips_[strip_count_++];
      strip.begin = begin;
      strip.count = static_cast<int>(task.query_end - begin < kStrip ? task.query_end - begin : kStrip);
      strip.q = take(Engine::packed_q_floats(shape_.d_qk));
      strip.o = take(Softmax::o_floats(shape_));
      strip.maximum = take(kStrip);
      strip.sum = take(kStrip);
    }
    scores_ = take(kTileKeys * kStrip);
    ring_ = take(Engine::kRingFloats);
    packed_v_ = take(Engine::packed_v_floats(shape_.d_v));
    packed_k_ = take(Engine::packed_k_floats(shape_.d_qk));
    staged_k_ = take(staged_floats(kTileKeys, shape_.d_qk, task.k.rows.dtype));
    staged_v_ = take(staged_floats(kTileKeys, shape_.d_v, task.v.rows.dtype));
  }

  void run() {
    next_tile_ = kept_tile(0);
    for (int i = 0; i < strip_count_; ++i) Softmax::start(strips_[i]);
    while (next_tile_.begin < next_tile_.end) {
      const KeySpan tile = next_tile_;
      next_tile_ = kept_tile((tile.begin / kTileKeys + 1) * kTileKeys);
      key_tile(tile);
    }
    for (int i = 0; i < strip_count_; ++i)
      strips_[i].is_begun ? softmax_.finish(strips_[i]) : softmax_.finish_empty(strips_[i]);
  }

  /// The first tile from `key` on, a multiple of kTileKeys, that keeps anything; an empty span after the last.
  KeySpan kept_tile(std::int64_t key) const {
    for (; key < shape_.s_kv; key += kTileKeys) {
      const std::int64_t end = shape_.s_kv - key < kTileKeys ? shape_.s_kv : key + kTileKeys;
      const KeySpan tile = task_.walk(task_.query_begin, task_.query_end, key, end);
      if (tile.begin < tile.end) return tile;
    }
    return {};
  }

  void key_tile(const KeySpan& tile) {
    const int keys = static_cast<int>(tile.end - tile.begin);
    std::int64_t first_k = 0, first_v = 0;
    const Rows k_rows = rows_of<Lanes>(task_.k, tile.begin, keys, shape_.d_qk, staged_k_, &first_k);
    const Rows v_rows = rows_of<Lanes>(task_.v, tile.begin, keys, shape_.d_v, staged_v_, &first_v);
    const auto k = Engine::pack_k(k_rows, first_k, keys, shape_.d_qk, packed_k_);
    Engine::pack_v(v_rows, first_v, keys, shape_.d_v, packed_v_);
    const bool full = tile.full_begin == tile.begin && tile.full_end == tile.end;
    KeySpan spans[kStrips];
    if (!full) task_.walk.strips(task_.query_begin, task_.query_end, kStrip, tile.begin, tile.end, spans);
    int left = 0;  // strips that keep any of the tile
    for (int i = 0; i < strip_count_; ++i) left += full || spans[i].begin < spans[i].end ? 1 : 0;
    const bool is_last = next_tile_.begin >= next_tile_.end;
    std::int64_t fetched = is_last ? task_.query_begin : next_tile_.begin;
    const std::int64_t to_fetch = is_last ? task_.query_end : next_tile_.end;
    const auto share = [&](int strips) {
      const std::int64_t begin = fetched, rows = (to_fetch - fetched + left - 1) / left * strips;
      fetched = begin + rows < to_fetch ? begin + rows : to_fetch;
      left -= strips;
      return NextRows{is_last, begin, fetched - begin};
    };
    for (int i = 0; i < strip_count_; ++i) {
      const KeySpan span = full ? tile : aligned(spans[i], tile.begin, Engine::kDepth);
      if (span.begin >= span.end) continue;
      if constexpr (Engine::kRingFloats > 0) {
        const auto is_whole = [&](const KeySpan& of) { return of.full_begin == tile.begin && of.full_end == tile.end; };
        if (is_whole(span) && keys % Engine::kGroup == 0 && can_join(i) && (full || is_whole(spans[i + 1]))) {
          if (!two_blocks(&strips_[i], k, keys, share(2))) {
            for (int of_two = 0; of_two < 2; ++of_two) block(strips_[i + of_two], k, 0, tile, {});
          }
          ++i;
          continue;
        }
      }
      block(strips_[i], k, static_cast<int>(span.begin - tile.begin), span, share(1));
    }
  }

  /// Rows that are to be fetched meanwhile: of k and v of the next tile, or after the last one those that o goes to.
  struct NextRows {
    bool of_o;
    std::int64_t begin, count;
  };

  /// Whether two_blocks does for this strip and the next.
  bool can_join(int index) const { return index + 1 < strip_count_ && units_.raw && task_.dropout.apply == nullptr; }

  /// Begins a strip with the first group of keys of a whole tile as what its weights are relative to.
  void begin(Strip& strip, const typename Engine::Keys& k) {
    Engine::pack_q(task_.q, strip.begin, strip.count, shape_.d_qk, units_.q_factor, strip.q);
    __builtin_memset(strip.o, 0, static_cast<std::size_t>(Softmax::o_floats(shape_)) * sizeof(float));
    Vec maximum[kVectors];
    for (Vec& x : maximum) x = Lanes::broadcast(-__builtin_inff());
    Engine::qk_maximum(strip.q, k, 0, Engine::kGroup, shape_.d_qk, ring_, maximum, {});
    softmax_.update_maximum(strip, maximum);
    strip.is_begun = true;
  }

  /// block for two strips against whole groups of keys, of which all are kept, with scores made beside the weights of
  /// those before. False, with nothing added, where scores have outgrown the strips' references.
  bool two_blocks(Strip* strips, const typename Engine::Keys& k, int keys, const NextRows& next) {
    float* const weights[2] = {scores_, scores_ + kTileKeys / 2 * kStrip};
    for (int side = 0; side < 2; ++side) {
      if (!strips[side].is_begun) begin(strips[side], k);
    }
    Vec sum[2][kVectors];
    weigh_two(strips, k, keys, next, weights, sum);
    bool has_outgrown = false;  // infinite sums, too: of a row that had no reference yet
    for (const auto& of_strip : sum) {
      for (const Vec& x : of_strip) has_outgrown |= Lanes::any_greater(x, Lanes::broadcast(kMostWeight));
    }
    if (has_outgrown) return false;
    for (int side = 0; side < 2; ++side) {
      for (int n = 0; n < kVectors; ++n) {
        float* total = strips[side].sum + n * Lanes::kWidth;
        Lanes::store(total, Lanes::add(Lanes::load(total), sum[side][n]));
      }
    }
    Engine::pv_of_two(packed_v_, 0, {weights[0], weights[1]}, keys, shape_.d_v, {strips[0].o, strips[1].o},
                      v_rows_ahead(next, 2 * ((shape_.d_v + kStrip - 1) / kStrip)));
    return true;
  }

  /// Weights of two strips, and their sums. Not in line: what it holds fills the registers.
  __attribute__((noinline)) void weigh_two(const Strip* strips, const typename Engine::Keys& k, int keys,
                                           const NextRows& next, float* const (&weights)[2],
                                           Vec (&total)[2][kVectors]) const {
    const Exp2<Lanes> exp2(units_.log2);
    Vec maximum[2][kVectors], sum[2][kVectors];
    for (int side = 0; side < 2; ++side) {
      for (int n = 0; n < kVectors; ++n) {
        maximum[side][n] = Lanes::load(strips[side].maximum + n * Lanes::kWidth);
        sum[side][n] = Lanes::zero();
      }
    }
    const auto weigh = [&]<int kPart, int kShare>(const float* products, int key, int from)
        __attribute__((always_inline)) {
      static_assert(kVectors == 2);  // each part is a vector of one side
      constexpr int kSide = kPart / 2, kVector = kPart % 2, kAt = kVector * Lanes::kWidth;
      const float* scores = products + kSide * Engine::kGroupFloats + from * 2 * kStrip + kAt;
      float* packed = weights[kSide] + (key / 2 + from) * kStrip + kAt;
#pragma GCC unroll 4
      for (int pair = 0; pair < kShare; ++pair) {
        const Vec even = exp2(Lanes::sub(Lanes::load(scores + 2 * pair * kStrip), maximum[kSide][kVector]));
        const Vec odd = exp2(Lanes::sub(Lanes::load(scores + (2 * pair + 1) * kStrip), maximum[kSide][kVector]));
        sum[kSide][kVector] = Lanes::add(sum[kSide][kVector], Lanes::add(even, odd));
        Lanes::store(packed + pair * kStrip, Lanes::pair(even, odd));
      }
    };
    const std::int64_t touches = keys / Engine::kGroup * 2;
    Ahead q_ahead = next_q(strips[1], touches, 2);
    const FlushedSubnormals<Flushed::all> flushed;  // products of bfloat16 treat subnormal numbers as zero anyway
    Engine::template two_products<true>({{strips[0].q, k, shape_.d_qk}, {strips[1].q, k, shape_.d_qk}}, 0, keys, ring_,
                                        k_rows_ahead(next, touches).then(&q_ahead, touches), weigh);
    for (int side = 0; side < 2; ++side) {
      for (int n = 0; n < kVectors; ++n) total[side][n] = sum[side][n];
    }
  }

  /// One strip against the keys of a span; `first` is the span's first row within the packed tile.
  void block(Strip& strip, const typename Engine::Keys& k, int first, const KeySpan& span, const NextRows& next) {
    const int keys = static_cast<int>(span.end - span.begin);
    const std::int64_t touches = keys / Engine::kBlock + 1;
    if (!strip.is_begun) Engine::pack_q(task_.q, strip.begin, strip.count, shape_.d_qk, units_.q_factor, strip.q);
    Ahead q_ahead = next_q(strip, touches);
    Ahead k_ahead = k_rows_ahead(next, touches).then(&q_ahead, touches);
    Vec maximum[kVectors];
    for (Vec& x : maximum) x = Lanes::broadcast(-__builtin_inff());
    const bool full = span.full_begin == span.begin && span.full_end == span.end;
    if (full && units_.raw) {
      Engine::qk_maximum(strip.q, k, first, keys, shape_.d_qk, scores_, maximum, k_ahead);
    } else {
      const Ahead reads = reads_ahead<Lanes>(task_.score, score_block(strip, span.begin, span.begin, span.end, !full));
      // Early enough for the last of them to be there when the program begins.
      Engine::qk(strip.q, k, first, keys, shape_.d_qk, units_.product_factor, scores_,
                 reads.then(&k_ahead, touches * 3 / 4 + 1));
      apply_score(task_.score, span, [&](std::int64_t begin, std::int64_t end, bool partial) {
        return score_block(strip, span.begin, begin, end, partial);
      });
      Softmax::raise_maximum(scores_, keys, maximum);
    }
    softmax_.update_maximum(strip, maximum);
    if (task_.dropout.apply == nullptr) {
      softmax_.template exponentiate<true>(strip, scores_, keys);
    } else {
      softmax_.template exponentiate<false>(strip, scores_, keys);
      task_.dropout.apply(task_.dropout.context, score_block(strip, span.begin, span.begin, span.end, false));
      Engine::pack_p(scores_, keys);
    }
    Engine::pv(packed_v_, first, scores_, kStrip, keys, shape_.d_v, !strip.is_begun, strip.o,
               v_rows_ahead(next, shape_.d_v / Engine::kBlock + 1));
    strip.is_begun = true;
  }

  ScoreBlock score_block(const Strip& strip, std::int64_t origin, std::int64_t begin, std::int64_t end, bool partial) {
    return {scores_ + (begin - origin) * kStrip, kStrip, strip.begin, begin, strip.count,
            static_cast<int>(end - begin),       partial};
  }

  Ahead k_rows_ahead(const NextRows& next, std::int64_t touches) const {
    return next.of_o ? Ahead() : rows_ahead(task_.k, shape_.d_qk, next.begin, next.count, touches);
  }

  Ahead v_rows_ahead(const NextRows& next, std::int64_t touches) const {
    if (!next.of_o) return rows_ahead(task_.v, shape_.d_v, next.begin, next.count, touches);
    const Rows rows{task_.o.data, task_.o.stride, task_.o.dtype};
    return rows_ahead(rows, shape_.d_v, next.begin, next.count, touches);
  }

  /// The rows of as many strips after this one, where they are still to be begun.
  Ahead next_q(const Strip& strip, std::int64_t touches, int strips = 1) const {
    const Strip &next = *(&strip + 1), &last = strips_[strip_count_ - 1];
    if (&strip == &last || next.is_begun) return {};
    const std::int64_t end = last.begin + last.count, wanted = next.begin + strips * kStrip;
    return rows_ahead(task_.q, shape_.d_qk, next.begin, (wanted < end ? wanted : end) - next.begin, touches);
  }

  const ForwardTask& task_;
  const Shape& shape_;
  ScoreUnits units_;
  Softmax softmax_;
  Strip strips_[kStrips];
  int strip_count_ = 0;
  KeySpan next_tile_{};  // after the one that is computed
  float* scores_;        // [kTileKeys][kStrip], scores, then weights
  float* ring_;          // of products that are made beside their weights
  float* packed_v_;      // a tile of v, packed by the engine
  float* packed_k_;      // a tile of k where it cannot be read in place
  float* staged_k_;      // a tile of k gathered from pages, or dequantised
  float* staged_v_;      // likewise
};

}  // namespace tilewise::cpu
