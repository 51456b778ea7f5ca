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
  static constexpr int kRowsOfTile = 2 * kTileKeys;
  static_assert((kRowsOfTile & (kRowsOfTile - 1)) == 0);

  struct Position {
    int row = -1;        // the first behind the run, from this tile's first
    int lines_left = 0;  // of the run
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
  static constexpr int kMirrored = 32;

  int count() const { return count_; }
  // Behind a tile's k stand its v, behind these the first kMirrored rows of the next tile's k.
  const void* const* k() const { return rows_ + now_; }
  const void* const* v() const { return rows_ + now_ + kTileKeys; }
  const float* k_scales() const { return k_scales_; }  // of sources that have them
  const float* v_scales() const { return v_scales_; }

  /// Finds the rows of the next tile, keys [begin, end). Without any, those of this tile stand for them. `task` is to
  /// outlive advance().
  template <class K, class V>
  void locate_next(const DecodeTask& task, std::int64_t begin, std::int64_t end, const void* hole) {
    const int next = now_ ^ kRowsOfTile;
    next_ = {&task, begin, end};
    if (begin >= end) {
      for (int i = 0; i < kRowsOfTile; ++i) {
        rows_[next + i] = rows_[now_];
        runs_[next + i] = 1;
      }
    } else {
      locate<K>(task.k, begin, end, hole, next, k_lines_);
      locate<V>(task.v, begin, end, hole, next + kTileKeys, v_lines_);
      if (task.k.scales != nullptr) prefetch_scales<Lanes>(task.k, begin, end);
      if (task.v.scales != nullptr) prefetch_scales<Lanes>(task.v, begin, end);
    }
    if (next == 0) {
      for (int i = 0; i < kMirrored; ++i) rows_[2 * kRowsOfTile + i] = rows_[i];
    }
  }

  /// Makes the next tile this one. Its scales are read here, a tile's computation after they were asked for.
  void advance() {
    now_ ^= kRowsOfTile;
    asked_.row -= kRowsOfTile;
    count_ = static_cast<int>(next_.end - next_.begin);
    if (count_ <= 0) return;
    take_scales(next_.task->k, k_scales_);
    take_scales(next_.task->v, v_scales_);
  }

  /// Asks for lines of memory in the order in which rows are needed, all k of a tile, all v of it, all k of the next,
  /// and of each row from the first byte to the last, whatever the order of the computation between the calls. Rows
  /// that follow each other without a gap are one run: a check for each line would cost more than the request.
  class Ahead {
   public:
    explicit TILEWISE_INLINE Ahead(DecodeTiles& tiles) : tiles_(tiles), at_(tiles.asked_) {}
    TILEWISE_INLINE ~Ahead() { tiles_.asked_ = at_; }
    Ahead(const Ahead&) = delete;
    Ahead& operator=(const Ahead&) = delete;

    template <int kLines>
    TILEWISE_INLINE void touch() {
      if (at_.lines_left >= kLines) return touch_run<kLines>();
      for (int i = 0; i < kLines; ++i) {
        if (at_.lines_left == 0) enter(at_.row);
        touch_run<1>();
      }
    }

    /// A part of what a tile's v takes, where no product asks for it.
    void touch_part_of_v(int parts) {
      for (int i = kTileKeys * tiles_.v_lines_ / parts; i > 0; --i) touch<1>();
    }

    /// At the beginning of a tile: up to the full distance, if that is not so far away already.
    void catch_up() {
      if (at_.row < 0) at_ = {0, 0, nullptr};  // the first tile, or one behind tiles that were passed over
      while (at_.row - at_.lines_left / lines_of(at_.row - 1) < tiles_.ahead_) touch<1>();
    }

   private:
    static constexpr int kLast = 2 * kRowsOfTile - 1;

    template <int kLines>
    TILEWISE_INLINE void touch_run() {
#pragma GCC unroll 8
      for (int i = 0; i < kLines; ++i) __builtin_prefetch(at_.line + i * kLine, 0, 2);
      at_.line += kLines * kLine;
      at_.lines_left -= kLines;
    }

    TILEWISE_INLINE int lines_of(int row) const { return row / kTileKeys % 2 == 0 ? tiles_.k_lines_ : tiles_.v_lines_; }

    // Inlined: a call would take every sum of the products around it through memory.
    TILEWISE_INLINE void enter(int row) {
      row = row < kLast ? row : kLast;
      const int at = (tiles_.now_ + row) & kLast;
      at_ = {row + tiles_.runs_[at], tiles_.runs_[at] * lines_of(row), static_cast<const char*>(tiles_.rows_[at])};
    }

    DecodeTiles& tiles_;
    Position at_;
  };

 private:
  template <class Element>
  void locate(const RowSource& source, std::int64_t begin, std::int64_t end, const void* hole, int first, int lines) {
    const void** rows = rows_ + first;
    locate_rows<Lanes, Element>(source, begin, end, hole, rows);
    const auto count = static_cast<int>(end - begin);
    for (int i = count; i < kTileKeys; ++i) rows[i] = rows[0];
    // Pages lie in any order, and holes share a row.
    const bool follow = source.rows.stride * static_cast<std::int64_t>(sizeof(Element)) == lines * kLine;
    int at = first;
    const auto add_run = [&](int length, bool is_run) {
      if (is_run) {
        runs_[at] = static_cast<std::int16_t>(length);
        at += length;
      } else {
        for (const int run_end = at + length; at < run_end; ++at) runs_[at] = 1;
      }
    };
    if (source.block_table == nullptr) {
      add_run(count, follow);
    } else {
      for_each_page(source, begin, end, [&](std::int64_t, std::int64_t length, std::int64_t page) {
        add_run(static_cast<int>(length), follow && page >= 0);
      });
    }
    while (at < first + kTileKeys) runs_[at++] = 1;
    if (count > 1) runs_[first + kTileKeys - 1] = 1;  // where requests that reach too far end
  }

  void take_scales(const RowSource& source, float* scales) const {
    if (source.scales == nullptr) return;
    copy_scales<Lanes>(source, next_.begin, next_.end, scales);
    for (int i = count_; i < kTileKeys; ++i) scales[i] = 1;
  }

  struct Keys {
    const DecodeTask* task = nullptr;
    std::int64_t begin = 0, end = 0;
  };

  // k and v of this tile and of the next, in turns, and the first rows again.
  const void* rows_[2 * kRowsOfTile + kMirrored] = {};
  std::int16_t runs_[2 * kRowsOfTile] = {};  // of a run's first row: how many there are; of a tile's last, 1
  float k_scales_[kTileKeys], v_scales_[kTileKeys];
  int now_ = 0;  // the first of this tile's rows
  int count_ = 0;
  Keys next_;
  int k_lines_, v_lines_;
  int ahead_;       // rows
  Position asked_;  // for all before it
};

}  // namespace tilewise::cpu
