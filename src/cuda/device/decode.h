// Decoding: few queries against many keys. The queries of all heads that share a key head are rows of one tile, and the
// keys are split among blocks; partial results are merged in the end.
#pragma once

#include "decode_rows.h"
#include "mma.h"

namespace tilewise::cuda {

/// 16 rows against 64 keys at a time. Each warp takes 16 keys of every tile, with copies, scores and sums of its own:
/// warps meet in the end alone, so the memory's latency is hidden by kStages tiles of each warp on their way.
///
/// Config has what DecodeRows asks for, 16 rows and 64 keys, and kStages.
template <class Config, class Variant>
class Decode : DecodeRows<Config, Variant> {
  using Rows = DecodeRows<Config, Variant>;
  using Rows::first_row_, Rows::rows, Rows::lane, Rows::warp, Rows::a_, Rows::f_;

 public:
  using Element = typename Config::Element;
  static constexpr int kWarps = 4, kThreads = 32 * kWarps, kRows = 16, kWarpKeys = 16, kKeys = kWarps * kWarpKeys;
  static_assert(Config::kRows == kRows && Config::kKeys == kKeys);
  static constexpr int kColumnsQk = (Config::kHeadQk + 15) / 16 * 16;
  static constexpr int kColumnsV = (Config::kHeadV + 15) / 16 * 16;
  using KeyTile = SharedTile<Element, kWarpKeys, kColumnsQk>;
  using ValueTile = SharedTile<Element, kWarpKeys, kColumnsV>;
  static constexpr int kStageBytes = KeyTile::kBytes + ValueTile::kBytes;
  static constexpr int kInputBytes = kWarps * Config::kStages * kStageBytes;
  static constexpr int kSumRow = kColumnsV + 8;                   // so that four rows side by side lie in all banks
  static constexpr int kSumBytes = kWarps * kRows * kSumRow * 4;  // takes the inputs' place in the end
  static constexpr int kSharedBytes = kInputBytes > kSumBytes ? kInputBytes : kSumBytes;

  __device__ Decode(const DecodeArguments& arguments, const typename Variant::Arguments& variant, unsigned char* shared)
      : Rows(arguments, variant),
        shared_memory_(shared),
        shared_(static_cast<unsigned>(__cvta_generic_to_shared(shared))),
        key_start_(this->shape_.key_start),
        keys_end_(this->shape_.keys),
        keys_(Rows::first_row_of(f_.k)),
        values_(Rows::first_row_of(f_.v)),
        key_fragments_(LaneAddress<KeyTile>::right_transposed(key_tile(0), lane())),
        value_fragments_(LaneAddress<ValueTile>::right(value_tile(0), lane())) {}

  __device__ void run() {
    if (first_row_ >= rows()) return;
    const auto tiles = Rows::tiles_of(f_, this->shape_, this->sequence_, this->kv_head_ * f_.heads_per_kv);
    const int splits = Rows::splits_of(tiles.count(), a_.splits);
    if (static_cast<int>(blockIdx.x) >= splits) return;
    // This split's share of the tiles; the first ones are longer by one.
    const int split = blockIdx.x, least = tiles.count() / splits, longer = tiles.count() % splits;
    const int begin = split * least + ::min(split, longer), end = begin + least + (split < longer ? 1 : 0);
#pragma unroll
    for (int i = 0; i < Config::kStages - 1; ++i) {
      if (begin + i < end) {
        look_up(tiles.visit(begin + i));
        start_loading(tiles.visit(begin + i), i);
      }
      commit_copies();
    }
    if (begin + Config::kStages - 1 < end) look_up(tiles.visit(begin + Config::kStages - 1));
    // While keys and values are on their way.
    this->prepare_rows();
    load_queries();
    __syncthreads();
    o_.clear();
    statistics_.clear(first_row_ + lane() / 4, rows());
    walk(tiles, begin, end);
    finish();
  }

 private:
  /// Left operands straight from memory: it is read once, and little.
  __device__ void load_queries() {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int row = lane() / 4 + r % 2 * 8;
      const bool exists = first_row_ + row < rows();
      const Element* from = this->query_data(exists ? row : 0);
#pragma unroll
      for (int k = 0; k < kColumnsQk / 16; ++k) {
        const int column = 16 * k + r / 2 * 8 + lane() % 4 * 2;
        load_pair(q_[k], r, exists && column < Config::kHeadQk ? from + column : nullptr);
      }
    }
  }

  __device__ KeyTile key_tile(int stage) const { return {shared_ + (warp() * Config::kStages + stage) * kStageBytes}; }
  __device__ ValueTile value_tile(int stage) const { return {key_tile(stage).address + KeyTile::kBytes}; }

  __device__ int first_key(const Visit& visit) const { return visit.tile() * kKeys + warp() * kWarpKeys; }

  /// Asks for the page of a lane's key of the tile that is loaded next: its copies then need not wait for the number.
  __device__ void look_up(const Visit& visit) {
    if constexpr (Config::kPaged) {
      const PageTable& pages = f_.pages;
      const int index = first_key(visit) + lane() % kWarpKeys;
      page_ = -1;
      if (index < key_start_ || index >= keys_end_) return;
      page_ = __ldg(pages.table + this->sequence_ * pages.sequence + number_of_page(index));
    }
  }
  __device__ int number_of_page(int index) const {
    return f_.pages.shift >= 0 ? index >> f_.pages.shift : index / f_.pages.page_tokens;
  }

  __device__ void start_loading(const Visit& visit, int stage) const {
    const int first = first_key(visit);
    if constexpr (Config::kPaged) {
      const int index = first + lane() % kWarpKeys;
      const int slot = index - number_of_page(index) * f_.pages.page_tokens;  // of the lane's key
      load_page<Config::kHeadQk>(key_tile(stage), f_.k, slot);
      load_page<Config::kHeadV>(value_tile(stage), f_.v, slot);
    } else {
      const bool whole = !visit.is_partial();
      load_rows<Config::kHeadQk>(key_tile(stage), f_.k, keys_, first, whole);
      load_rows<Config::kHeadV>(value_tile(stage), f_.v, values_, first, whole);
    }
  }

  /// The warp's rows of k or v from `first` on, of storage in one piece, whose row 0 is at `data`. `whole`: all of them
  /// exist. A lane has the same chunk of every few rows, where a row's chunks allow it.
  template <int kColumns, class Tile>
  __device__ void load_rows(const Tile& tile, const TensorView& view, const Element* data, int first,
                            bool whole) const {
    constexpr int kChunks = Tile::kTileColumns / Tile::kChunk;
    if constexpr (32 % kChunks == 0) {
      const int row = lane() / kChunks, column = lane() % kChunks * Tile::kChunk;
      const unsigned to = tile.at(row, column);
      const Element* const from = data + (first + row) * view.row + column;
#pragma unroll
      for (int step = 0; step < kWarpKeys; step += 32 / kChunks) {
        const int index = first + row + step;
        const bool exists = column < kColumns && (whole || (index >= key_start_ && index < keys_end_));
        copy_async(Tile::moved(to, step, 0), exists ? from + step * view.row : data, exists);
      }
    } else {
      Rows::template load<32, kColumns>(tile, view, first, lane());
    }
  }

  /// The warp's rows of k or v, of the pages that its lanes have looked up.
  template <int kColumns, class Tile>
  __device__ void load_page(const Tile& tile, const TensorView& view, int slot) const {
    constexpr int kChunks = Tile::kTileColumns / Tile::kChunk;
    const Element* const data = static_cast<const Element*>(view.data) + this->kv_head_ * view.head;
    const bool is_page = static_cast<unsigned>(page_) < static_cast<unsigned>(f_.pages.pages);
    const long long own = is_page ? page_ * view.batch + slot * view.row : -1;
#pragma unroll
    for (int n = 0; n < kWarpKeys * kChunks / 32; ++n) {
      const int chunk = n * 32 + lane(), row = chunk / kChunks, column = chunk % kChunks * Tile::kChunk;
      const long long offset = __shfl_sync(~0u, own, row);
      const bool exists = column < kColumns && offset >= 0;
      copy_async(tile.at(row, column), exists ? data + offset + column : data, exists);
    }
  }

  /// The tiles of a share, the first of which have been asked for.
  template <class Walk>
  __device__ void walk(const Walk& tiles, int begin, int end) {
    int stage = 0;
    for (int i = begin; i < end; ++i) {
      __syncwarp();  // all lanes are done with the tile before, whose place another one takes
      const int ahead = i + Config::kStages - 1, next = stage == 0 ? Config::kStages - 1 : stage - 1;
      if (ahead < end) start_loading(tiles.visit(ahead), next);
      commit_copies();
      wait_for_copies<Config::kStages - 1>();
      __syncwarp();  // the tile is here for all lanes
      if (ahead + 1 < end) look_up(tiles.visit(ahead + 1));
      visit_tile(tiles.visit(i), stage);
      stage = stage == Config::kStages - 1 ? 0 : stage + 1;
    }
    wait_for_copies<0>();
  }

  using Scores = Accumulator<1, kWarpKeys / 8>;

  __device__ void visit_tile(const Visit& visit, int stage) {
    Scores s;
    s.clear();
    const auto keys = key_fragments_.plus(stage * kStageBytes);
#pragma unroll
    for (int k = 0; k < kColumnsQk / 16; ++k) {
      const RightOf<Element> b = load_right_transposed(keys, 0, 16 * k);
      multiply_add(Element{}, s.x[0][0], q_[k], b.pairs[0]);
      multiply_add(Element{}, s.x[0][1], q_[k], b.pairs[1]);
    }
    const int first_key = visit.tile() * kKeys + warp() * kWarpKeys + lane() % 4 * 2;
    const float factor = visit.is_partial() ? score<true>(s, first_key) : score<false>(s, first_key);
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
  const unsigned shared_;
  int page_ = -1;  // of the lane's key in the tile that is loaded next; -1 where it is none
  // In registers: read where they are used, each of a tile's copies waited for them.
  const int key_start_, keys_end_;
  const Element *const keys_, *const values_;  // row 0, of storage in one piece
  const LaneAddress<KeyTile> key_fragments_;
  const LaneAddress<ValueTile> value_fragments_;
  LeftOf<Element> q_[kColumnsQk / 16];
  RowStatistics<1> statistics_;
  Accumulator<1, kColumnsV / 8> o_;
};

}  // namespace tilewise::cuda
