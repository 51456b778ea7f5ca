// What a warp of the forward kernel multiplies: its queries by keys, and weights by values.
#pragma once

#include "mma.h"
#include "softmax.h"
#include "walk.h"

namespace tilewise::cuda {

/// A block's tiles in shared memory, and products of a warp's rows with them. Config is Forward's.
template <class Config>
class ForwardProducts {
 public:
  using Element = typename Config::Element;
  static constexpr int kThreads = Config::kWarps * 32;
  static constexpr int kRows = Config::kRowBlocks * 16;  // of a warp
  static constexpr int kQueryTile = Config::kWarps * kRows;
  static constexpr int kPartQueries = Config::kWarps > Visit::kMostParts ? 2 * kRows : kRows;  // of a list's entries
  static constexpr int kColumnsQk = (Config::kHeadQk + 15) / 16 * 16;
  static constexpr int kColumnsV = (Config::kHeadV + 15) / 16 * 16;
  using QueryTile = SharedTile<Element, kQueryTile, kColumnsQk>;
  using KeyTile = SharedTile<Element, Config::kKeyTile, kColumnsQk>;
  using ValueTile = SharedTile<Element, Config::kKeyTile, kColumnsV>;
  static constexpr int kStageBytes = KeyTile::kBytes + ValueTile::kBytes;
  /// Warps wait for each other apart from where they arrive, which takes a fourth stage.
  static constexpr bool kHasBarriers = Config::kStages == 4;
  static constexpr int kTileBytes = QueryTile::kBytes + Config::kStages * kStageBytes;
  static constexpr int kSharedBytes = kTileBytes + (kHasBarriers ? 2 * Config::kStages * 8 : 0);

  __device__ explicit ForwardProducts(unsigned shared)
      : shared_(shared),
        query_fragments_(LaneAddress<QueryTile>::left({shared + first_row() * QueryTile::kRowBytes}, lane())),
        key_fragments_(LaneAddress<KeyTile>::right_transposed(key_tile(0), lane())),
        value_fragments_(LaneAddress<ValueTile>::right(value_tile(0), lane())) {}

 protected:
  using Scores = Accumulator<Config::kRowBlocks, Config::kKeyTile / 8>;
  using Output = Accumulator<Config::kRowBlocks, kColumnsV / 8>;
  using TileWeights = Weights<Element, Config::kRowBlocks, Config::kKeyTile / 8>;

  __device__ static int lane() { return threadIdx.x % 32; }
  __device__ static int first_row() { return threadIdx.x / 32 * kRows; }  // of the warp

  __device__ QueryTile query_tile() const { return {shared_}; }
  __device__ KeyTile key_tile(int stage) const { return {shared_ + QueryTile::kBytes + stage * kStageBytes}; }
  __device__ ValueTile value_tile(int stage) const { return {key_tile(stage).address + KeyTile::kBytes}; }

  __device__ void load_queries_to_registers() {
    if constexpr (Config::kQueryInRegisters) {
#pragma unroll
      for (int i = 0; i < Config::kRowBlocks; ++i) {
#pragma unroll
        for (int k = 0; k < kColumnsQk / 16; ++k) q_[i][k] = load_left(query_fragments_, 16 * i, 16 * k);
      }
    }
  }

  /// Fragments are loaded this many steps before their use: ldmatrix takes about as long as one step's products. Where
  /// the exponentials are woven in, one step is longer, and registers are fewest.
  static constexpr int kKeysAhead = 2, kValuesAhead = 2;

  __device__ void load_query_fragments(LeftOf<Element> (&a)[Config::kRowBlocks], int k) const {
#pragma unroll
    for (int i = 0; i < Config::kRowBlocks; ++i) {
      if constexpr (Config::kQueryInRegisters) {
        a[i] = q_[i][k];
      } else {
        a[i] = load_left(query_fragments_, 16 * i, 16 * k);
      }
    }
  }

  /// s = q k^T for a tile. `between(step)` is done after each of kProductSteps steps.
  static constexpr int kProductSteps = kColumnsQk / 16 * (Config::kKeyTile / 16);
  template <class Between>
  __device__ void multiply_queries_by_keys(Scores& s, int stage, Between between) const {
    constexpr int kBlocks = Config::kKeyTile / 16, kSteps = kProductSteps;
    s.clear();
    LeftOf<Element> a[2][Config::kRowBlocks];
    RightOf<Element> b[kKeysAhead + 1];
    const auto keys = key_fragments_.plus(stage * kStageBytes);
    const auto load = [&](int step) {
      b[step % (kKeysAhead + 1)] = load_right_transposed(keys, step % kBlocks * 16, step / kBlocks * 16);
    };
    load_query_fragments(a[0], 0);
#pragma unroll
    for (int step = 0; step < kKeysAhead && step < kSteps; ++step) load(step);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int k = step / kBlocks, j = step % kBlocks;
      if (j == 0 && step + kBlocks < kSteps) load_query_fragments(a[(k + 1) % 2], k + 1);
      if (step + kKeysAhead < kSteps) load(step + kKeysAhead);
#pragma unroll
      for (int i = 0; i < Config::kRowBlocks; ++i) {
        multiply_add(Element{}, s.x[i][2 * j], a[k % 2][i], b[step % (kKeysAhead + 1)].pairs[0]);
        multiply_add(Element{}, s.x[i][2 * j + 1], a[k % 2][i], b[step % (kKeysAhead + 1)].pairs[1]);
      }
      between(step);
    }
  }

  /// o += weights v for a tile.
  __device__ void add_weights_times_values(Output& o, const TileWeights& weights, int stage) const {
    constexpr int kBlocks = kColumnsV / 16, kSteps = Config::kKeyTile / 16 * kBlocks;
    RightOf<Element> b[kValuesAhead + 1];
    const auto values = value_fragments_.plus(stage * kStageBytes);
    const auto load = [&](int step) {
      b[step % (kValuesAhead + 1)] = load_right(values, step / kBlocks * 16, step % kBlocks * 16);
    };
#pragma unroll
    for (int step = 0; step < kValuesAhead && step < kSteps; ++step) load(step);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int k = step / kBlocks, j = step % kBlocks;
      if (step + kValuesAhead < kSteps) load(step + kValuesAhead);
#pragma unroll
      for (int i = 0; i < Config::kRowBlocks; ++i) {
        multiply_add(Element{}, o.x[i][2 * j], weights.fragments[k][i], b[step % (kValuesAhead + 1)].pairs[0]);
        multiply_add(Element{}, o.x[i][2 * j + 1], weights.fragments[k][i], b[step % (kValuesAhead + 1)].pairs[1]);
      }
    }
  }

  const unsigned shared_;  // address of this block's dynamic shared memory

 private:
  // Where this lane reads fragments: of its warp's queries, and of the first stage's keys and values.
  const LaneAddress<QueryTile> query_fragments_;
  const LaneAddress<KeyTile> key_fragments_;
  const LaneAddress<ValueTile> value_fragments_;
  LeftOf<Element> q_[Config::kRowBlocks][Config::kQueryInRegisters ? kColumnsQk / 16 : 1];
};

}  // namespace tilewise::cuda
