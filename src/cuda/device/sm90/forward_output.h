// What becomes of a consumer's sums when a piece of work is done.
#pragma once

#include "sm90/forward_shared.h"
#include "sm90/store.h"
#include "softmax.h"

namespace tilewise::cuda::sm90 {

template <class Config, class Variant>
class ForwardOutput : public ForwardShared<Config, Variant> {
  using Shared = ForwardShared<Config, Variant>;

 public:
  using Shared::Shared;

 protected:
  using Shared::arguments_, Shared::call_, Shared::variant_;
  using Shared::kColumnsV, Shared::kQueryStages, Shared::kQueryTile, Shared::told, Shared::told_empty;
  using typename Shared::OutputElement;
  using typename Shared::Told;
  using Output = Accumulator<1, kColumnsV / 8>;

  __device__ static bool is_first_lane() { return threadIdx.x % 32 == 0; }

  /// A piece of work of a consumer.
  struct Piece {
    int consumer;
    unsigned number;

    /// Which 64 of its queries. Of a causal mask's tiles the last ones have most.
    __device__ int part() const {
      return Config::kEndsWithQueries ? int((consumer + number) % Shared::kConsumers) : consumer;
    }

    __device__ Turn<Shared::kToldStages> turn() const { return {number}; }
    __device__ Turn<kQueryStages> query_turn() const { return {number}; }
    __device__ int parity() const { return number % 2; }
  };
  __device__ const Told& place_of(const Piece& piece) const { return told(piece.turn().stage()); }
  __device__ int first_query(const Piece& piece) const {
    return Shared::first_query_of(place_of(piece)) + 64 * piece.part();
  }
  __device__ void release(const Piece& piece) const {
    __syncwarp();
    told_empty(piece.turn().stage()).arrive_if(is_first_lane());
  }

  /// What turns the sums of a thread's two rows into outputs.
  struct Multipliers {
    float of[2];
  };
  /// Divides by the sums, with the sink's part, and writes o and lse. Then the piece is done with.
  __device__ void finish(const Piece& piece, const Output& o, const RowStatistics<1>& rows) const {
    finish(piece, o, close_rows(piece, thread_read_anew() % 128, rows));
  }
  /// Likewise where that is all that is left to be done.
  __device__ void finish(const Piece& piece, const Output& o, const Multipliers& multipliers) const {
    // Read anew: what follows from it would be kept in registers through all tiles.
    const int thread = thread_read_anew() % 128;
    const bool is_whole = uniform(first_query(piece) + thread / 32 * 16 + 16 <= place_of(piece).shape.queries) != 0;
    if (Shared::kStagesOutput && is_whole) {
      store_by_copies(piece, thread, o, multipliers);
    } else {
      store_directly(piece, thread, o, multipliers);
    }
    release(piece);
  }

  /// A number that all of a warp have, as copies take it: of lanes' own the assembler asks in a loop which they are.
  /// With score functions that orders their entries anew, which was not timed.
  __device__ static int of_warp(int x) { return Variant::kChangesScores ? x : uniform(x); }

  /// A warp's 16 rows, by way of shared memory.
  __device__ void store_by_copies(const Piece& piece, int thread, const Output& o,
                                  const Multipliers& multipliers) const {
    const Work& work = place_of(piece).work;
    const int first = of_warp(first_query(piece) + token_of(piece) + thread / 32 * 16);
    const int lane = thread % 32, row = of_warp(64 * piece.consumer + thread / 32 * 16);
    const auto tile = this->output_tile();
    wait_for_copies();  // of the piece before, long since
    __syncwarp();
    stage_rows<OutputElement>(tile, row, o, multipliers.of);
    publish_writes();
    __syncwarp();
    if (lane == 0) {
      const Rows out{&call_.o, arguments_.queries_packed ? 0 : work.sequence, work.head};
#pragma unroll 1
      for (int chunk = 0; chunk < tile.kChunks; ++chunk) {
        out.start_back(tile.chunk(chunk) + row * 128, 64 * chunk, first);
      }
      commit_copies();
    }
  }

  __device__ void store_directly(const Piece& piece, int thread, const Output& o,
                                 const Multipliers& multipliers) const {
    const Told& place = place_of(piece);
    const TensorView& view = arguments_.o;
    OutputElement* const out = static_cast<OutputElement*>(view.data) + place.work.sequence * view.batch +
                               place.work.head * view.head + token_of(piece) * view.row;
    store_rows<Config::kHeadV>(out, view.row, query_of(piece, thread), place.shape.queries, o, multipliers.of);
  }

  __device__ int token_of(const Piece& piece) const {
    return arguments_.queries_packed ? place_of(piece).shape.query_token : 0;
  }
  /// The index of a thread's first query.
  __device__ int query_of(const Piece& piece, int thread) const {
    return first_query(piece) + thread / 32 * 16 + thread % 32 / 4;
  }

  /// Writes lse of the thread's two rows and returns what turns their sums into outputs.
  __device__ Multipliers close_rows(const Piece& piece, int thread, const RowStatistics<1>& rows) const {
    const Told& place = place_of(piece);
    const TensorView& view = arguments_.lse;
    Multipliers multipliers;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float base = rows.base[0][half], sum = sum_of_row(rows.sum[0][half]), multiplier = 1;
      if constexpr (Variant::kHasSink) {
        const float sink = Variant::sink_logit(variant_, place.variant) * kLog2E;
        const float joint = fmaxf(base, sink);
        multiplier = exp2_of(base - joint);
        sum = sum * multiplier + exp2_of(sink - joint);
        base = joint;
      }
      const int query = query_of(piece, thread) + 8 * half;
      if (view.data != nullptr && query < place.shape.queries && thread % 4 == 0) {
        static_cast<float*>(view.data)[place.work.sequence * view.batch + place.work.head * view.head +
                                       (query + token_of(piece)) * view.row] = (base + log2f(sum)) * kLn2;
      }
      if constexpr (Config::kHasDropout) multiplier *= arguments_.dropout.scale;
      multipliers.of[half] = sum == 0 ? 0 : multiplier * reciprocal_of(sum);
    }
    return multipliers;
  }
};

}  // namespace tilewise::cuda::sm90
