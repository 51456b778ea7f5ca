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
  /// How far requests for a tile have come.
  struct Position {
    int row = 0;                 // of a quarter
    int owed = 0;                // lines that were due and not asked for yet
    std::int64_t byte = 0;       // of the row
    const void* const* rows[4];  // of each quarter
  };

  /// Of a tile's rows of k or v.
  struct Runs {
    template <class Element>
    void locate(const RowSource& rows_source, std::int64_t begin, std::int64_t end, const void* hole,
                const void** rows) {
      source = &rows_source;
      count = find_runs(*source, begin, end, runs);
      locate_rows<Lanes, Element>(*source, runs, count, hole, rows);
      for (std::int64_t i = end - begin; i < kTileKeys; ++i) rows[i] = rows[0];
      ask_for_scales<Lanes>(*source, runs, count);
    }

    /// Of that many rows, once they have been asked for.
    void load_scales(int row_count, float* scales) const {
      if (source->scales == nullptr) return;
      cpu::load_scales<Lanes>(*source, runs, count, scales);
      for (int i = row_count; i < kTileKeys; ++i) scales[i] = 1;
    }

    const RowSource* source;
    int count;
    RowRun runs[kTileKeys];
  };

 public:
  /// `k_bytes`, `v_bytes`: of a row.
  DecodeTiles(std::int64_t k_bytes, std::int64_t v_bytes)
      : row_bytes_(k_bytes > v_bytes ? k_bytes : v_bytes), v_lines_(static_cast<int>((v_bytes + kLine - 1) / kLine)) {
    while (step_ * 2 * row_bytes_ <= kPage / 4 && step_ < kQuarter / 4) step_ *= 2;
  }

  static constexpr std::int64_t kLine = 64;

  int count() const { return counts_[0]; }
  const void* const* k() const { return rows_; }
  const void* const* v() const { return rows_ + kTileKeys; }
  const float* k_scales() const { return scales_; }  // where k has some; else not set
  const float* v_scales() const { return scales_ + kTileKeys; }

  /// Finds the rows of the next tile, keys [begin, end). Without any, those of this tile stand for them.
  template <class K, class V>
  void locate_next(const DecodeTask& task, std::int64_t begin, std::int64_t end, const void* hole) {
    counts_[1] = static_cast<int>(end > begin ? end - begin : 0);
    if (counts_[1] == 0) {
      for (int i = 0; i < 2 * kTileKeys; ++i) rows_[2 * kTileKeys + i] = rows_[0];
      return;
    }
    next_[0].template locate<K>(task.k, begin, end, hole, rows_ + 2 * kTileKeys);
    next_[1].template locate<V>(task.v, begin, end, hole, rows_ + 3 * kTileKeys);
  }

  /// Makes the next tile this one.
  void advance() {
    for (int i = 0; i < 2 * kTileKeys; ++i) rows_[i] = rows_[2 * kTileKeys + i];
    counts_[0] = counts_[1];
    next_[0].load_scales(counts_[0], scales_);
    next_[1].load_scales(counts_[0], scales_ + kTileKeys);
    asked_rows_ = next_position_.row;
    next_position_ = {};
    find_rows(next_position_);
  }

  /// Asks for the lines of the next tile while this one is used: those of both halves of k and of v in turn. Each lies
  /// in another page of memory, so that the processor's own prefetching, which follows a page as far ahead as its lines
  /// are asked for, has four to follow: on a Xeon (Sapphire Rapids) 18 dot products a line then read 50 GB/s on four
  /// cores and 14.0 on one, where they read 41 and 11.3 asking for one row after the other. It has to find each page
  /// anew, so the quarters end theirs a quarter of a page after each other, at which 16 sequences of int8 are decoded
  /// at 1.02 of the rate, bfloat16 at 1.03: the last rows of a quarter are asked for when its tile is in use.
  class Ahead {
   public:
    explicit TILEWISE_INLINE Ahead(DecodeTiles& tiles) : tiles_(tiles), at_(tiles.next_position_) {}

    template <int kLines>
    TILEWISE_INLINE void touch() {
      for (at_.owed += kLines; at_.owed >= 4; at_.owed -= 4) tiles_.ask(at_);
    }

    /// A part of what a tile's v takes, where no product asks for it.
    void touch_part_of_v(int parts) {
      for (int i = kTileKeys * tiles_.v_lines_ / parts; i > 0; --i) touch<1>();
    }

   private:
    DecodeTiles& tiles_;
    Position& at_;
  };

  /// Asks for what nothing has asked for of this tile: of the first one, and of one behind tiles that were passed over,
  /// all.
  void catch_up() {
    for (int row = asked_rows_; row < kQuarter; ++row) {
      for (std::int64_t byte = 0; byte < row_bytes_; byte += kLine) {
        for (int quarter = 0; quarter < 4; ++quarter) ask(rows_[quarter * kQuarter + row], byte);
      }
    }
  }

 private:
  static constexpr int kQuarter = kTileKeys / 2;  // rows of half of k or v
  static constexpr std::int64_t kPage = 4096;
  // Tile registers load 16 lines at once, which wait less in L1.
  static constexpr int kLocality = requires { typename Lanes::Registers; }
  ? 3 : 2;

  static TILEWISE_INLINE void ask(const void* row, std::int64_t byte) {
    __builtin_prefetch(static_cast<const char*>(row) + byte, 0, kLocality);
  }

  /// Asks for a line of each quarter.
  TILEWISE_INLINE void ask(Position& at) {
    if (at.row == kQuarter) return;
#pragma GCC unroll 4
    for (int quarter = 0; quarter < 4; ++quarter) ask(at.rows[quarter][at.row], at.byte);
    at.byte += kLine;
    if (at.byte < row_bytes_) return;
    at.byte = 0;
    if (++at.row % step_ == 0) find_rows(at);
  }

  /// Quarter i is i steps behind: of as many rows, it is still in this tile.
  TILEWISE_INLINE void find_rows(Position& at) {
#pragma GCC unroll 4
    for (int quarter = 0; quarter < 4; ++quarter) {
      const int behind = quarter * step_;
      at.rows[quarter] = rows_ + quarter * kQuarter - behind + (at.row < behind ? kQuarter : 2 * kTileKeys);
    }
  }

  // k of this tile, v of it, k of the next, v of that.
  const void* rows_[4 * kTileKeys] = {};
  float scales_[2 * kTileKeys];  // of this tile's k, then v, where these have some
  Runs next_[2];                 // k's and v's of the next tile
  int counts_[2] = {};
  std::int64_t row_bytes_;  // the longer of k's and v's
  int v_lines_;
  int step_ = 1;        // a power of two, at most an eighth of a tile: rows of a quarter of a page
  int asked_rows_ = 0;  // of a quarter of this tile, for the tile before it
  Position next_position_;
};

}  // namespace tilewise::cpu
