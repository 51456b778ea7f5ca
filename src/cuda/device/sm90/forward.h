// Forward attention for compute capability 9.0: docs/kernels/hopper.md draws how it runs.
#pragma once

#include "philox.h"
#include "sm90/lane_scores.h"
#include "sm90/schedule.h"
#include "sm90/store.h"
#include "sm90/tma.h"
#include "sm90/wgmma.h"
#include "sm90_call.h"
#include "softmax.h"
#include "walk.h"

namespace tilewise::cuda::sm90 {

/// A block: two producer threads, which start all copies to shared memory, and kConsumers warpgroups of 64 queries
/// each, which compute. It takes pieces of work until none is left.
///
/// Config has
///   Element                      of q, k, v and o
///   kHeadQk, kHeadV              d_qk, d_v
///   kConsumers                   warpgroups that compute
///   kKeyTile, kStages            keys of a tile, and how many tiles of k, and of v, are in shared memory
///   kQueryInRegisters            q stays in registers; otherwise it is read from shared memory for each tile
///   kProducerRegisters, kConsumerRegisters
///   kPolynomials                 of 8 exponentials of scored tiles, how many are made by polynomials
///   kHasLists, kHasDropout
///   kIsPaged                     k and v lie in pages of multiples of 8 tokens
template <class Config, class Variant>
class Forward {
 public:
  using Element = typename Config::Element;
  static constexpr int kConsumers = Config::kConsumers, kKeyTile = Config::kKeyTile, kStages = Config::kStages;
  static constexpr int kThreads = 128 * (1 + kConsumers), kQueryTile = 64 * kConsumers;
  static constexpr int kColumnsQk = (Config::kHeadQk + 15) / 16 * 16;
  static constexpr int kColumnsV = (Config::kHeadV + 15) / 16 * 16;
  using QueryTile = ChunkedTile<kQueryTile, kColumnsQk>;
  using KeyTile = ChunkedTile<kKeyTile, kColumnsQk>;
  using ValueTile = ChunkedTile<kKeyTile, kColumnsV>;

  /// What a consumer keeps of its piece of work: in shared memory, since little of it is read for a full tile.
  struct Place {
    Work work;
    SequenceShape shape;
    typename Variant::Place variant;
  };
  /// Keys and diagonals of a tile are made while the tile before is at work; some warps may then read those of two
  /// tiles before.
  static constexpr int kKeptStages = 4;
  struct Kept {
    Place place;
    KeptValues<Variant, 64, kKeyTile, 2, kKeptStages, kKeptStages> values;
  };
  using Values = decltype(Kept::values);
  static constexpr bool kKeepsOfTiles = Values::kKeepsKeys || Values::kKeepsDiagonals;
  using Lane = LaneScores<Variant, Values, kKeyTile>;

  static constexpr int kTileBytes = QueryTile::kBytes + kStages * (KeyTile::kBytes + ValueTile::kBytes);
  static constexpr int kKeptBarriersAt = 2 + 4 * kStages;
  static constexpr int kBarriers = kKeptBarriersAt + (kKeepsOfTiles ? kKeptStages * kConsumers : 0);
  static constexpr int kWorkAt = (kTileBytes + 8 * kBarriers + 15) / 16 * 16, kKeptAt = kWorkAt + 16;
  static constexpr int kKeptBytes = (int(sizeof(Kept)) + 15) / 16 * 16;
  static constexpr int kSharedBytes = kKeptAt + kConsumers * kKeptBytes;

  __device__ Forward(const ForwardCall& call, const typename Variant::Arguments& variant, unsigned char* shared)
      : call_(call),
        arguments_(call.arguments),
        variant_(variant),
        shared_(shared),
        base_(static_cast<unsigned>(__cvta_generic_to_shared(shared))) {}

  __device__ void run() {
    // The same for all threads of a warp, which the compiler cannot see by itself.
    const int warpgroup = __shfl_sync(~0u, threadIdx.x / 128, 0);
    if (threadIdx.x == 0) {
      if (base_ % 1024 != 0) __trap();  // what swizzling rests on
      create_barriers();
    }
    __syncthreads();
    if (warpgroup == 0) {
      shrink_registers<Config::kProducerRegisters>();
      if (threadIdx.x == 0) {
        produce_keys();
      } else if (threadIdx.x == 32) {
        produce_values();
      }
    } else {
      grow_registers<Config::kConsumerRegisters>();
      consume(warpgroup - 1);
    }
  }

 private:
  using Scores = Accumulator<1, kKeyTile / 8>;
  using Output = Accumulator<1, kColumnsV / 8>;
  using TileWeights = Weights<Element, 1, kKeyTile / 8>;
  static constexpr int kSteps = kKeyTile / 16;
  using Fragments = LeftFragment[kSteps];
  using QueryFragments = LeftFragment[kColumnsQk / 16];

  __device__ QueryTile query_tile() const { return {base_}; }
  __device__ KeyTile key_tile(int stage) const { return {base_ + QueryTile::kBytes + stage * KeyTile::kBytes}; }
  __device__ ValueTile value_tile(int stage) const {
    return {base_ + QueryTile::kBytes + kStages * KeyTile::kBytes + stage * ValueTile::kBytes};
  }
  __device__ Barrier barrier(int index) const { return {base_ + kTileBytes + 8 * index}; }
  __device__ Barrier query_full() const { return barrier(0); }
  __device__ Barrier query_empty() const { return barrier(1); }
  __device__ Barrier key_full(int stage) const { return barrier(2 + stage); }
  __device__ Barrier key_empty(int stage) const { return barrier(2 + kStages + stage); }
  __device__ Barrier value_full(int stage) const { return barrier(2 + 2 * kStages + stage); }
  __device__ Barrier value_empty(int stage) const { return barrier(2 + 3 * kStages + stage); }
  __device__ Barrier kept_full(int consumer, int stage) const {
    return barrier(kKeptBarriersAt + kKeptStages * consumer + stage);
  }
  __device__ Work& shared_work() const { return *reinterpret_cast<Work*>(shared_ + kWorkAt); }

  /// What is full takes a producer's arrival and its bytes; what is empty one arrival of every consumer's warp.
  /// Queries, with which the work is told, also one of the producer of values.
  __device__ void create_barriers() const {
    query_full().create(1);
    query_empty().create(4 * kConsumers + 1);
    for (int stage = 0; stage < kStages; ++stage) {
      key_full(stage).create(1);
      key_empty(stage).create(4 * kConsumers);
      value_full(stage).create(1);
      value_empty(stage).create(4 * kConsumers);
    }
    for (int i = kKeptBarriersAt; i < kBarriers; ++i) barrier(i).create(4);
    publish_barriers();
  }

  /// The key tiles of a piece of work, from where queries meet their own positions: masks most often keep something of
  /// every row there, and biases by distance are largest, so that rows have a base from then on and seldom outgrow it.
  __device__ auto walk_of(const Work& work, const SequenceShape& shape) const {
    const int position = work.query_tile * kQueryTile + kQueryTile / 2 + shape.query_offset;
    const int tile = ::max(position - shape.key_offset, 0) / kKeyTile;
    if constexpr (Config::kHasLists) {
      const ListWalk walk(arguments_.lists, work.sequence, work.head, work.query_tile);
      return rotated(walk, tile);
    } else if constexpr (Variant::kChangesScores) {
      return rotated(DenseWalk(shape, kKeyTile), tile);
    } else {
      return DenseWalk(shape, kKeyTile);
    }
  }

  /// From `tile` on, or about there where the walk leaves tiles out.
  template <class Walk>
  __device__ static RotatedWalk<Walk> rotated(const Walk& walk, int tile) {
    const int last = walk.count() - 1;
    return {walk, last > 0 ? ::min(::max(tile - walk.visit(0).tile(), 0), last) : 0};
  }

  // ---- The producers.

  /// Takes the work, tells it to all others, and loads queries and keys.
  __device__ void produce_keys() const {
    Turn<kStages> turn;
    unsigned query_parity = 1;  // nothing is to be waited for at first
    for (Schedule schedule(call_); schedule.has_work(); schedule.advance()) {
      const Work work = schedule.template work<Config::kHasLists>();
      const SequenceShape& shape = arguments_.sequences[work.sequence];
      if (work.query_tile * kQueryTile >= shape.queries) continue;
      query_empty().wait(query_parity);
      query_parity ^= 1;
      shared_work() = work;
      query_full().arrive_expecting(QueryTile::kBytes);
      const int first_query = (arguments_.queries_packed ? shape.query_token : 0) + work.query_tile * kQueryTile;
      const Rows q{&call_.q, arguments_.queries_packed ? 0 : work.sequence, work.head};
#pragma unroll 1
      for (int chunk = 0; chunk < QueryTile::kChunks; ++chunk) {
        q.start(query_tile().chunk(chunk), 64 * chunk, first_query, query_full());
      }
      load_tiles<KeyTile>(call_.k, work, key_tile(0), 2, turn);
    }
    query_empty().wait(query_parity);
    shared_work().query_tile = -1;
    query_full().arrive();
  }

  /// Loads values.
  __device__ void produce_values() const {
    Turn<kStages> turn;
    for (unsigned query_parity = 0;; query_parity ^= 1) {
      query_full().wait(query_parity);
      const Work work = shared_work();
      query_empty().arrive();
      if (work.query_tile < 0) break;
      load_tiles<ValueTile>(call_.v, work, value_tile(0), 2 + 2 * kStages, turn);
    }
  }

  /// `first`: of the ring; its barriers begin with that number, those that say full before those that say empty.
  template <class Tile>
  __device__ void load_tiles(const TensorMap& map, const Work& work, const Tile& first, int barriers,
                             Turn<kStages>& turn) const {
    const SequenceShape& shape = arguments_.sequences[work.sequence];
    Rows rows{&map, arguments_.keys_packed ? 0 : work.sequence, work.head / arguments_.heads_per_kv};
    const int first_key = arguments_.keys_packed ? shape.key_token : 0;
    const auto walk = walk_of(work, shape);
#pragma unroll 1
    for (int i = 0; i < walk.count(); ++i) {
      const int row = first_key + walk.visit(i).tile() * kKeyTile;
      const unsigned stage = made_anew(turn.stage());
      const Barrier full = barrier(barriers + stage), empty = barrier(barriers + kStages + stage);
      empty.wait(turn.parity() ^ 1);
      full.arrive_expecting(Tile::kBytes);
      unsigned to = first.address + stage * Tile::kBytes;
      if constexpr (Config::kIsPaged) {
        load_pages<Tile>(rows, work.sequence, shape.keys, row, to, full);
      } else {
#pragma unroll 1
        for (int column = 0; column < Tile::kChunks * 64; column += 64, to += Tile::kChunkBytes) {
          rows.start(to, column, row, full);
        }
      }
      turn = turn.plus(1);
    }
  }

  /// A tile's rows from their pages, box by box. Outside of the tensor everything is zero: so are the rows of a hole,
  /// whose number is no page's, and rows behind the last page.
  template <class Tile>
  __device__ void load_pages(Rows rows, int sequence, int keys, int first_row, unsigned to, const Barrier& full) const {
    const PageTable& pages = arguments_.pages;
    const int* const table = pages.table + sequence * pages.sequence;
#pragma unroll 1
    for (int row = first_row; row < first_row + kKeyTile; row += call_.box_rows, to += call_.box_rows * 128) {
      const int page = row / pages.page_tokens;
      rows.batch = row < keys ? __ldg(table + page) : -1;
      unsigned chunk = to;
#pragma unroll 1
      for (int column = 0; column < Tile::kChunks * 64; column += 64, chunk += Tile::kChunkBytes) {
        rows.start(chunk, column, row - page * pages.page_tokens, full);
      }
    }
  }

  // ---- The consumers.

  __device__ static int lane() { return threadIdx.x % 32; }
  __device__ static int warp_row() { return threadIdx.x / 32 % 4 * 16; }  // in the consumer's 64 queries
  __device__ static bool is_first_lane() { return threadIdx.x % 32 == 0; }

  __device__ Kept& kept_of(int consumer) const {
    return *reinterpret_cast<Kept*>(shared_ + kKeptAt + consumer * kKeptBytes);
  }

  /// A piece of work of a consumer.
  struct Piece {
    int consumer;
    int parity;  // of its number
  };
  __device__ const Place& place_of(const Piece& piece) const { return kept_of(piece.consumer).place; }
  __device__ int first_query(const Piece& piece) const {
    return place_of(piece).work.query_tile * kQueryTile + 64 * piece.consumer;
  }
  /// The index of the lane's first query.
  __device__ int lane_query(const Piece& piece) const { return first_query(piece) + warp_row() + lane() / 4; }

  __device__ void consume(int consumer) {
    Turn<kStages> turn;
    Turn<kKeptStages> kept_turn;
    Piece piece{consumer, 0};
    for (;; piece.parity ^= 1) {
      query_full().wait(piece.parity);
      const Work work = shared_work();
      if (work.query_tile < 0) break;
      prepare(piece, work);
      QueryFragments q;
      if constexpr (Config::kQueryInRegisters) {
        load_queries(q, consumer);
        query_empty().arrive_if(is_first_lane());
      }
      Output o;
      RowStatistics<1> rows;
      o.clear();
      rows.clear(0, 1 << 30);
      attend(walk_of(work, place_of(piece).shape), piece, q, o, rows, turn, kept_turn);
      if constexpr (!Config::kQueryInRegisters) query_empty().arrive_if(is_first_lane());
      finish(place_of(piece), lane_query(piece), o, rows);
    }
  }

  __device__ void prepare(const Piece& piece, const Work& work) const {
    const SequenceShape shape = arguments_.sequences[work.sequence];
    const auto variant = Variant::place_of(variant_, shape, work.sequence, work.head,
                                           work.head / arguments_.heads_per_kv, arguments_.scale);
    // All are done with the piece before. Two places by turns would need no meeting, but all tiles at d 64 then took
    // 12% longer, and at d 128 5%; lists took the same.
    meet(1 + piece.consumer, 128);
    if (threadIdx.x % 128 == 0) kept_of(piece.consumer).place = {work, shape, variant};
    kept_of(piece.consumer)
        .values.make_queries(variant_, variant, piece.parity, work.query_tile * kQueryTile + 64 * piece.consumer);
    meet(1 + piece.consumer, 128);
  }

  /// What the variant keeps for a tile.
  __device__ void prepare_tile(const Visit& visit, const Piece& piece, Turn<kKeptStages> turn) const {
    if constexpr (kKeepsOfTiles) {
      const int first_key = visit.tile() * kKeyTile;
      const typename Variant::Place& place = place_of(piece).variant;
      kept_of(piece.consumer).values.make_keys(variant_, place, turn.stage(), first_key);
      kept_of(piece.consumer).values.make_diagonals(variant_, place, turn.stage(), first_query(piece), first_key);
      __syncwarp();
      kept_full(piece.consumer, turn.stage()).arrive_if(is_first_lane());
    }
  }
  __device__ void wait_for_tile(const Piece& piece, Turn<kKeptStages> turn) const {
    if constexpr (kKeepsOfTiles) kept_full(piece.consumer, turn.stage()).wait(turn.parity());
  }

  __device__ void load_queries(QueryFragments& q, int consumer) const {
    const int row = 64 * consumer + warp_row() + lane() % 16;
#pragma unroll
    for (int k = 0; k < kColumnsQk / 16; ++k) {
      load_matrices(q[k].pairs, query_tile().at(row, 16 * k + lane() / 16 * 8));
    }
  }

  /// s = q k^T of the tile in a stage, started.
  __device__ void start_scores(Scores& s, const QueryFragments& q, int consumer, int stage) const {
    const Operand k = Operand::of(key_tile(stage).address, kKeyTile);
    if constexpr (Config::kQueryInRegisters) {
      multiply_rows<Element, true>(s, q, k, kKeyTile);
    } else {
      multiply_rows<Element, true, kColumnsQk>(s, Operand::of(query_tile().address + consumer * 64 * 128, kQueryTile),
                                               kQueryTile, k, kKeyTile);
    }
    commit_products();
  }

  /// o += weights v of the tile in a stage, started.
  __device__ void start_output(Output& o, const Fragments& weights, int stage) const {
    add_product<Element>(o, weights, Operand::of(value_tile(stage).address, kKeyTile));
    commit_products();
  }

  /// All key tiles. While the tensor cores make a tile's products with the queries and then the output of the tile
  /// before, this consumer's exponentials wait for the first of these only.
  template <class Walk>
  __device__ void attend(const Walk& walk, const Piece& piece, const QueryFragments& q, Output& o,
                         RowStatistics<1>& rows, Turn<kStages>& turn, Turn<kKeptStages>& kept_turn) const {
    const int count = walk.count(), consumer = piece.consumer;
    if (count == 0) return;
    prepare_tile(walk.visit(0), piece, kept_turn);
    Scores s;
    Fragments weights;
    Visit visit = walk.visit(0);
    key_full(turn.stage()).wait(turn.parity());
    begin_products();
    start_scores(s, q, consumer, turn.stage());
    if (count > 1) prepare_tile(walk.visit(1), piece, kept_turn.plus(1));
    wait_for_products<0>();
    pin(s);
    key_empty(turn.stage()).arrive_if(is_first_lane());
    float factor = arguments_.scale * kLog2E;
    wait_for_tile(piece, kept_turn);
    if (Variant::kChangesScores || visit.is_partial()) {
      make_exponents(s, lane_of(visit, piece, kept_turn.stage()), piece);
      factor = 1;
    }
    rows.rebase(s, factor, o);
    {
      TileWeights first;
      first.make(s, factor, rows);
      first.add_sums_to(rows);
      if constexpr (Config::kHasDropout) drop(first, visit, piece);
      move(weights, first.fragments);
    }
    for (int i = 1; i < count; ++i) {
      const Visit last = visit;
      visit = walk.visit(i);
      const Turn<kStages> keys = turn.plus(1);
      key_full(keys.stage()).wait(keys.parity());
      pin(o);
      begin_products();
      start_scores(s, q, consumer, keys.stage());
      value_full(turn.stage()).wait(turn.parity());
      clear_missing_values(last, piece, turn.stage());
      start_output(o, weights, turn.stage());
      kept_turn = kept_turn.plus(1);
      if (i + 1 < count) prepare_tile(walk.visit(i + 1), piece, kept_turn.plus(1));
      wait_for_products<1>();
      pin(s);
      key_empty(keys.stage()).arrive_if(is_first_lane());
      // The second wait stands behind a branch, which the assembler does not move it across: in front of it, it would
      // come before the exponentials.
      TileWeights next;
      if constexpr (Variant::kChangesScores) {
        wait_for_tile(piece, kept_turn);
        const Lane lane = lane_of(visit, piece, kept_turn.stage());
        bool is_classical = visit.is_partial();
        if (!is_classical) {
          next.template make_of<Config::kPolynomials>(
              [&](int, int j, int e, float base) {
                return lane.exponent(e / 2 * 8, 8 * j + e % 2, s.x[0][j][e]) - base;
              },
              rows);
          is_classical = next.outgrown(rows);
        }
        if (is_classical) {
          // A lane of its own: what the other one knows need not outlive its weights.
          make_exponents(s, lane_of(visit, piece, made_anew(kept_turn.stage())), piece);
          wait_for_products<0>();
          pin(o);
          rows.rebase(s, 1, o);
          next = TileWeights();
          next.make(s, 1, rows);
        }
      } else {
        factor = arguments_.scale * kLog2E;
        if (visit.is_partial()) {
          make_exponents(s, lane_of(visit, piece, 0), piece);
          factor = 1;
        }
        next.make(s, factor, rows);
        if (next.outgrown()) {
          wait_for_products<0>();
          pin(o);
          rows.rebase(s, factor, o);
          next = TileWeights();
          next.make(s, factor, rows);
        }
      }
      wait_for_products<0>();
      pin(o);
      value_empty(turn.stage()).arrive_if(is_first_lane());
      next.add_sums_to(rows);
      if constexpr (Config::kHasDropout) drop(next, visit, piece);
      move(weights, next.fragments);
      turn = keys;
    }
    value_full(turn.stage()).wait(turn.parity());
    clear_missing_values(visit, piece, turn.stage());
    pin(o);
    begin_products();
    start_output(o, weights, turn.stage());
    wait_for_products<0>();
    pin(o);
    value_empty(turn.stage()).arrive_if(is_first_lane());
    turn = turn.plus(1);
    kept_turn = kept_turn.plus(1);
  }

  /// Registers that a product has read are written only here, when none is under way: otherwise the assembler waits for
  /// each product by itself (its remark C7513). Plain copies it would merge.
  __device__ static void move(Fragments& to, const LeftFragment (&from)[kSteps][1]) {
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
#pragma unroll
      for (int r = 0; r < 4; ++r) asm volatile("mov.b32 %0, %1;" : "=r"(to[k].pairs[r]) : "r"(from[k][0].pairs[r]));
    }
  }

  __device__ Lane lane_of(const Visit& visit, const Piece& piece, unsigned kept_stage) const {
    const int stage = int(kept_stage);
    return Lane(variant_, place_of(piece).variant, kept_of(piece.consumer).values, piece.parity, stage, stage,
                first_query(piece), visit.tile() * kKeyTile, warp_row() + lane() / 4, lane() % 4 * 2);
  }

  /// Products of a tile turned into scores in log2 units, -inf for what is removed or does not exist.
  __device__ void make_exponents(Scores& s, const Lane& lane, const Piece& piece) const {
    const Place& place = place_of(piece);
    [[maybe_unused]] const float factor = arguments_.scale * kLog2E;
#pragma unroll
    for (int j = 0; j < kKeyTile / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        float& x = s.x[0][j][e];
        const int query = e / 2 * 8, key = 8 * j + e % 2, key_index = lane.key_index(key);
        const bool stays =
            (key_index >= place.shape.key_start) & (key_index < place.shape.keys) & lane.keeps(query, key);
        // Made for all of them: a branch for each would cost more.
        float exponent = factor * x;
        if constexpr (Variant::kChangesScores) exponent = Lane::clamped(lane.score(query, key, x)) * kLog2E;
        x = stays ? exponent : -infinity();
      }
    }
  }

  /// Where a tile reaches over the ends of its sequence, its values may be another's, or NaN: zeros for them. Every
  /// consumer does so by itself.
  __device__ void clear_missing_values(const Visit& visit, const Piece& piece, int stage) const {
    if (!visit.is_partial()) return;
    const Place& place = place_of(piece);
    const int first = visit.tile() * kKeyTile;
    if (first >= place.shape.key_start && first + kKeyTile <= place.shape.keys) return;
    const ValueTile tile = value_tile(stage);
    for (int row = threadIdx.x % 128 / 8; row < kKeyTile; row += 16) {
      if (first + row >= place.shape.key_start && first + row < place.shape.keys) continue;
      for (int chunk = 0; chunk < ValueTile::kChunks; ++chunk) {
        store_zeros(tile.at(row, 64 * chunk + threadIdx.x % 8 * 8));
      }
    }
    publish_writes();
    meet(1 + piece.consumer, 128);
  }

  /// Zeroes the weights that dropout drops. The others are scaled with the whole row in the end.
  __device__ void drop(TileWeights& weights, const Visit& visit, const Piece& piece) const {
    const Place& place = place_of(piece);
    const int head_index = place.work.sequence * call_.h_q + place.work.head;
    const unsigned keep_below = arguments_.dropout.keep_below;
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const unsigned bytes = dropout_bytes(arguments_.dropout, visit.tile() * kSteps + k,
                                             lane_query(piece) + 8 * half, head_index, lane() % 4);
        unsigned* pairs = weights.fragments[k][0].pairs;
        pairs[half] &= kept_halves(bytes, keep_below);
        pairs[half + 2] &= kept_halves(bytes >> 16, keep_below);
      }
    }
  }

  /// A mask for a pair of elements, from their random bytes.
  __device__ static unsigned kept_halves(unsigned bytes, unsigned keep_below) {
    return ((bytes & 0xff) < keep_below ? 0xffffu : 0) | ((bytes >> 8 & 0xff) < keep_below ? 0xffff0000u : 0);
  }

  /// Divides by the sums, with the sink's part, and writes o and lse.
  __device__ void finish(const Place& place, int query, const Output& o, const RowStatistics<1>& rows) const {
    const TensorView& view = arguments_.o;
    const int token = arguments_.queries_packed ? place.shape.query_token : 0;
    Element* const out = static_cast<Element*>(view.data) + place.work.sequence * view.batch +
                         place.work.head * view.head + token * view.row;
    float multiplier[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) multiplier[half] = close_row(place, query + 8 * half, rows, half, token);
    store_rows<Config::kHeadV>(out, view.row, query, place.shape.queries, o, multiplier);
  }

  /// Writes the row's lse and returns what turns its sums into its outputs.
  __device__ float close_row(const Place& place, int query, const RowStatistics<1>& rows, int half, int token) const {
    float base = rows.base[0][half], sum = sum_of_row(rows.sum[0][half]), multiplier = 1;
    if constexpr (Variant::kHasSink) {
      const float sink = Variant::sink_logit(variant_, place.variant) * kLog2E;
      const float joint = fmaxf(base, sink);
      multiplier = exp2_of(base - joint);
      sum = sum * multiplier + exp2_of(sink - joint);
      base = joint;
    }
    const TensorView& view = arguments_.lse;
    if (view.data != nullptr && query < place.shape.queries && lane() % 4 == 0) {
      static_cast<float*>(
          view.data)[place.work.sequence * view.batch + place.work.head * view.head + (query + token) * view.row] =
          (base + log2f(sum)) * kLn2;
    }
    if constexpr (Config::kHasDropout) multiplier *= arguments_.dropout.scale;
    return sum == 0 ? 0 : multiplier / sum;
  }

  const ForwardCall& call_;
  const ForwardArguments& arguments_;
  const typename Variant::Arguments& variant_;
  unsigned char* const shared_;
  const unsigned base_;
};

}  // namespace tilewise::cuda::sm90
