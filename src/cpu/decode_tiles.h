// The rows of k and v that decoding reads: where they lie, tile by tile, and asking for them ahead of their use.
#pragma once

#include <cstdint>

#include "cpu/block.h"
#include "cpu/kernels.h"
#include "cpu/row_source.h"

namespace tilewise::cpu {

/// Where the rows of a tile of keys lie, and those of the tile after it. Behind the last key of a shorter tile, the
/// first row stands again. Lanes only keeps each instruction set's copy in its own object file.
template <class Lanes, int kTileKeys>
class DecodeTiles {
  struct Position {
    int row = -1;  // of rows_
    int lines_left = 0;
    const char* line = nullptr;
  };

 public:
  /// `k_bytes`, `v_bytes`: of a row. `ahead_bytes`: how far ahead of its use memory is asked for.
  DecodeTiles(std::int64_t k_bytes, std::int64_t v_bytes, std::int64_t ahead_bytes)
      : k_lines_(static_cast<int>((k_bytes + kLine - 1) / kLine)),
        v_lines_(static_cast<int>((v_bytes + kLine - 1) / kLine)) {
    const std::int64_t rows = ahead_bytes / (k_bytes > v_bytes ? k_bytes : v_bytes);
    // Beyond the last row of this tile, so far the next reaches.
    constexpr std::int64_t kMost = 2 * kTileKeys - 1;
    ahead_ = static_cast<int>(rows < 1 ? 1 : rows < kMost ? rows : kMost);
  }

  static constexpr std::int64_t kLine = 64;

  int count() const { return counts_[0]; }
  const void* const* k() const { return rows_; }
  const void* const* v() const { return rows_ + kTileKeys; }
  const float* k_scales() const { return scales_; }  // 1 where there are none
  const float* v_scales() const { return scales_ + kTileKeys; }

  /// Finds the rows of the next tile, keys [begin, end). Without any, those of this tile stand for them.
  template <class K, class V>
  void locate_next(const DecodeTask& task, std::int64_t begin, std::int64_t end, const void* hole) {
    if (begin >= end) {
      counts_[1] = 0;
      for (int i = 0; i < 2 * kTileKeys; ++i) rows_[2 * kTileKeys + i] = rows_[0];
      return;
    }
    counts_[1] = static_cast<int>(end - begin);
    locate<K>(task.k, begin, end, hole, 2 * kTileKeys);
    locate<V>(task.v, begin, end, hole, 3 * kTileKeys);
  }

  /// Makes the next tile this one.
  void advance() {
    for (int i = 0; i < 2 * kTileKeys; ++i) {
      rows_[i] = rows_[2 * kTileKeys + i];
      scales_[i] = scales_[2 * kTileKeys + i];
    }
    counts_[0] = counts_[1];
    asked_.row -= 2 * kTileKeys;
  }

  /// Asks for lines of memory in the order in which rows are needed, all k of a tile, all v of it, all k of the next,
  /// and of each row from the first byte to the last, whatever the order of the computation between the calls.
  class Ahead {
   public:
    explicit TILEWISE_INLINE Ahead(DecodeTiles& tiles) : tiles_(tiles), at_(tiles.asked_) {}
    TILEWISE_INLINE ~Ahead() { tiles_.asked_ = at_; }
    Ahead(const Ahead&) = delete;
    Ahead& operator=(const Ahead&) = delete;

    template <int kLines>
    TILEWISE_INLINE void touch() {
#pragma GCC unroll 4
      for (int i = 0; i < kLines; ++i) {
        __builtin_prefetch(at_.line, 0, 2);
        at_.line += kLine;
        if (--at_.lines_left == 0) enter(at_.row < kLast ? at_.row + 1 : kLast);
      }
    }

    /// A part of what a tile's v takes, where no product asks for it.
    void touch_part_of_v(int parts) {
      for (int i = kTileKeys * tiles_.v_lines_ / parts; i > 0; --i) touch<1>();
    }

    /// At the beginning of a tile: up to the full distance, if that is not so far away already.
    void catch_up() {
      if (at_.row < 0) enter(0);  // the first tile, or one behind tiles that were passed over
      while (at_.row < tiles_.ahead_) touch<1>();
    }

   private:
    static constexpr int kLast = 4 * kTileKeys - 1;

    TILEWISE_INLINE void enter(int row) {
      at_.row = row;
      at_.line = static_cast<const char*>(tiles_.rows_[row]);
      at_.lines_left = row / kTileKeys % 2 == 0 ? tiles_.k_lines_ : tiles_.v_lines_;
    }

    DecodeTiles& tiles_;
    Position at_;
  };

 private:
  template <class Element>
  void locate(const RowSource& source, std::int64_t begin, std::int64_t end, const void* hole, int first) {
    locate_rows<Lanes, Element>(source, begin, end, hole, rows_ + first, scales_ + first);
    for (auto i = static_cast<int>(end - begin); i < kTileKeys; ++i) {
      rows_[first + i] = rows_[first];
      scales_[first + i] = 1;
    }
  }

  // k of this tile, v of it, k of the next, v of that.
  const void* rows_[4 * kTileKeys] = {};
  float scales_[4 * kTileKeys];
  int counts_[2] = {};
  int k_lines_, v_lines_;
  int ahead_;       // rows
  Position asked_;  // for all before it
};

}  // namespace tilewise::cpu
