// Decoding of latent attention for compute capability 9.0: many heads against one cache, whose first columns are the
// values.
//
// With 128 heads a key of 576/512 takes 278,528 operations for its 1,152 bytes, so that arithmetic bounds it, and the
// products of wgmma, which reads both operands from shared memory once for 64 rows.
#pragma once

#include "decode_rows.h"
#include "sm90/barrier.h"
#include "sm90/store.h"
#include "sm90/tma.h"
#include "sm90/wgmma.h"

namespace tilewise::cuda::sm90 {

/// 64 rows against 64 keys at a time. Two warpgroups have half of the output's columns each. The first one makes the
/// scores and the weights too; the second takes weights from shared memory: from the place of the key's last 64
/// columns, which are no values and done with by then. A third one has one thread copy tiles, and gives up registers.
///
/// Config has what DecodeRows asks for, 64 rows and 64 keys, and kStages.
template <class Config, class Variant>
class LatentDecode : DecodeRows<Config, Variant> {
  using Rows = DecodeRows<Config, Variant>;
  using Rows::first_row_, Rows::rows, Rows::lane, Rows::warp, Rows::f_, Rows::shape_;

 public:
  using Element = typename Config::Element;
  static constexpr int kThreads = 384, kRows = 64, kKeys = 64, kStages = Config::kStages;
  static_assert(Config::kRows == kRows && Config::kKeys == kKeys);
  static constexpr int kDepth = (Config::kHeadQk + 15) / 16 * 16, kColumns = Config::kHeadV / 2;  // of a warpgroup
  using QueryTile = ChunkedTile<kRows, Config::kHeadQk>;
  using KeyTile = ChunkedTile<kKeys, Config::kHeadQk>;
  static constexpr int kValueChunks = Config::kHeadV / 64;
  static_assert(kColumns % 64 == 0 && kColumns <= 256 && KeyTile::kChunks > kValueChunks, "room for the weights");
  static constexpr int kTileBytes = QueryTile::kBytes + kStages * KeyTile::kBytes;
  static constexpr int kSumBytes = kRows * Config::kHeadV * 4;  // takes the inputs' place in the end
  static_assert(kSumBytes <= kTileBytes);
  static constexpr int kSharedBytes = kTileBytes;

  __device__ LatentDecode(const LatentCall& call, const typename Variant::Arguments& variant, unsigned char* shared)
      : Rows(call.decode, variant),
        call_(call),
        shared_memory_(shared),
        shared_(static_cast<unsigned>(__cvta_generic_to_shared(shared))) {}

  __device__ void run() {
    if (first_row_ >= rows()) return;
    const auto tiles = Rows::tiles_of(f_, shape_, this->sequence_, this->kv_head_ * f_.heads_per_kv);
    const int splits = Rows::splits_of(tiles.count(), call_.decode.splits);
    if (static_cast<int>(blockIdx.x) >= splits) return;
    const long long count = tiles.count(), split = blockIdx.x;
    const int begin = uniform(count * split / splits), end = uniform(count * (split + 1) / splits);
    if (shared_ % 1024 != 0) __trap();  // what swizzling rests on
    if (threadIdx.x == 0) create_barriers();
    this->prepare_rows();
    load_queries();
    publish_writes();
    __syncthreads();
    const int role = uniform(threadIdx.x / 128);
    if (role == 0) {
      shrink_registers<24>();
      if (threadIdx.x == 0) produce(tiles, begin, end);
      return;
    }
    grow_registers<240>();
    if (role == 1) {
      attend(tiles, begin, end);
    } else {
      follow(begin, end);
    }
    meet(2, 256);
    write_rows();
  }

 private:
  using Scores = Accumulator<1, kKeys / 8>;
  using Output = Accumulator<1, kColumns / 8>;
  using TileWeights = Weights<Element, 1, kKeys / 8>;
  static constexpr int kSteps = kKeys / 16;
  using Fragments = LeftFragment[kSteps];

  struct Exchange {
    unsigned long long barriers[3 * kStages];
    float rescale[kStages][kRows];  // what the output so far is multiplied with
    float base[kRows], sum[kRows];  // in the end, in log2 units
  };
  __device__ static Exchange& exchange() {
    __shared__ Exchange shared;
    return shared;
  }
  /// A tile is there; it may be overwritten; its weights are there.
  __device__ static Barrier barrier(int number) {
    return {static_cast<unsigned>(__cvta_generic_to_shared(exchange().barriers + number))};
  }
  __device__ static Barrier full(int stage) { return barrier(stage); }
  __device__ static Barrier empty(int stage) { return barrier(kStages + stage); }
  __device__ static Barrier weighed(int stage) { return barrier(2 * kStages + stage); }

  __device__ static void create_barriers() {
    for (int stage = 0; stage < kStages; ++stage)
      full(stage).create(1), empty(stage).create(8), weighed(stage).create(4);
    publish_barriers();
  }

  __device__ QueryTile query_tile() const { return {shared_}; }
  __device__ KeyTile key_tile(int stage) const { return {shared_ + QueryTile::kBytes + stage * KeyTile::kBytes}; }
  __device__ ChunkedTile<kRows, kKeys> weight_tile(int stage) const { return {key_tile(stage).chunk(kValueChunks)}; }
  __device__ static int warp_row() { return threadIdx.x / 32 % 4 * 16; }
  __device__ static int lane_row() { return warp_row() + lane() / 4; }
  __device__ static bool is_first_lane() { return threadIdx.x % 32 == 0; }

  __device__ void load_queries() const {
    constexpr int kChunks = QueryTile::kChunks * 8;  // of 16 bytes, in a row
    for (int chunk = threadIdx.x; chunk < kRows * kChunks; chunk += kThreads) {
      const int row = chunk / kChunks, column = chunk % kChunks * 8;
      const bool exists = first_row_ + row < rows() && column < Config::kHeadQk;
      const uint4 zeros = make_uint4(0, 0, 0, 0);
      const uint4 value = exists ? *reinterpret_cast<const uint4*>(this->query_data(row) + column) : zeros;
      asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(query_tile().at(row, column)), "r"(value.x),
                   "r"(value.y), "r"(value.z), "r"(value.w)
                   : "memory");
    }
  }

  template <class Walk>
  __device__ void produce(const Walk& tiles, int begin, int end) const {
    sm90::Rows keys{&call_.k, f_.keys_packed ? 0 : this->sequence_, this->kv_head_};
    const int first_key = f_.keys_packed ? shape_.key_token : 0;
    Turn<kStages> turn;
#pragma unroll 1
    for (int i = begin; i < end; ++i, turn = turn.plus(1)) {
      const int stage = turn.stage(), row = tiles.visit(i).tile() * kKeys;
      empty(stage).wait(turn.parity() ^ 1);
      full(stage).arrive_expecting(KeyTile::kBytes);
#pragma unroll 1
      for (int from = row; from < row + kKeys; from += call_.box_rows) {
        int at = first_key + from;
        if constexpr (Config::kPaged) {
          // Outside of the tensor everything is zero: so are rows of a hole, whose number is no page's.
          const PageTable& pages = f_.pages;
          const int page = from / pages.page_tokens;
          keys.batch = from < shape_.keys ? __ldg(pages.table + this->sequence_ * pages.sequence + page) : -1;
          at = from - page * pages.page_tokens;
        }
#pragma unroll 1
        for (int chunk = 0; chunk < KeyTile::kChunks; ++chunk)
          keys.start(key_tile(stage).chunk(chunk) + (from - row) * 128, 64 * chunk, at, full(stage));
      }
    }
  }

  /// Where a tile reaches over the ends of its sequence, its rows may be another's, or NaN: zeros for them.
  __device__ void clear_missing_keys(const Visit& visit, int stage) const {
    const int first = visit.tile() * kKeys;
    if (first >= shape_.key_start && first + kKeys <= shape_.keys) return;
    for (int row = threadIdx.x % 128 / 8; row < kKeys; row += 16) {
      if (first + row >= shape_.key_start && first + row < shape_.keys) continue;
      for (int chunk = 0; chunk < KeyTile::kChunks; ++chunk)
        store_zeros(key_tile(stage).at(row, 64 * chunk + threadIdx.x % 8 * 8));
    }
    publish_writes();
    meet(1, 128);
  }

  /// s = q k^T of a tile that has come, started.
  __device__ void start_scores(Scores& s, const Visit& visit, Turn<kStages> turn) const {
    full(turn.stage()).wait(turn.parity());
    clear_missing_keys(visit, turn.stage());
    begin_products();
    // Addresses made anew: those of 36 products would be kept in registers.
    multiply_rows<Element, true, kDepth>(s, Operand::of(made_anew(query_tile().address), kRows), kRows,
                                         Operand::of(made_anew(key_tile(turn.stage()).address), kKeys), kKeys);
    commit_products();
  }
  /// o += weights v of a tile, a warpgroup's columns, started.
  __device__ void start_output(Output& o, const Fragments& weights, int stage, int warpgroup) const {
    begin_products();
    add_product<Element>(o, weights, Operand::of(key_tile(stage).chunk(warpgroup * (kColumns / 64)), kKeys));
    commit_products();
  }

  /// Products turned into scores; returns their factor to log2 units.
  template <bool kPartial>
  __device__ float score(Scores& s, const Visit& visit) const {
    if constexpr (!kPartial && !Variant::kChangesScores) {
      return f_.scale * kLog2E;
    } else {
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          s.x[0][j][e] = Rows::template score_of<kPartial>(
              lane_row() + e / 2 * 8, visit.tile() * kKeys + 8 * j + lane() % 4 * 2 + e % 2, s.x[0][j][e]);
        }
      }
      return kLog2E;
    }
  }

  /// The first warpgroup's part. A tile's output and the scores of the next are made one right behind the other, so
  /// that only exponentials keep this warpgroup from the tensor cores, which the other one then has for itself. (Scores
  /// before the output would want a third tile in shared memory.)
  template <class Walk>
  __device__ void attend(const Walk& tiles, int begin, int end) const {
    Output o;
    RowStatistics<1> statistics;
    o.clear();
    statistics.clear(first_row_ + lane_row(), rows());
    if (begin < end) {
      Turn<kStages> turn;
      Scores s;
      start_scores(s, tiles.visit(begin), turn);
      wait_for_products<0>();
      pin(s);
#pragma unroll 1
      for (int i = begin; i < end; ++i) {
        Fragments weights;
        make_weights(weights, s, o, statistics, tiles.visit(i), turn.stage());
        const int stage = turn.stage();
        pin(o);
        start_output(o, weights, stage, 0);
        turn = turn.plus(1);
        if (i + 1 < end) start_scores(s, tiles.visit(i + 1), turn);
        if (i + 1 < end) {
          wait_for_products<1>();
        } else {
          wait_for_products<0>();
        }
        pin(o);
        empty(stage).arrive_if(is_first_lane());
        wait_for_products<0>();
        pin(s);
      }
    }
    tell_rows(statistics);
    meet(2, 256);  // all products are done, whose operands' place the output takes
    store_output(o, 0);
  }

  /// A tile's weights, told to the second warpgroup, and the output so far rescaled where rows get other bases.
  __device__ void make_weights(Fragments& weights, Scores& s, Output& o, RowStatistics<1>& statistics,
                               const Visit& visit, int stage) const {
    const float factor = visit.is_partial() ? score<true>(s, visit) : score<false>(s, visit);
    const float old_base[2] = {statistics.base[0][0], statistics.base[0][1]};
    TileWeights made;
    made.make(s, factor, statistics);
    if (!statistics.all_based() || made.outgrown()) {
      statistics.rebase(s, factor, o);
      made = TileWeights();
      made.make(s, factor, statistics);
    }
    made.add_sums_to(statistics);
    tell(made, old_base, statistics, stage);
#pragma unroll
    for (int k = 0; k < kSteps; ++k) weights[k] = made.fragments[k][0];
  }

  __device__ void tell_rows(const RowStatistics<1>& statistics) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = sum_of_row(statistics.sum[0][half]);
      if (lane() % 4 != 0) continue;
      exchange().base[lane_row() + 8 * half] = statistics.base[0][half];
      exchange().sum[lane_row() + 8 * half] = sum;
    }
  }

  /// The second warpgroup's.
  __device__ void follow(int begin, int end) const {
    Output o;
    o.clear();
    Turn<kStages> turn;
#pragma unroll 1
    for (int i = begin; i < end; ++i, turn = turn.plus(1)) {
      const int stage = turn.stage();
      weighed(stage).wait(turn.parity());
      Fragments weights;
#pragma unroll
      for (int k = 0; k < kSteps; ++k)
        load_matrices(weights[k].pairs, weight_tile(stage).at(warp_row() + lane() % 16, 16 * k + lane() / 16 * 8));
      const float near = exchange().rescale[stage][lane_row()], far = exchange().rescale[stage][lane_row() + 8];
      if (!__all_sync(~0u, near == 1 && far == 1)) {
#pragma unroll
        for (int j = 0; j < kColumns / 8; ++j) {
          o.x[0][j][0] *= near, o.x[0][j][1] *= near;
          o.x[0][j][2] *= far, o.x[0][j][3] *= far;
        }
      }
      pin(o);
      start_output(o, weights, stage, 1);
      wait_for_products<0>();
      pin(o);
      empty(stage).arrive_if(is_first_lane());
    }
    meet(2, 256);
    store_output(o, 1);
  }

  /// Weights and rescaling to the second warpgroup.
  __device__ void tell(const TileWeights& made, const float (&old_base)[2], const RowStatistics<1>& now,
                       int stage) const {
    meet(1, 128);  // no warp's products read the keys whose place the weights take
#pragma unroll
    for (int k = 0; k < kSteps; ++k)
      store_matrices(weight_tile(stage).at(warp_row() + lane() % 16, 16 * k + lane() / 16 * 8),
                     made.fragments[k][0].pairs);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (lane() % 4 == 0)
        exchange().rescale[stage][lane_row() + 8 * half] = exp2_of(old_base[half] - now.base[0][half]);
    }
    publish_writes();  // the place is the copy engine's again, later
    __syncwarp();
    weighed(stage).arrive_if(is_first_lane());
  }

  /// A warpgroup's columns of the rows' sums, to shared memory [kRows, d_v].
  __device__ void store_output(const Output& o, int warpgroup) const {
    auto* const to =
        reinterpret_cast<float*>(shared_memory_) + lane_row() * Config::kHeadV + warpgroup * kColumns + lane() % 4 * 2;
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j) {
      *reinterpret_cast<float2*>(to + 8 * j) = make_float2(o.x[0][j][0], o.x[0][j][1]);
      *reinterpret_cast<float2*>(to + 8 * Config::kHeadV + 8 * j) = make_float2(o.x[0][j][2], o.x[0][j][3]);
    }
  }

  __device__ void write_rows() const {
    const auto* const outputs = reinterpret_cast<const float*>(shared_memory_);
    const int existing = rows() - first_row_ < kRows ? rows() - first_row_ : kRows;
    for (int row = warp() - 4; row < existing; row += 8) {
      this->write_row(row, exchange().base[row], exchange().sum[row],
                      [&](int column) { return outputs[row * Config::kHeadV + column]; });
    }
  }

  const LatentCall& call_;
  unsigned char* const shared_memory_;
  const unsigned shared_;
};

}  // namespace tilewise::cuda::sm90
