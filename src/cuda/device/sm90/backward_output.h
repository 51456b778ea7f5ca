// What leaves the consumers of the backward kernels: d_s for each other, and their sums.
#pragma once

#include "sm90/backward_shared.h"
#include "sm90/store.h"

namespace tilewise::cuda::sm90 {

template <class Config, class Variant>
class BackwardOutput : public BackwardShared<Config, Variant> {
  using Shared = BackwardShared<Config, Variant>;

 public:
  using Shared::Shared;

 protected:
  using Shared::arguments_, Shared::call_, Shared::score_tile, Shared::kv_head, Shared::sequence;
  using Shared::kColumnsQk, Shared::kColumnsV, Shared::kQueries;
  using typename Shared::Element;
  using typename Shared::OrderedTurn;
  using typename Shared::ScoreTile;
  using typename Shared::Sizes;

  using Scores = Accumulator<1, kQueries / 8>;      // [keys, queries]
  using KeySums = Accumulator<1, kColumnsQk / 8>;   // d_k
  using ValueSums = Accumulator<1, kColumnsV / 8>;  // d_v
  using Fragments = LeftFragment[kQueries / 16];    // of scores

  __device__ static int lane() { return threadIdx.x % 32; }
  __device__ static int thread() { return threadIdx.x % 128; }
  /// Beside keys and values in registers, and what scores keep, a thread's number that is kept for later would spill.
  static constexpr bool kReadsThread = Shared::kKeysInRegisters && Variant::kChangesScores;
  __device__ static int warp_row() { return threadIdx.x / 32 % 4 * 16; }  // in the consumer's 64 keys
  __device__ static bool is_first_lane() { return threadIdx.x % 32 == 0; }

  /// Rounded to Element: left operands.
  __device__ static void fragments_of(Fragments& to, const Scores& x) {
#pragma unroll
    for (int k = 0; k < kQueries / 16; ++k) {
      const auto& near = x.x[0][2 * k];
      const auto& far = x.x[0][2 * k + 1];
      to[k].pairs[0] = packed(Element{}, near[0], near[1]);
      to[k].pairs[1] = packed(Element{}, near[2], near[3]);
      to[k].pairs[2] = packed(Element{}, far[0], far[1]);
      to[k].pairs[3] = packed(Element{}, far[2], far[3]);
    }
  }

  /// d_s^T of 64 keys, as fragments, to shared memory as [queries, keys].
  __device__ void store_scores(const Fragments& d_scores, int first_key, int stage) const {
    const ScoreTile tile = score_tile(stage);
    const int row = lane() / 16 * 8 + lane() % 8, column = first_key + warp_row() + lane() / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < kQueries / 16; ++k) store_transposed(tile.at(16 * k + row, column), d_scores[k].pairs);
  }

  // In an ordered pass, before and after a consumer adds to the tile of a visit.
  __device__ void wait_for_turn(const Turn<2>& visit) const {
    const OrderedTurn turn{visit.count};
    if constexpr (Config::kIsOrdered) this->may_add(turn.stage()).wait(turn.parity());
  }
  __device__ void pass_turn_on(const Turn<2>& visit) const {
    const OrderedTurn turn{visit.count};
    if constexpr (Config::kIsOrdered) {
      __syncwarp();
      this->added(turn.stage()).arrive_if(is_first_lane());
    }
  }

  /// Where a thread adds to a tile of the workspace.
  __device__ float* sums_of(long long tile) const {
    return arguments_.d_q_sums + tile * Sizes::kTileFloats + Sizes::place(0, 0, thread());
  }
  /// Adds a part of d_q (see BackwardSizes) there.
  template <int kBlocks>
  __device__ static void add_to(float* sums, const Accumulator<1, kBlocks>& d_q, int part) {
    float* const to = sums + Sizes::place(part, 0, 0);
#pragma unroll
    for (int j = 0; j < kBlocks; ++j) {
      const float(&x)[4] = d_q.x[0][j];
      asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to + j * 512), "f"(x[0]), "f"(x[1]), "f"(x[2]),
                   "f"(x[3])
                   : "memory");
    }
  }
  template <int kBlocks>
  __device__ void add_to_workspace(const Accumulator<1, kBlocks>& d_q, long long tile, int part) const {
    add_to(sums_of(tile), d_q, part);
  }

  /// Of a key tile that a cluster shares: adds to this warp's sums what the others have, if its rows are this block's
  /// to write. Whether they are. The sums lie where tiles of queries were, as threads hold them.
  __device__ bool add_parts(KeySums& d_k, ValueSums& d_v, int consumer) const {
    constexpr int kBlocks = (kColumnsQk + kColumnsV) / 8;
    static_assert(2 * kBlocks * kThreadsBytes <= Shared::kNumbersAt - Shared::kStagesAt);
    constexpr int kValuesBehind = kColumnsQk / 8 * kThreadsBytes;
    const unsigned own = this->base_ + Shared::kStagesAt + consumer * kBlocks * kThreadsBytes + thread() * 16;
    put_sums(own, d_k);
    put_sums(own + kValuesBehind, d_v);
    meet_cluster();
    const int part = this->work().part, parts = this->work().parts;
    if ((4 * consumer + thread() / 32) % parts != part) return false;
#pragma unroll 1
    for (int other = part + 1; other < part + parts; ++other) {
      const unsigned theirs = address_in(own, other % parts);
      add_sums(d_k, theirs);
      add_sums(d_v, theirs + kValuesBehind);
    }
    return true;
  }

  /// Rows of a result, times a factor, 64 from `first_key` on: by way of as many rows of `tile`, from `row` on, which
  /// nobody reads any more, and from there by the copy engine. Rows at the end of a sequence, behind which another's
  /// may lie, are written directly.
  template <int kHead, class Tile, int kBlocks>
  __device__ void store_sums(const TensorView& view, const TensorMap& map, const Tile& tile, int row,
                             const Accumulator<1, kBlocks>& sums, int first_key, float factor) const {
    if (view.data == nullptr) return;
    const SequenceShape& shape = arguments_.sequences[sequence()];
    const float factors[2] = {factor, factor};
    const int of_warp = kReadsThread ? thread_read_anew() / 32 % 4 * 16 : warp_row();
    const int first = first_key + of_warp, from = row + of_warp;
    if (uniform(first + 16 > shape.keys) != 0) {
      store_rows<kHead>(rows_of(view, shape), view.row, first + lane() / 4, shape.keys, sums, factors);
      return;
    }
    stage_rows<Element>(tile, from, sums, factors);
    publish_writes();
    __syncwarp();
    if (!is_first_lane()) return;
    const Rows out{&map, arguments_.keys_packed ? 0 : sequence(), kv_head()};
#pragma unroll 1
    for (int chunk = 0; chunk < Tile::kChunks; ++chunk) {
      out.start_back(tile.chunk(chunk) + from * 128, 64 * chunk,
                     first + (arguments_.keys_packed ? shape.key_token : 0));
    }
    commit_copies();
  }
  template <class Tile>
  __device__ void store_key_sums(const KeySums& d_k, int first_key, const Tile& tile, int row) const {
    store_sums<Config::kHeadQk>(arguments_.d_k, call_.d_k, tile, row, d_k, first_key, arguments_.scale);
  }
  template <class Tile>
  __device__ void store_value_sums(const ValueSums& d_v, int first_key, const Tile& tile, int row) const {
    store_sums<Config::kHeadV>(arguments_.d_v, call_.d_v, tile, row, d_v, first_key,
                               Config::kHasDropout ? arguments_.dropout.scale : 1);
  }

  // A block of sums after the other, each of four numbers of every thread.
  static constexpr int kThreadsBytes = 128 * 16;
  template <int kBlocks>
  __device__ static void put_sums(unsigned to, const Accumulator<1, kBlocks>& x) {
#pragma unroll
    for (int j = 0; j < kBlocks; ++j) store_four(to + j * kThreadsBytes, x.x[0][j]);
  }
  template <int kBlocks>
  __device__ static void add_sums(Accumulator<1, kBlocks>& x, unsigned from) {
#pragma unroll
    for (int j = 0; j < kBlocks; ++j) add_four(x.x[0][j], from + j * kThreadsBytes);
  }

  __device__ Element* rows_of(const TensorView& view, const SequenceShape& shape) const {
    return static_cast<Element*>(view.data) + sequence() * view.batch + kv_head() * view.head +
           (arguments_.keys_packed ? shape.key_token : 0) * view.row;
  }
};

}  // namespace tilewise::cuda::sm90
