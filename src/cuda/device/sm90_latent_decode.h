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

/// 64 rows against 64 keys at a time. Of four warpgroups one has a thread copy tiles, one makes scores and weights, and
/// two have half of the output's columns each: their products and the scores of the next tile share the tensor cores,
/// while exponentials are made. Weights lie in the place of the key's last 64 columns, which are no values and done
/// with by then.
///
/// Config has what DecodeRows asks for, 64 rows and 64 keys, and kStages.
template <class Config, class Variant>
class LatentDecode : DecodeRows<Config, Variant> {
  using Rows = DecodeRows<Config, Variant>;
  using Rows::first_row_, Rows::rows, Rows::lane, Rows::warp, Rows::f_, Rows::shape_;

 public:
  using Element = typename Config::Element;
  static constexpr int kThreads = 512, kRows = 64, kKeys = 64, kStages = Config::kStages;
  static_assert(Config::kRows == kRows && Config::kKeys == kKeys);
  static constexpr int kColumns = Config::kHeadV / 2;  // of a warpgroup's output
  using QueryTile = ChunkedTile<kRows, Config::kHeadQk>;
  using KeyTile = ChunkedTile<kKeys, Config::kHeadQk>;
  static constexpr int kValueChunks = Config::kHeadV / 64;
  static_assert(Config::kHeadQk % 64 == 0 && kColumns % 64 == 0 && kColumns <= 256);
  static_assert(KeyTile::kChunks > kValueChunks, "room for the weights");
  static constexpr int kTileBytes = QueryTile::kBytes + kStages * KeyTile::kBytes;
  // Sums take the inputs' place in the end. Eight columns more than there are: a lane's two lie in banks of their own.
  static constexpr int kSumColumns = Config::kHeadV + 8, kSumBytes = kRows * kSumColumns * 4;
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
    if (threadIdx.x == 0) {
      create_barriers();
      for (int i = begin; i < end && i < begin + kStages; ++i)
        start_loading(tiles.visit(i), {unsigned(i - begin)}, [](int) {});
    }
    this->prepare_rows();
    load_queries();
    publish_writes();
    __syncthreads();
    // Registers: 24 + 3 * 160 of 4 * 128.
    const int role = uniform(threadIdx.x / 128);
    if (role == 0) {
      shrink_registers<24>();
      if (threadIdx.x == 0) produce(tiles, begin, end);
      return;
    }
    grow_registers<160>();
    if (role == 1) {
      weigh(tiles, begin, end);
      meet(2, kConsumers);
    } else {
      follow(begin, end, role - 2);
    }
    meet(2, kConsumers);
    write_rows();
  }

 private:
  static constexpr int kConsumers = 384;  // threads
  using Scores = Accumulator<1, kKeys / 8>;
  // Instructions of 256 columns want more than the 128 registers that 512 threads begin with.
  static constexpr int kPartColumns = kColumns % 128 == 0 ? 128 : 64, kParts = kColumns / kPartColumns;
  using OutputPart = Accumulator<1, kPartColumns / 8>;
  using TileWeights = Weights<Element, 1, kKeys / 8>;
  static constexpr int kSteps = kKeys / 16;

  // A tile's columns come and go in groups, so that its scores begin with the first of them, and the next tile's are
  // asked for when the first are done with: those of each part of the output, and those that are no values.
  static constexpr int kPartChunks = kPartColumns / 64, kGroups = 2 * kParts + 1;
  __device__ static constexpr int first_chunk(int group) { return group * kPartChunks; }
  __device__ static constexpr int chunks_of(int group) {
    return group < kGroups - 1 ? kPartChunks : KeyTile::kChunks - kValueChunks;
  }
  /// The group that comes as the `n`-th: of both halves by turns, as they are let go of.
  __device__ static constexpr int group_in_turn(int n) { return n < kGroups - 1 ? n % 2 * kParts + n / 2 : n; }

  struct Exchange {
    unsigned long long barriers[(2 * kGroups + 1) * kStages];
    float rescale[kStages][kRows];  // what the output so far is multiplied with
    float base[kRows], sum[kRows];  // in the end, in log2 units
  };
  __device__ static Exchange& exchange() {
    __shared__ Exchange shared;
    return shared;
  }
  /// A group of a tile's columns is there; it may be overwritten; the tile's weights are there.
  __device__ static Barrier barrier(int number) {
    return {static_cast<unsigned>(__cvta_generic_to_shared(exchange().barriers + number))};
  }
  __device__ static Barrier full(int stage, int group) { return barrier(stage * kGroups + group); }
  __device__ static Barrier empty(int stage, int group) { return barrier((kStages + stage) * kGroups + group); }
  __device__ static Barrier weighed(int stage) { return barrier(2 * kGroups * kStages + stage); }

  __device__ static void create_barriers() {
    for (int stage = 0; stage < kStages; ++stage) {
      for (int group = 0; group < kGroups; ++group) {
        full(stage, group).create(1);
        empty(stage, group).create(group < kGroups - 1 ? 4 : 8);  // warps that read its values, or the weights there
      }
      weighed(stage).create(4);
    }
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
#pragma unroll
    for (int chunk = threadIdx.x; chunk < kRows * kChunks; chunk += kThreads) {
      const int row = chunk / kChunks, column = chunk % kChunks * 8;
      const bool exists = first_row_ + row < rows();
      copy_async(query_tile().at(row, column), this->query_data(exists ? row : 0) + column, exists);
    }
    cuda::commit_copies();
    cuda::wait_for_copies<0>();
  }

  /// Those of the first stages have been started.
  template <class Walk>
  __device__ void produce(const Walk& tiles, int begin, int end) const {
    Turn<kStages> turn{kStages};
#pragma unroll 1
    for (int i = begin + kStages; i < end; ++i, turn = turn.plus(1))
      start_loading(tiles.visit(i), turn, [&](int group) { empty(turn.stage(), group).wait(turn.parity() ^ 1); });
  }

  /// Each group when wait_for(group) comes back.
  template <class Wait>
  __device__ void start_loading(const Visit& visit, Turn<kStages> turn, const Wait& wait_for) const {
    sm90::Rows keys{&call_.k, f_.keys_packed ? 0 : this->sequence_, this->kv_head_};
    const int first_key = f_.keys_packed ? shape_.key_token : 0;
    const int stage = turn.stage(), row = visit.tile() * kKeys;
#pragma unroll 1
    for (int n = 0; n < kGroups; ++n) {
      const int group = group_in_turn(n);
      const Barrier barrier = full(stage, group);
      wait_for(group);
      barrier.arrive_expecting(chunks_of(group) * KeyTile::kChunkBytes);
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
        for (int i = 0; i < chunks_of(group); ++i) {
          const int chunk = first_chunk(group) + i;
          keys.start(key_tile(stage).chunk(chunk) + (from - row) * 128, 64 * chunk, at, barrier);
        }
      }
    }
  }

  /// Where a tile reaches over the ends of its sequence, its rows may be another's, or NaN: zeros for them.
  __device__ void clear_missing_keys(const Visit& visit, Turn<kStages> turn) const {
    const int first = visit.tile() * kKeys;
    if (first >= shape_.key_start && first + kKeys <= shape_.keys) return;
    for (int group = 0; group < kGroups; ++group) full(turn.stage(), group).wait(turn.parity());
    for (int row = threadIdx.x % 128 / 8; row < kKeys; row += 16) {
      if (first + row >= shape_.key_start && first + row < shape_.keys) continue;
      for (int chunk = 0; chunk < KeyTile::kChunks; ++chunk)
        store_zeros(key_tile(turn.stage()).at(row, 64 * chunk + threadIdx.x % 8 * 8));
    }
    publish_writes();
    meet(1, 128);
  }

  /// s = q k^T of a tile, as its columns come.
  __device__ void make_products(Scores& s, const Visit& visit, Turn<kStages> turn) const {
    clear_missing_keys(visit, turn);
    begin_products();
#pragma unroll
    for (int n = 0; n < kGroups; ++n) {
      const int group = group_in_turn(n);
      full(turn.stage(), group).wait(turn.parity());
#pragma unroll
      for (int i = 0; i < chunks_of(group); ++i) {
        const int chunk = first_chunk(group) + i;
        // Addresses made anew: those of 36 products would be kept in registers.
        const auto q = Operand::of(made_anew(query_tile().chunk(chunk)), kRows);
        const auto k = Operand::of(made_anew(key_tile(turn.stage()).chunk(chunk)), kKeys);
        if (n == 0 && i == 0) {
          multiply_rows<Element, true, 64>(s, q, kRows, k, kKeys);
        } else {
          multiply_rows<Element, false, 64>(s, q, kRows, k, kKeys);
        }
      }
    }
    commit_products();
    wait_for_products<0>();
    pin(s);
  }

  /// Products turned into scores; returns their factor to log2 units.
  template <bool kPartial>
  __device__ float score(Scores& s, const Visit& visit) const {
    constexpr int kEntries = kKeys / 2;  // of a lane
    const auto score_at = [&](int i, float product) {
      return Rows::template score_of<kPartial>(lane_row() + i / 2 % 2 * 8,
                                               visit.tile() * kKeys + i / 4 * 8 + lane() % 4 * 2 + i % 2, product);
    };
    if constexpr (Variant::kChangesScores) {
#pragma unroll
      for (int i = 0; i < kEntries; ++i) s.x[0][i / 4][i % 4] = score_at(i, s.x[0][i / 4][i % 4]);
      return kLog2E;
    } else {
      if constexpr (kPartial) {
        // A bit for each entry, one after the other: all of them at once take registers that products want.
        unsigned stays = 0;
#pragma unroll 1
        for (int i = 0; i < kEntries; ++i) stays |= unsigned(score_at(i, 0) != -infinity()) << i;
#pragma unroll
        for (int i = 0; i < kEntries; ++i) s.x[0][i / 4][i % 4] = stays >> i & 1 ? s.x[0][i / 4][i % 4] : -infinity();
      }
      return f_.scale * kLog2E;
    }
  }

  /// Scores and weights.
  template <class Walk>
  __device__ void weigh(const Walk& tiles, int begin, int end) const {
    RowStatistics<1> statistics;
    statistics.clear(first_row_ + lane_row(), rows());
    Turn<kStages> turn;
#pragma unroll 1
    for (int i = begin; i < end; ++i, turn = turn.plus(1)) {
      const Visit visit = tiles.visit(i);
      Scores s;
      make_products(s, visit, turn);
      make_weights(s, statistics, visit, turn.stage());
    }
    tell_rows(statistics);
  }

  /// A tile's weights, and what the output so far is rescaled by where rows get other bases, told to the others.
  __device__ void make_weights(Scores& s, RowStatistics<1>& statistics, const Visit& visit, int stage) const {
    const float factor = visit.is_partial() ? score<true>(s, visit) : score<false>(s, visit);
    const float old_base[2] = {statistics.base[0][0], statistics.base[0][1]};
    TileWeights made;
    made.make(s, factor, statistics);
    if (!statistics.all_based() || made.outgrown()) {
      Accumulator<1, 1> no_output;
      no_output.clear();
      statistics.rebase(s, factor, no_output);
      made = TileWeights();
      made.make(s, factor, statistics);
    }
    made.add_sums_to(statistics);
    tell(made, old_base, statistics, stage);
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

  /// o += weights v, a warpgroup's half of the columns.
  __device__ void follow(int begin, int end, int half) const {
    OutputPart o[kParts];
#pragma unroll
    for (OutputPart& part : o) part.clear();
    Turn<kStages> turn;
#pragma unroll 1
    for (int i = begin; i < end; ++i, turn = turn.plus(1)) {
      const int stage = turn.stage();
      weighed(stage).wait(turn.parity());
      rescale(o, stage);
      begin_products();
      const auto weights = Operand::of(made_anew(weight_tile(stage).address), kRows);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const Operand values = Operand::of(made_anew(key_tile(stage).chunk(first_chunk(half * kParts + part))), kKeys);
        add_product<Element, kSteps>(o[part], weights, values);
        commit_products();
      }
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        if (part < kParts - 1) {
          wait_for_products<1>();
        } else {
          wait_for_products<0>();
        }
        pin(o[part]);
        empty(stage, half * kParts + part).arrive_if(is_first_lane());
      }
      empty(stage, kGroups - 1).arrive_if(is_first_lane());
    }
    meet(2, kConsumers);  // all products are done, whose operands' place the output takes
#pragma unroll
    for (int part = 0; part < kParts; ++part) store_output(o[part], half * kColumns + part * kPartColumns);
  }

  __device__ void rescale(OutputPart (&o)[kParts], int stage) const {
    const float near = exchange().rescale[stage][lane_row()], far = exchange().rescale[stage][lane_row() + 8];
    if (__all_sync(~0u, near == 1 && far == 1)) return;
#pragma unroll
    for (OutputPart& part : o) {
#pragma unroll
      for (int j = 0; j < kPartColumns / 8; ++j) {
        part.x[0][j][0] *= near, part.x[0][j][1] *= near;
        part.x[0][j][2] *= far, part.x[0][j][3] *= far;
      }
      pin(part);
    }
  }

  /// Weights and rescaling, to the warpgroups of the output.
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

  __device__ float* sums_of(int row) const { return reinterpret_cast<float*>(shared_memory_) + row * kSumColumns; }

  /// Columns of the rows' sums from `column` on, to shared memory.
  __device__ void store_output(const OutputPart& o, int column) const {
    float* const near = sums_of(lane_row()) + column + lane() % 4 * 2;
    float* const far = sums_of(lane_row() + 8) + column + lane() % 4 * 2;
#pragma unroll
    for (int j = 0; j < kPartColumns / 8; ++j) {
      *reinterpret_cast<float2*>(near + 8 * j) = make_float2(o.x[0][j][0], o.x[0][j][1]);
      *reinterpret_cast<float2*>(far + 8 * j) = make_float2(o.x[0][j][2], o.x[0][j][3]);
    }
  }

  __device__ void write_rows() const {
    const int existing = rows() - first_row_ < kRows ? rows() - first_row_ : kRows;
    for (int row = warp() - 4; row < existing; row += kConsumers / 32) {
      if (this->a_.splits > 1) {
        write_part(row);
      } else {
        this->write_row(row, exchange().base[row], exchange().sum[row],
                        [&](int column) { return sums_of(row)[column]; });
      }
    }
  }

  /// A split's part of a row, 16 bytes a lane: by 4, from rows that share banks, a call took 4% longer.
  __device__ void write_part(int row) const {
    const float base = exchange().base[row], sum = exchange().sum[row], multiplier = sum == 0 ? 0 : 1 / sum;
    const long long place = this->part_of(row);
    const auto* const from = reinterpret_cast<const float4*>(sums_of(row));
    auto* const to = reinterpret_cast<float4*>(this->a_.o + place * Config::kHeadV);
#pragma unroll
    for (int i = lane(); i < Config::kHeadV / 4; i += 32) {
      const float4 x = from[i];
      to[i] = make_float4(x.x * multiplier, x.y * multiplier, x.z * multiplier, x.w * multiplier);
    }
    if (lane() == 0) this->a_.lse[place] = base + log2f(sum);
  }

  const LatentCall& call_;
  unsigned char* const shared_memory_;
  const unsigned shared_;
};

}  // namespace tilewise::cuda::sm90
