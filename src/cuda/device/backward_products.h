// Products of the portable backward kernel: where its tiles lie, which piece of a product a warp has, and how warps
// hand scores to each other.
#pragma once

#include "products.h"

namespace tilewise::cuda {

/// Scores are made transposed, [keys, queries], so that P^T and d_s^T are left operands of d_v and d_k: from registers,
/// where every warp has whole rows of both, else by way of shared memory. d_s goes there for d_q in any case.
///
/// Config is as Backward says.
template <class Config>
class BackwardProducts {
 public:
  using Element = typename Config::Element;
  static constexpr int kWarps = Config::kWarps, kThreads = 32 * kWarps, kKeys = Config::kKeys,
                       kQueries = Config::kQueries, kStages = Config::kStages;
  static constexpr int kColumnsQk = (Config::kHeadQk + 15) / 16 * 16;
  static constexpr int kColumnsV = (Config::kHeadV + 15) / 16 * 16;
  using QueryTile = SharedTile<Element, kQueries, kColumnsQk>;
  using GradientTile = SharedTile<Element, kQueries, kColumnsV>;  // of d_o
  using KeyTile = SharedTile<Element, kKeys, kColumnsQk>;
  using ValueTile = SharedTile<Element, kKeys, kColumnsV>;
  using ScoreTile = SharedTile<Element, kKeys, kQueries>;  // d_s^T, or P^T
  /// Every warp has the scores of half of the queries for the keys that it has in d_v and d_k.
  static constexpr bool kHasHalf = Config::kScoreColumns == 2 && Config::kColumnWarps == 2;
  /// Warps whose numbers are four apart share a quarter of a multiprocessor. Counted along rows they have keys half of
  /// a tile apart: where a mask leaves nothing of one half, every quarter has half of its work left, and not two of
  /// them all.
  static constexpr bool kAlongRows = kHasHalf && Config::kHasLists;
  using ScoreGrid =
      WarpGrid<kKeys / 16, kQueries / 16, kWarps / Config::kScoreColumns, Config::kScoreColumns, kAlongRows>;
  using KeyGrid =
      WarpGrid<kKeys / 16, kColumnsQk / 16, kWarps / Config::kColumnWarps, Config::kColumnWarps, kAlongRows>;
  using ValueGrid =
      WarpGrid<kKeys / 16, kColumnsV / 16, kWarps / Config::kColumnWarps, Config::kColumnWarps, kAlongRows>;
  /// One above the other in d_q: of pieces near squares fewest fragments are read.
  static constexpr int kQueryWarps = kQueries > 64 ? 4 : 2;
  using QueryGrid = WarpGrid<kQueries / 16, kColumnsQk / 16, kQueryWarps, kWarps / kQueryWarps>;
  static constexpr bool kInRegisters = Config::kScoreColumns == 1 && Config::kColumnWarps == 1;
  static constexpr int kRowNumbers = 2 * kQueries * 4;  // reference and delta of a tile of queries
  static constexpr int kStageBytes = QueryTile::kBytes + GradientTile::kBytes + kRowNumbers;
  static constexpr int kScoreBytes = (kInRegisters ? 1 : 2) * ScoreTile::kBytes;
  static constexpr int kTileBytes = KeyTile::kBytes + ValueTile::kBytes + kScoreBytes + kStages * kStageBytes;
  static_assert(ScoreGrid::kEven, "every warp has scores");

 protected:
  __device__ explicit BackwardProducts(unsigned shared) : shared_(shared) {}

  using Scores = typename ScoreGrid::Sums;  // [keys, queries]
  static constexpr int kScoreRows = ScoreGrid::kRows, kScoreBlocks = ScoreGrid::kColumns;
  using TileFragments = Fragments<Element, kScoreRows, kScoreBlocks>;

  __device__ static int lane() { return threadIdx.x % 32; }
  __device__ static int warp() { return threadIdx.x / 32; }

  __device__ KeyTile key_tile() const { return {shared_}; }
  __device__ ValueTile value_tile() const { return {shared_ + KeyTile::kBytes}; }
  __device__ ScoreTile score_tile() const { return {value_tile().address + ValueTile::kBytes}; }
  __device__ ScoreTile weight_tile() const { return {score_tile().address + (kInRegisters ? 0 : ScoreTile::kBytes)}; }
  __device__ QueryTile query_tile(int stage) const {
    return {score_tile().address + kScoreBytes + stage * kStageBytes};
  }
  __device__ GradientTile gradient_tile(int stage) const { return {query_tile(stage).address + QueryTile::kBytes}; }
  __device__ unsigned row_numbers(int stage) const { return gradient_tile(stage).address + GradientTile::kBytes; }

  /// products[keys, queries] = a b^T, this warp's piece.
  template <class Left, class Right>
  __device__ void multiply_transposed(Scores& products, const Left& a, const Right& b) {
    const auto left = LaneAddress<Left>::left({a.address + ScoreGrid::row(warp()) * Left::kRowBytes}, lane());
    const auto right =
        LaneAddress<Right>::right_transposed({b.address + ScoreGrid::column(warp()) * Right::kRowBytes}, lane());
    products.clear();
    multiply<Left::kTileColumns / 16>(
        Element{}, products, [&](int k, int i) { return load_left(left, 16 * i, 16 * k); },
        [&](int k, int j) { return load_right_transposed(right, 16 * j, 16 * k); }, [](int) { return true; });
  }

  /// sums[keys, columns] += a b for this warp's piece: of the queries whose entries it has in fragments, with these.
  template <class Grid, class Right>
  __device__ void add_own_product(typename Grid::Sums& sums, const TileFragments& a, const Right& b) {
    const auto right = LaneAddress<Right>::right({b.address + ScoreGrid::column(warp()) * Right::kRowBytes}, lane());
    const int first = Grid::column(warp());
    multiply<kScoreBlocks>(
        Element{}, sums, [&](int k, int i) { return a.of[k][i]; },
        [&](int k, int j) { return load_right(right, 16 * k, first + 16 * j); },
        [&](int j) { return Grid::has(warp(), j); });
  }

  /// Where a lane begins with left operands at a row and a column, a multiple of what they then reach over.
  __device__ static LaneAddress<ScoreTile> at_column(const ScoreTile& tile, int row, int column) {
    return {LaneAddress<ScoreTile>::left({tile.address + row * ScoreTile::kRowBytes}, lane()).at(0, column)};
  }

  /// Likewise of kSteps * 16 queries from `query` on, with a's rows in a tile.
  template <class Grid, int kSteps, class Right>
  __device__ void add_product(typename Grid::Sums& sums, const ScoreTile& a, const Right& b, int query) {
    const LaneAddress<ScoreTile> left = at_column(a, Grid::row(warp()), query);
    const auto right = LaneAddress<Right>::right({b.address + query * Right::kRowBytes}, lane());
    const int first = Grid::column(warp());
    multiply<kSteps>(
        Element{}, sums, [&](int k, int i) { return load_left(left, 16 * i, 16 * k); },
        [&](int k, int j) { return load_right(right, 16 * k, first + 16 * j); },
        [&](int j) { return Grid::has(warp(), j); });
  }

  /// Fragments [keys, queries] to shared memory.
  __device__ static void store_scores(const ScoreTile& tile, const TileFragments& scores) {
    const int row = ScoreGrid::row(warp()), column = ScoreGrid::column(warp());
#pragma unroll
    for (int k = 0; k < kScoreBlocks; ++k) {
#pragma unroll
      for (int i = 0; i < kScoreRows; ++i) {
        if constexpr (kStoresMatrices && sizeof(Element) == 2) {
          store_left(at_column(tile, row, column), 16 * i, 16 * k, scores.of[k][i]);
        } else {
#pragma unroll
          for (int r = 0; r < 4; ++r) {
            const int at = row + 16 * i + r % 2 * 8 + lane() / 4;
            store_pair_of(tile.at(at, 16 * k + r / 2 * 8 + column + lane() % 4 * 2), scores.of[k][i], r);
          }
        }
      }
    }
  }

  const unsigned shared_;
};

}  // namespace tilewise::cuda
