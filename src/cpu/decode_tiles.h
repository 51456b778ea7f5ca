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
    int row = 0;            // of a quarter of a tile
    std::int64_t byte = 0;  // of that row
    int owed = 0;           // lines that were due and not asked for yet
  };

 public:
  /// `k_bytes`, `v_bytes`: of a row.
  DecodeTiles(std::int64_t k_bytes, std::int64_t v_bytes)
      : row_bytes_(k_bytes > v_bytes ? k_bytes : v_bytes), v_lines_(static_cast<int>((v_bytes + kLine - 1) / kLine)) {}

  static constexpr std::int64_t kLine = 64;

  int count() const { return counts_[0]; }
  const void* const* k() const { return rows_; }
  const void* const* v() const { return rows_ + kTileKeys; }
  const float* k_scales() const { return scales_; }  // where k has some; else not set
  const float* v_scales() const { return scales_ + kTileKeys; }

  /// Finds the rows of the next tile, keys [begin, end). Without any, those of this tile stand for them.
  template <class K, class V>
  void locate_next(const DecodeTask& task, std::int64_t begin, std::int64_t end, const void* hole) {
    next_ = {&task, begin, end};
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
    for (int i = 0; i < 2 * kTileKeys; ++i) rows_[i] = rows_[2 * kTileKeys + i];
    load(next_.task->k, scales_);
    load(next_.task->v, scales_ + kTileKeys);
    counts_[0] = counts_[1];
    asked_[0] = asked_[1];
    asked_[1] = {};
  }

  /// Asks for the lines of the next tile while this one is used: those of both halves of k and of v in turn. Each lies
  /// in another page of memory, so that the processor's own prefetching, which follows a page as far ahead as its lines
  /// are asked for, has four to follow: on a Xeon (Sapphire Rapids) 18 dot products a line then read 50 GB/s on four
  /// cores and 14.0 on one, where they read 41 and 11.3 asking for one row after the other.
  class Ahead {
   public:
    explicit TILEWISE_INLINE Ahead(DecodeTiles& tiles) : tiles_(tiles), at_(tiles.asked_[1]) {}
    TILEWISE_INLINE ~Ahead() { tiles_.asked_[1] = at_; }
    Ahead(const Ahead&) = delete;
    Ahead& operator=(const Ahead&) = delete;

    template <int kLines>
    TILEWISE_INLINE void touch() {
      for (at_.owed += kLines; at_.owed >= 4; at_.owed -= 4) tiles_.ask(at_, tiles_.rows_ + 2 * kTileKeys);
    }

    /// A part of what a tile's v takes, where no product asks for it.
    void touch_part_of_v(int parts) {
      for (int i = kTileKeys * tiles_.v_lines_ / parts; i > 0; --i) touch<1>();
    }

   private:
    DecodeTiles& tiles_;
    Position at_;
  };

  /// Asks for what nothing has asked for of this tile: of the first one, and of one behind tiles that were passed over,
  /// all.
  void catch_up() {
    while (asked_[0].row < kQuarter) ask(asked_[0], rows_);
  }

 private:
  static constexpr int kQuarter = kTileKeys / 2;  // rows of half of k or v

  /// A line of each quarter of a tile.
  TILEWISE_INLINE void ask(Position& at, const void* const* rows) {
    if (at.row == kQuarter) return;
#pragma GCC unroll 4
    for (int quarter = 0; quarter < 4; ++quarter) {
      __builtin_prefetch(static_cast<const char*>(rows[quarter * kQuarter + at.row]) + at.byte, 0, 2);
    }
    at.byte += kLine;
    if (at.byte < row_bytes_) return;
    at.byte = 0;
    ++at.row;
  }

  template <class Element>
  void locate(const RowSource& source, std::int64_t begin, std::int64_t end, const void* hole, int first) {
    locate_rows<Lanes, Element>(source, begin, end, hole, rows_ + first);
    for (auto i = static_cast<int>(end - begin); i < kTileKeys; ++i) rows_[first + i] = rows_[first];
    ask_for_scales<Lanes>(source, begin, end);
  }

  /// The scales of the next tile, which have been asked for.
  void load(const RowSource& source, float* scales) {
    if (source.scales == nullptr) return;
    load_scales<Lanes>(source, next_.begin, next_.end, scales);
    for (auto i = static_cast<int>(next_.end - next_.begin); i < kTileKeys; ++i) scales[i] = 1;
  }

  // k of this tile, v of it, k of the next, v of that.
  const void* rows_[4 * kTileKeys] = {};
  float scales_[2 * kTileKeys];  // of this tile's k, then v, where these have some
  struct {
    const DecodeTask* task;
    std::int64_t begin, end;
  } next_;
  int counts_[2] = {};
  std::int64_t row_bytes_;  // the longer of k's and v's
  int v_lines_;
  Position asked_[2];  // of this tile and the next, for all before it
};

}  // namespace tilewise::cpu
