// Backward attention over tiles of keys, written once over an engine: weights are recomputed from lse, d_k and d_v of a
// key tile stay in cache while its queries pass, d_q accumulates in memory.
// Tri Dao et al., "FlashAttention" (2022), Algorithm 4, with the loops of Dao, "FlashAttention-2" (2023).
#pragma once

#include <cstdint>
#include <numeric>

#include "cpu/backward_strips.h"
#include "cpu/kernels.h"
#include "cpu/subnormals.h"
#include "cpu/units.h"

namespace tilewise::cpu {

template <class Engine>
class BackwardKernel {
 public:
  /// Workspace of one task, in floats.
  static std::int64_t workspace_floats(const Shape& shape) {
    return Strips::workspace_floats(shape) + d_k_floats(shape.d_qk) + d_k_floats(shape.d_v);
  }

  static void run(const BackwardTask& task) { BackwardKernel(task).run(); }

 private:
  using Strips = BackwardStrips<Engine>;
  using Head = typename Strips::Head;
  using Block = typename Strips::Block;
  using Tile = typename Strips::Tile;
  static constexpr int kStrip = Strips::kStrip;
  static constexpr int kStrips = Strips::kStrips;
  static constexpr int kKeys = Strips::kKeys;
  static constexpr int kQueries = Strips::kQueries;
  static constexpr int kRows = Engine::kRows, kLeastRows = Engine::kLeastRows;
  static constexpr int kRowStep = std::gcd(kRows, kLeastRows);  // blocks of rows begin at multiples of it
  static_assert(kKeys % kRowStep == 0 && kKeys <= Engine::kTileKeys);

  explicit BackwardKernel(const BackwardTask& task)
      : task_(task),
        shape_(task.shape),
        strips_(shape_, task.workspace),
        d_k_(task.workspace + Strips::workspace_floats(shape_)),
        d_v_(d_k_ + d_k_floats(shape_.d_qk)) {}

  /// Of d_k or d_v of a tile.
  static std::int64_t d_k_floats(int d) { return std::int64_t{kKeys} * Engine::rounded_to_panel(d); }

  void run() {
    for (std::int64_t key = task_.key_begin; key < task_.key_end; key += kKeys) {
      const std::int64_t left = task_.key_end - key;
      key_tile(key, static_cast<int>(left < kKeys ? left : kKeys));
    }
  }

  void key_tile(std::int64_t key, int keys) {
    bool is_begun = false;  // once a query keeps some of it
    for (int head = 0; head < task_.head_count; ++head) {
      const ScoreUnits units = score_units<Engine>(task_.scale, task_.heads[head].score);
      for (std::int64_t query = 0; query < shape_.s_q; query += kQueries) {
        Tile tile{query, key, keys, {}};
        if (!classify(task_.heads[head], &tile)) continue;
        if (!is_begun) begin_keys(key, keys);
        is_begun = true;
        query_block(task_.heads[head], units, tile);
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
    Strips::clear(d_k_, d_k_floats(shape_.d_qk));
    Strips::clear(d_v_, d_k_floats(shape_.d_v));
    strips_.begin_keys(task_.k, task_.v, key, keys);
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

  void query_block(const BackwardHead& head, const ScoreUnits& units, const Tile& tile) {
    const Block block = Head::block(head.prepared, shape_, tile.query);
    if (block.is_odd[0] == Head::kNothingKept) return;  // though the walk could not prove it
    strips_.run(head, units, tile, block);
    accumulate(head, tile, block);
  }

  /// d_k and d_v += those of the tile.
  void accumulate(const BackwardHead& head, const Tile& tile, const Block& block) {
    const FlushedSubnormals<Flushed::results> flushed;
    // From the first kept key on, so that a block of kept keys takes no more rows than it has, wherever it lies.
    int low = tile.keys, high = 0;
    for (const KeySpan& span : tile.spans) {
      if (span.begin >= span.end) continue;
      const int begin = static_cast<int>(span.begin - tile.key), end = static_cast<int>(span.end - tile.key);
      low = begin < low ? begin : low;
      high = end > high ? end : high;
    }
    low -= low % kRowStep;
    if (low + kLeastRows > kKeys) low = kKeys - kLeastRows;
    for (int row = low, rows; row < high; row += rows) {
      rows = rows_of_block(row, high - row);
      const auto keeps = [&](int strip) {  // any of these keys
        const std::int64_t key = tile.key + row;
        return tile.spans[strip].begin < key + rows && tile.spans[strip].end > key;
      };
      for (int strip = 0; strip < kStrips; ++strip) {
        if (!keeps(strip)) continue;
        const int begin = strip * kStrip;
        while (strip + 1 < kStrips && keeps(strip + 1)) ++strip;
        const int end = (strip + 1) * kStrip;
        rows == kRows ? accumulate_rows<kRows>(head, tile, row, begin, end, block)
                      : accumulate_rows<kLeastRows>(head, tile, row, begin, end, block);
      }
    }
  }

  /// Rows of the next block. Two small ones take fewer than a large and a small one where they are all that is left.
  static constexpr int rows_of_block(int row, int left) {
    const bool is_two_small = left > kRows && left <= 2 * kLeastRows;
    return left > kLeastRows && row + kRows <= kKeys && !is_two_small ? kRows : kLeastRows;
  }

  /// d_k and d_v of M keys from `row` on += those of queries [begin, end) of the block.
  template <int M>
  void accumulate_rows(const BackwardHead& head, const Tile& tile, int row, int begin, int end, const Block& block) {
    float* d_v = d_v_ + std::int64_t{row} * Engine::rounded_to_panel(shape_.d_v);
    float* d_k = d_k_ + std::int64_t{row} * Engine::rounded_to_panel(shape_.d_qk);
    const float *weights = strips_.weights(row), *d_scores = strips_.d_scores(row);
    if constexpr (!Strips::kPacks) {
      if (*block.reads_rows != 0) {
        Engine::template accumulate_from_rows<M>(weights, Strips::kRowStride, begin, end, head.d_o, tile.query,
                                                 shape_.d_v, d_v);
        Engine::template accumulate_from_rows<M>(d_scores, Strips::kRowStride, begin, end, head.q, tile.query,
                                                 shape_.d_qk, d_k);
        return;
      }
    }
    Engine::template accumulate_rows<M>(weights, Strips::kRowStride, begin, end, kQueries, block.d_o_right, shape_.d_v,
                                        d_v);
    Engine::template accumulate_rows<M>(d_scores, Strips::kRowStride, begin, end, kQueries, block.q_right, shape_.d_qk,
                                        d_k);
  }

  const BackwardTask& task_;
  const Shape& shape_;
  Strips strips_;
  float* d_k_;  // [kKeys][rounded d_qk], unscaled
  float* d_v_;  // [kKeys][rounded d_v]
};

}  // namespace tilewise::cpu
