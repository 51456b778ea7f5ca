// Decoding: few queries against many keys. The queries of all heads that share a key head are rows of one tile, and the
// keys are split among blocks; partial results are merged in the end.
#pragma once

#include "decode_copies.h"

namespace tilewise::cuda {

/// 16 rows against 64 keys at a time. Each warp takes 16 keys of every tile, with copies, scores and sums of its own:
/// warps meet in the end alone, so the memory's latency is hidden by kStages tiles of each warp on their way.
///
/// Config has what DecodeCopies asks for, 16 rows and 64 keys.
template <class Config, class Variant>
class Decode : DecodeCopies<Config, Variant> {
  using Rows = DecodeRows<Config, Variant>;
  using Copies = DecodeCopies<Config, Variant>;
  using Copies::kColumnsQk, Copies::kColumnsV, Copies::kInputBytes, Copies::kStageBytes, Copies::kWarpKeys;
  using Rows::first_row_, Rows::rows, Rows::lane, Rows::warp, Rows::a_, Rows::f_;
  using typename Copies::Element, typename Copies::KeyTile, typename Copies::ValueTile, typename Copies::Share;

 public:
  static constexpr int kWarps = Copies::kWarps, kThreads = 32 * kWarps, kRows = 16;
  static_assert(Config::kRows == kRows);
  static constexpr int kSumRow = kColumnsV + 8;                   // so that four rows side by side lie in all banks
  static constexpr int kSumBytes = kWarps * kRows * kSumRow * 4;  // takes the inputs' place in the end
  static constexpr int kSharedBytes = kInputBytes > kSumBytes ? kInputBytes : kSumBytes;

  __device__ Decode(const DecodeArguments& arguments, const typename Variant::Arguments& variant, unsigned char* shared)
      : Copies(arguments, variant, static_cast<unsigned>(__cvta_generic_to_shared(shared))),
        shared_memory_(shared),
        key_fragments_(LaneAddress<KeyTile>::right_transposed(this->key_tile(0), lane())),
        value_fragments_(LaneAddress<ValueTile>::right(this->value_tile(0), lane())) {}

  __device__ void run() {
    if (first_row_ >= rows()) return;
    const auto tiles = Rows::tiles_of(f_, this->shape_, this->sequence_, this->kv_head_ * f_.heads_per_kv);
    const int splits = Rows::splits_of(tiles.count(), a_.splits);
    if (static_cast<int>(blockIdx.x) >= splits) return;
    // This split's share of the tiles; the first ones are longer by one.
    const int split = blockIdx.x, least = tiles.count() / splits, longer = tiles.count() % splits;
    const int begin = split * least + ::min(split, longer);
    const Share share{begin, begin + least + (split < longer ? 1 : 0)};
    this->prepare_copies(tiles, share);
#pragma unroll
    for (int i = 0; i < Config::kStages - 1; ++i) {
      if (begin + i < share.end) {
        this->start_copies(tiles, begin + i, share, i);
        this->look_up_keys(tiles, begin + i + 1, share.end);
      }
      commit_copies();
      // Behind all of these they would come last, and the first products with them, when the memory has nothing to do.
      if (i == 0) load_queries();
    }
    // While keys and values are on their way.
    this->prepare_rows();
    __syncthreads();
    o_.clear();
    statistics_.clear(first_row_ + lane() / 4, rows());
    walk(tiles, share);
    finish();
  }

 private:
  /// Left operands straight from memory: it is read once, and little.
  __device__ void load_queries() {
#pragma unroll
    for (int k = 0; k < kColumnsQk / 16; ++k) q_[k] = LeftOf<Element>{};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = lane() / 4 + 8 * half;
      if (first_row_ + row >= rows()) continue;
      const Element* const from = this->query_data(row) + lane() % 4 * 2;
#pragma unroll
      for (int column = 0; column < Config::kHeadQk; column += 8)
        load_pair(q_[column / 16], half + column / 8 % 2 * 2, from + column);
    }
  }

  /// The tiles of a share, the first of which have been asked for.
  template <class Walk>
  __device__ void walk(const Walk& tiles, const Share& share) {
    int stage = 0;
    for (int i = share.begin; i < share.end; ++i) {
      __syncwarp();  // all lanes are done with the tile before, whose place another one takes
      const int ahead = i + Config::kStages - 1, next = stage == 0 ? Config::kStages - 1 : stage - 1;
      if (ahead < share.end) this->start_copies(tiles, ahead, share, next);
      commit_copies();
      wait_for_copies<Config::kStages - 1>();
      __syncwarp();  // the tile is here for all lanes
      this->look_up_keys(tiles, ahead + 1, share.end);
      visit_tile(tiles.visit(i), stage);
      stage = stage == Config::kStages - 1 ? 0 : stage + 1;
    }
    wait_for_copies<0>();
  }

  using Scores = Accumulator<1, kWarpKeys / 8>;

  /// Queries by keys. Each product waits for the one before that it is added to, so that even and odd steps have sums
  /// of their own.
  __device__ Scores product_with(const LaneAddress<KeyTile>& keys) const {
    Scores sums[2];
    sums[0].clear(), sums[1].clear();
#pragma unroll
    for (int k = 0; k < kColumnsQk / 16; ++k) {
      const RightOf<Element> b = load_right_transposed(keys, 0, 16 * k);
      multiply_add(Element{}, sums[k % 2].x[0][0], q_[k], b.pairs[0]);
      multiply_add(Element{}, sums[k % 2].x[0][1], q_[k], b.pairs[1]);
    }
#pragma unroll
    for (int e = 0; e < kWarpKeys / 2; ++e) sums[0].x[0][e / 4][e % 4] += sums[1].x[0][e / 4][e % 4];
    return sums[0];
  }

  __device__ void visit_tile(const Visit& visit, int stage) {
    Scores s = product_with(key_fragments_.plus(stage * kStageBytes));
    const int first = Copies::first_key(visit) + lane() % 4 * 2;
    const float factor = visit.is_partial() ? score<true>(s, first) : score<false>(s, first);
    if (!statistics_.all_based()) statistics_.rebase(s, factor, o_);
    Weights<Element, 1, kWarpKeys / 8> weights;
    weights.make(s, factor, statistics_);
    if (weights.outgrown()) {
      statistics_.rebase(s, factor, o_);
      weights = Weights<Element, 1, kWarpKeys / 8>();
      weights.make(s, factor, statistics_);
    }
    weights.add_sums_to(statistics_);
    const auto values = value_fragments_.plus(stage * kStageBytes);
#pragma unroll
    for (int j = 0; j < kColumnsV / 16; ++j) {
      const RightOf<Element> b = load_right(values, 0, 16 * j);
      multiply_add(Element{}, o_.x[0][2 * j], weights.fragments[0][0], b.pairs[0]);
      multiply_add(Element{}, o_.x[0][2 * j + 1], weights.fragments[0][0], b.pairs[1]);
    }
  }

  /// Products turned into scores; returns their factor to log2 units.
  template <bool kPartial>
  __device__ float score(Scores& s, int first_key) const {
    if constexpr (!kPartial && !Variant::kChangesScores) {
      return f_.scale * kLog2E;
    } else {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int e = 0; e < kWarpKeys / 4; ++e) {
          float& x = s.x[0][e / 2][2 * half + e % 2];
          x = Rows::template score_of<kPartial>(lane() / 4 + 8 * half, first_key + e / 2 * 8 + e % 2, x);
        }
      }
      return kLog2E;
    }
  }

  /// Merges the warps' sums, and writes this split's result, or, where it is the only one, the answer.
  __device__ void finish() {
    __shared__ float bases[kWarps][kRows], sums[kWarps][kRows];
    auto* const parts = reinterpret_cast<float*>(shared_memory_);  // [kWarps, kRows, kSumRow]
    const int existing = rows() - first_row_ < kRows ? rows() - first_row_ : kRows;
    __syncthreads();  // all are done with the tiles, whose place the sums take
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = lane() / 4 + 8 * half;
      const float sum = sum_of_row(statistics_.sum[0][half]);
      if (row >= existing) continue;
      if (lane() % 4 == 0) bases[warp()][row] = statistics_.base[0][half], sums[warp()][row] = sum;
      float* part = parts + (warp() * kRows + row) * kSumRow + lane() % 4 * 2;
#pragma unroll
      for (int j = 0; j < kColumnsV / 8; ++j) {
        *reinterpret_cast<float2*>(part + 8 * j) = make_float2(o_.x[0][j][2 * half], o_.x[0][j][2 * half + 1]);
      }
    }
    __syncthreads();
    for (int row = warp(); row < existing; row += kWarps) {
      float base = bases[0][row], sum = 0;
#pragma unroll
      for (int w = 1; w < kWarps; ++w) base = fmaxf(base, bases[w][row]);
      float shares[kWarps];
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        shares[w] = exp2_of(bases[w][row] - base);
        sum += sums[w][row] * shares[w];
      }
      this->write_row(row, base, sum, [&](int column) {
        float value = 0;
#pragma unroll
        for (int w = 0; w < kWarps; ++w) value += parts[(w * kRows + row) * kSumRow + column] * shares[w];
        return value;
      });
    }
  }

  unsigned char* const shared_memory_;
  const LaneAddress<KeyTile> key_fragments_;
  const LaneAddress<ValueTile> value_fragments_;
  LeftOf<Element> q_[kColumnsQk / 16];
  RowStatistics<1> statistics_;
  Accumulator<1, kColumnsV / 8> o_;
};

}  // namespace tilewise::cuda
