// From products q.k to scores, for a block of warps: by a rearranged text (lane_scores.h), which kernels for 16-bit
// inputs read, or by the text as it was recorded.
//
// A kernel's Variant has, as recorded,
//   Arguments                 what the call binds
//   kIsRearranged             false; what a rearranged one has is described in lane_scores.h
//   kChangesScores            whether there are score functions; where not, a full tile's scores are the products
//   kHasSink, sink_logit(arguments, place)
//   Place                     a (sequence, head): see place_of
//   Query, Key                hoisted values: query_values(arguments, place, query_index), key_values(...)
//   full_score, partial_score (arguments, place, query, key, query_index, key_index, s); -inf removes an entry
#pragma once

#include "lane_scores.h"
#include "softmax.h"
#include "stays.h"
#include "walk.h"

namespace tilewise::cuda {

/// The rows and columns of a tile of scores that a lane holds.
struct LanePlace {
  int row, column;  // of its first entry in the block's tile: row block i, half h is row + 16 i + 8 h, and column block
                    // j, element e is column + 8 j + e
  int query, key;   // the indices of that entry
  int key_begin;    // keys in [key_begin, key_end) exist
  int key_end;
};

/// What the diagonals of a tile add to exponents, where their values lie on a line: value + step * n for the n-th.
struct alignas(8) TileLine {
  float value, step;
};

/// Of the tiles that a warp learns of together, a bit each, which are on lines, and on the line of the one before.
struct LinesAhead {
  unsigned are, go_on;
};

/// This thread's number among kThreads that keep values together: those of a warp, or of the whole block.
template <int kThreads>
__device__ inline int own_thread() {
  return kThreads == 32 ? threadIdx.x % 32 : int(threadIdx.x);
}

/// What a variant's values depend on besides the entry, kept in shared memory, and scores made with it: a few are read
/// for each tile that needs them, and none takes a register meanwhile. Tiles of kQueries x kKeys, by kThreads threads.
template <class Variant, int kQueries, int kKeys, int kThreads, bool kIsRearranged = Variant::kIsRearranged>
class TileScores {
 public:
  using Arguments = typename Variant::Arguments;

  /// For the rows from `first_query` on. By all of the threads, which then must meet.
  __device__ void prepare(const Arguments& arguments, const typename Variant::Place& of_head, int first_query) {
    if (own_thread<kThreads>() == 0) place_ = of_head;
    for (int row = own_thread<kThreads>(); row < kQueries; row += kThreads)
      queries_[row] = Variant::query_values(arguments, of_head, first_query + row);
  }
  __device__ const typename Variant::Place& place() const { return place_; }

  /// For a tile of keys, in two steps, between which time may pass; before any warp makes its scores, the threads must
  /// meet.
  struct Made {};
  static constexpr bool kHasDiagonals = false, kKnowsLines = false, kHasSteps = false;
  static constexpr bool kTakesFewRegisters = false;
  __device__ void make_tile(Made&, const Arguments&, int, int) const {}
  __device__ void keep_tile(const Made&, const Arguments&, int, int, int) {}

  /// Turns products of the tile of a stage into scores, and returns the factor that takes them to log2 units.
  /// `kPartial`: entries may be removed or past the ends. `kLooksUp`: what stays is asked for first.
  template <bool kPartial, bool kLooksUp = false, int kRowBlocks, int kKeyBlocks>
  __device__ float apply(Accumulator<kRowBlocks, kKeyBlocks>& s, float scale, const Arguments& arguments,
                         const LanePlace& lane, int) const {
    if constexpr (!kPartial && !Variant::kChangesScores) {
      return scale * kLog2E;
    } else {
      const typename Variant::Place place = place_;
      typename Variant::Query query[kRowBlocks][2];
#pragma unroll
      for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) query[i][half] = queries_[lane.row + 16 * i + 8 * half];
      }
#pragma unroll
      for (int j = 0; j < kKeyBlocks; ++j) {
#pragma unroll
        for (int column = 0; column < 2; ++column) {
          const int key_index = lane.key + 8 * j + column;
          const auto key = Variant::key_values(arguments, place, key_index);
          const bool exists = !kPartial || (key_index >= lane.key_begin && key_index < lane.key_end);
#pragma unroll
          for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              float& x = s.x[i][j][2 * half + column];
              const int query_index = lane.query + 16 * i + 8 * half;
              const float score = scale * x;
              if constexpr (kPartial) {
                x = exists
                        ? Variant::partial_score(arguments, place, query[i][half], key, query_index, key_index, score)
                        : -infinity();
              } else {
                x = Variant::full_score(arguments, place, query[i][half], key, query_index, key_index, score);
              }
            }
          }
        }
      }
      return kLog2E;
    }
  }

 private:
  typename Variant::Place place_;
  typename Variant::Query queries_[kQueries];
};

/// By a rearranged text. Where `kPartial` is false scores are not clamped: no base may be below kLeastFreeBase.
template <class Variant, int kQueries, int kKeys, int kThreads>
class TileScores<Variant, kQueries, kKeys, kThreads, true> {
 public:
  using Arguments = typename Variant::Arguments;

  __device__ void prepare(const Arguments& arguments, const typename Variant::Place& of_head, int first_query) {
    if (own_thread<kThreads>() == 0) place_ = of_head;
    values_.make_queries(arguments, of_head, 0, first_query);
  }
  __device__ const typename Variant::Place& place() const { return place_; }

  using Values = KeptValues<Variant, kQueries, kKeys, 1, 2, 2, kThreads, true>;
  static constexpr bool kHasDiagonals = Variant::kChangesScores && Variant::kDiagonalFields > 0;
  /// Tiles whose diagonals lie on a line; where its step may be other than 0.
  static constexpr bool kKnowsLines = Values::kKeepsDiagonals && (Variant::kMayBeSteady || Variant::kMayBeLinear);
  static constexpr bool kHasSteps = kKnowsLines && Variant::kMayBeLinear;
  /// What is kept, and what removes entries: no mask does, and no table is read by what was read of another.
  static constexpr bool kTakesFewRegisters = !Variant::kHasMask && Variant::kDiagonalReads < 2;
  /// In two steps where most tiles want it: registers are short.
  using Made = typename Values::Made;
  static constexpr bool kInSteps = Made::kAny && !kKnowsLines;
  __device__ void make_tile(Made& made, const Arguments& arguments, int first_query, int first_key) const {
    if constexpr (kInSteps) values_.make(made, arguments, place_, first_query, first_key);
  }
  /// Of two tiles at a time, in the stages 0 and 1.
  __device__ void keep_tile(const Made& made, const Arguments& arguments, int first_query, int first_key, int stage) {
    if constexpr (kInSteps) {
      values_.keep(made, stage);
    } else {
      values_.make_keys(arguments, place_, stage, first_key);
      values_.make_diagonals(arguments, place_, stage, first_query, first_key);
    }
    if constexpr (kThreads == 32) __syncwarp();
  }

  template <bool kPartial, bool kLooksUp = false, int kRowBlocks, int kKeyBlocks>
  __device__ float apply(Accumulator<kRowBlocks, kKeyBlocks>& s, float scale, const Arguments& arguments,
                         const LanePlace& place, int stage) const {
    const float factor = scale * kLog2E;
    if constexpr (!kPartial && !Variant::kChangesScores) {
      return factor;
    } else if constexpr (kLooksUp && !Variant::kChangesScores) {
      remove(s, factor, arguments, place, stage);
      return 1;
    } else {
      const Lane lane(arguments, place_, values_, 0, stage, stage, place.query - place.row, place.key - place.column,
                      place.row, place.column);
#pragma unroll
      for (int j = 0; j < kKeyBlocks; ++j) {
#pragma unroll
        for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int query = 16 * i + e / 2 * 8, key = 8 * j + e % 2;
            float& x = s.x[i][j][e];
            if constexpr (kPartial) {
              float exponent = factor * x;
              if constexpr (Variant::kChangesScores) exponent = Lane::clamped(lane.score(query, key, x)) * kLog2E;
              const int index = place.key + key;
              // No short cuts: a branch for each would cost more.
              const bool stays = (index >= place.key_begin) & (index < place.key_end) & lane.keeps(query, key);
              x = stays ? exponent : -infinity();
            } else {
              x = lane.exponent(query, key, x, 0);
            }
          }
        }
      }
      return 1;
    }
  }

  /// So many tiles a warp learns of together, a lane of one: from the visit `number` of a walk on, a multiple of that.
  static constexpr int kAhead = 32;
  template <class Walk>
  __device__ LinesAhead look_ahead(const Walk& walk, int number, const Arguments& arguments, int first_query) {
    const int lane = threadIdx.x % 32;
    const Visit visit = walk.visit(::min(number + lane, walk.count() - 1));
    const int least = first_query - (visit.tile() * kKeys + kKeys - 1);
    const auto found = Variant::steady_value(arguments, place_, least, least + kQueries + kKeys - 2);
    const bool is_known = kHasSteps ? found.is_line() : found.is_known;
    __syncwarp();  // all have read the last of the tiles before
    lines_[lane] = {found.value, found.step};
    __syncwarp();
    const unsigned are = __ballot_sync(~0u, is_known);
    if constexpr (kHasSteps) return {are, 0};
    const int value = __float_as_int(found.value), before = __shfl_sync(~0u, value, (lane + 31) % 32);
    return {are, are & are << 1 & __ballot_sync(~0u, value == before)};
  }
  __device__ TileLine line(int number) const { return lines_[number % kAhead]; }
  __device__ float factor(const Arguments& arguments) const { return Variant::factor(arguments, place_); }

  /// Makes what a tile on a line does without.
  __device__ void complete_tile(const Arguments& arguments, int first_query, int first_key, int stage) {
    values_.make_keys(arguments, place_, stage, first_key);
    values_.make_diagonals(arguments, place_, stage, first_query, first_key);
    __syncwarp();
  }

  /// Rows' bases, for when lines are taken off those in registers, which have no room for both.
  template <int kRowBlocks>
  __device__ void keep_bases(const RowStatistics<kRowBlocks>& rows) {
    for_each_row<kRowBlocks>([&](int i, int half) { bases_[i][half][threadIdx.x % 32] = rows.base[i][half]; });
  }
  template <int kRowBlocks>
  __device__ void take_bases_back(RowStatistics<kRowBlocks>& rows) const {
    for_each_row<kRowBlocks>([&](int i, int half) { rows.base[i][half] = bases_[i][half][threadIdx.x % 32]; });
  }

  /// Takes off rows' bases what the line gives the lane's first entry in a row: an entry `key` further on has
  /// step * key less.
  template <int kRowBlocks>
  __device__ void take_line(RowStatistics<kRowBlocks>& rows, const Arguments& arguments, const LanePlace& place,
                            const TileLine& line) const {
    const Lane lane(arguments, place_, values_, 0, 0, 0, place.query - place.row, place.key - place.column, place.row,
                    place.column);
    float value = line.value;
    if constexpr (kHasSteps) value = fmaf(line.step, static_cast<float>(place.row - place.column + kKeys - 1), value);
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const auto query = lane.query_at(16 * i + 8 * half);
        rows.base[i][half] -= Variant::of_query(arguments, place_, query) + value;
        if (kHasSteps && i + half > 0)
          rows.base[i][half] = fmaf(line.step, -(16.0f * i + 8 * half), rows.base[i][half]);
      }
    }
  }

  /// Products of a tile on a line turned into what exponents are factor() times of, but for the line.
  template <int kRowBlocks, int kKeyBlocks>
  __device__ void apply_on_line(Accumulator<kRowBlocks, kKeyBlocks>& s, const Arguments& arguments,
                                const LanePlace& place) const {
    const Lane lane(arguments, place_, values_, 0, 0, 0, place.query - place.row, place.key - place.column, place.row,
                    place.column);
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const auto query = lane.query_at(16 * i + 8 * half);
#pragma unroll
        for (int j = 0; j < kKeyBlocks; ++j) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float& x = s.x[i][j][2 * half + e];
            x = Variant::value(arguments, place_, query, x);
          }
        }
      }
    }
  }

 private:
  using Lane = LaneScores<Variant, Values, kKeys>;

  template <int kRowBlocks, class Use>
  __device__ static void for_each_row(const Use& use) {
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) use(i, 0), use(i, 1);
  }

  /// Products of a cut tile turned into exponents: first what stays is asked for, as bits, then all is made at once.
  template <int kRowBlocks, int kKeyBlocks>
  __device__ void remove(Accumulator<kRowBlocks, kKeyBlocks>& s, float factor, const Arguments& arguments,
                         const LanePlace& place, int stage) const {
    Stays<kKeys> stays[kRowBlocks];
    look_up(stays, arguments, place, stage);
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
      stays[i].remove_outside(threadIdx.x % 32, place.key_begin - (place.key - place.column),
                              place.key_end - (place.key - place.column));
#pragma unroll
      for (int j = 0; j < kKeyBlocks; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) s.x[i][j][e] = stays[i].keeps(j, e) ? factor * s.x[i][j][e] : -infinity();
      }
    }
  }

  /// Once for each diagonal of a mask that follows them. Of others for each entry, not all in one text, which spills.
  template <int kRowBlocks>
  __device__ void look_up(Stays<kKeys> (&stays)[kRowBlocks], const Arguments& arguments, const LanePlace& place,
                          int stage) const {
    if constexpr (Variant::kFollowsDiagonals) {
      const int lane = threadIdx.x % 32, first_key = place.key - place.column;
#pragma unroll
      for (int i = 0; i < kRowBlocks; ++i) {
        const int first_query = place.query - lane / 4 + 16 * i;
        stays[i] = stays_along_diagonals<kKeys>(lane, [&](int query, int key) {
          const int query_index = first_query + query, key_index = first_key + key;
          return Variant::keeps(arguments, place_, Variant::query_values(arguments, place_, query_index),
                                Variant::key_values(arguments, place_, key_index),
                                Variant::diagonal_values(arguments, place_, query_index - key_index), query_index,
                                key_index, 0);
        });
      }
    } else {
      const Lane lane(arguments, place_, values_, 0, stage, stage, place.query - place.row, place.key - place.column,
                      place.row, place.column);
#pragma unroll
      for (int i = 0; i < kRowBlocks; ++i) stays[i] = {{0, 0}};
#pragma unroll 1
      for (int e = 0; e < 4; ++e) {
#pragma unroll
        for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
          for (int j = 0; j < kKeys / 8; ++j) stays[i].set(j, e, lane.keeps(16 * i + e / 2 * 8, 8 * j + e % 2));
        }
      }
    }
  }

  typename Variant::Place place_;
  Values values_;
  TileLine lines_[kKnowsLines ? kAhead : 1];
  // Of each lane. Volatile, since the compiler would keep them in registers as well.
  volatile float bases_[kKnowsLines ? kQueries / 16 : 1][2][kKnowsLines ? 32 : 1];
};

}  // namespace tilewise::cuda
