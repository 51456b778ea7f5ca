// The producers of the forward kernel: four threads of a warpgroup that has few registers, and the rest of one's warp.
#pragma once

#include "sm90/forward_shared.h"
#include "sm90/steady_tiles.h"

namespace tilewise::cuda::sm90 {

/// One takes the work, one tells it to all others and loads queries, one loads keys, one loads values. The second has
/// its warp's help where a variant keeps values that entries share.
template <class Config, class Variant>
class ForwardProducers : ForwardShared<Config, Variant> {
  using Shared = ForwardShared<Config, Variant>;
  using Told = typename Shared::Told;
  using typename Shared::KeyTile;
  using typename Shared::QueryTile;
  using typename Shared::ValueTile;
  static constexpr int kStages = Shared::kStages, kKeyTile = Shared::kKeyTile, kQueryStages = Shared::kQueryStages;
  using Shared::arguments_;
  using Shared::call_, Shared::variant_;
  /// The next piece is taken when the keys of all tiles are on their way, of a walk over few when those of all but so
  /// many are.
  static constexpr int kShortSequence = 2048, kEarlyTiles = (Config::kHasLists ? 512 : 256) / kKeyTile;
  static constexpr bool kMakesKept = Shared::Values::kKeepsQueries || Shared::kKeepsOfTiles;

 public:
  using Shared::Shared;
  static constexpr int kWorkThread = 64;

  __device__ void run() const {
    if (threadIdx.x == 0) {
      produce_keys();
    } else if (threadIdx.x == 32) {
      produce_values();
    } else if (threadIdx.x == kWorkThread) {
      produce_work();
    } else if (threadIdx.x == 96 || (kMakesKept && threadIdx.x > 96)) {
      produce_queries();
    }
  }

 private:
  /// Takes a piece when the keys of the one before are on their way: no earlier, since another block may be idle then.
  __device__ void produce_work() const {
    Turn<Shared::kToldStages> turn;
    Schedule schedule(call_);
    while (schedule.has_work()) {
      Told& told = this->told(turn.stage());
      Work work = schedule.work();
      // Asked for ahead of the row, which is written to shared memory first: one behind the other, BigBird takes 1.04
      // of the time.
      const int queries = arguments_.sequences[work.sequence].queries;
      const bool has_order = Config::kHasLists && arguments_.lists.order != nullptr;
      if (has_order) {
        const RowStart start = row_start(arguments_.lists, work.sequence, work.head, work.query_tile);
        work.query_tile = start.row;
        static_cast<WalkStart&>(told.walk) = {start.count, start.index, start.entry};
      }
      told.work = work;
      // Told to the others if the row has queries; read back one by one from here on: this thread has few registers.
      if (work.query_tile * Shared::kQueryTile < queries) {
        forget();
        if constexpr (!Shared::kTellsLists) tell_kv_head(told);
        told.shape = arguments_.sequences[told.work.sequence];
        forget();
        if constexpr (Config::kEndsWithQueries) {
          told.walk.first_query = this->first_query_of(told.work, told.shape);
          forget();
        }
        if (!has_order) static_cast<WalkStart&>(told.walk) = this->start_of(told.work, told.shape);
        this->told_begun(turn.stage()).arrive();
        this->keys_sent().wait(turn.count & 1);
        turn = turn.plus(1);
        this->told_empty(turn.stage()).wait(turn.parity() ^ 1);
      }
      schedule.advance();
    }
    this->told(turn.stage()).work.query_tile = -1;
    this->told_begun(turn.stage()).arrive();
  }

  __device__ void produce_queries() const {
    PieceNumber piece(this->kept());
    if constexpr (kMakesKept) this->kept().made = 0;
    for (;;) {
      const auto stage = [&] { return piece.turn().stage(); };
      this->told_begun(stage()).wait(piece.turn().parity());
      if (this->told(stage()).work.query_tile >= 0) {
        if (is_first()) tell_variant(this->told(stage()));
        meet_lanes();
        const Told& told = this->told(stage());
        this->kept().make_queries(variant_, told.variant, stage(), this->first_query_of(told));
        meet_lanes();
      }
      this->told_full(stage()).arrive_if(is_first());
      if (this->told(stage()).work.query_tile < 0) break;
      if (is_first()) load_queries(this->told(stage()), piece.turn());
      if constexpr (Shared::kKeepsOfTiles) keep_of_tiles(this->told(stage()));
      meet_lanes();
      this->told_empty(stage()).arrive_if(is_first());
      piece.advance();
    }
  }
  /// The number of the piece whose queries are at work. Anew for each use: what is told, and its barriers, would each
  /// keep an address. A warp that makes values has no register for it: there it lies in shared memory, but for
  /// scores that may be linear along a tile's rows: ALiBi took 1.02 of the time by it, and has the register.
  class PieceNumber {
   public:
    __device__ explicit PieceNumber(typename Shared::Kept& kept) : kept_(kept) {
      if constexpr (kIsInShared) kept_.pieces = 0, __syncwarp();
    }
    __device__ Turn<Shared::kToldStages> turn() const { return {kIsInShared ? in_shared() : made_anew(number_)}; }
    __device__ void advance() {
      ++number_;
      if constexpr (kIsInShared) {
        const unsigned next = in_shared() + 1;
        __syncwarp();
        kept_.pieces = next;
        __syncwarp();
      }
    }

   private:
    static constexpr bool kIsInShared = kMakesKept && !Variant::kMayBeLinear;
    __device__ unsigned in_shared() const { return static_cast<const volatile unsigned&>(kept_.pieces); }
    typename Shared::Kept& kept_;
    unsigned number_ = 0;
  };
  /// By the thread that has registers for it.
  __device__ void tell_kv_head(Told& told) const { told.work.kv_head = told.work.head / arguments_.heads_per_kv; }
  __device__ void tell_list(Told& told) const {
    const TileLists& lists = arguments_.lists;
    const Work& work = told.work;
    told.walk.list = lists.tiles + list_of(lists, work.sequence, work.head, work.query_tile) * lists.capacity;
    forget();
  }
  __device__ void tell_variant(Told& told) const {
    // What follows from them alone would be kept in registers from piece to piece, and spill.
    const auto& bound = (&variant_)[made_anew(0)];
    const Work& work = told.work;
    if constexpr (Shared::kTellsLists) tell_kv_head(told), tell_list(told);
    told.variant = Variant::place_of(bound, told.shape, work.sequence, work.head, work.kv_head, arguments_.scale);
    if constexpr (Shared::kTellsLists) forget();  // what it took is read anew: padding would spill
    if constexpr (Shared::ValuesOfTile::kTransposed) tell_scales(told);
    if constexpr (Shared::kTakesEarly) {
      const int last = told.walk.count - 1;
      // Of short sequences at once. Elsewhere a block that took some short rows ahead would be the last one to end.
      const bool is_short = told.shape.keys <= kShortSequence;
      told.walk.taken_at =
          last >= kShortSequence / kKeyTile || (last <= kEarlyTiles && !is_short) ? last : ::max(last - kEarlyTiles, 0);
    }
  }
  __device__ static bool is_first() { return !kMakesKept || thread_read_anew() % 32 == 0; }
  __device__ static void meet_lanes() {
    if constexpr (kMakesKept) __syncwarp();
  }

  __device__ void load_queries(const Told& told, const Turn<Shared::kToldStages>& piece) const {
    const Work& work = told.work;
    const Turn<kQueryStages> turn{made_anew(piece.count)};
    const Barrier full = this->query_full(turn.stage());
    this->query_empty(turn.stage()).wait(turn.parity() ^ 1);
    full.arrive_expecting(QueryTile::kBytes);
    const int first_query = (arguments_.queries_packed ? told.shape.query_token : 0) + this->first_query_of(told);
    const Rows q{&call_.q, arguments_.queries_packed ? 0 : work.sequence, work.head};
    const QueryTile tile = this->query_tile(turn.stage());
#pragma unroll 1
    for (int chunk = 0; chunk < QueryTile::kChunks; ++chunk) {
      q.start(tile.chunk(chunk), Shared::kChunkElements * chunk, first_query, full);
    }
  }

  /// What a piece's tiles keep. Whether they are steady is asked for many together, by a lane about one of them.
  /// What follows from the piece is made anew for each tile, and not kept.
  __device__ void keep_of_tiles(const Told& told) const {
    unsigned made = this->kept().made;
#pragma unroll 1
    for (int i = 0; i < told.walk.count; ++i, ++made) {
      forget();
      if (Shared::kKnowsSteady && i % Shared::kAhead == 0) look_ahead(told, i, made);
      if (made >= unsigned(Shared::kKeptAhead)) {
        const Turn<kStages> before{made - Shared::kKeptAhead};
        this->key_empty(before.stage()).wait(before.parity());
      }
      auto& kept = this->kept();
      const int stage = made_anew(made) % Shared::kKeptStages;
      const int first_key = this->walk_of(told).visit(i).tile() * kKeyTile;
      kept.make_keys(variant_, told.variant, stage, first_key);
      if (!Shared::kKnowsSteady || kept.steady_tile(made).run == 0)
        kept.make_diagonals(variant_, told.variant, stage, this->first_query_of(told), first_key);
      __syncwarp();
      this->kept_full(made_anew(made) % Shared::kKeptStages).arrive_if(is_first());
    }
    this->kept().made = made;
  }

  /// Of the piece's tiles from `index` on, the first of which is number `made` of all.
  __device__ void look_ahead(const Told& told, int index, unsigned made) const {
    if constexpr (Shared::kKnowsSteady) {
      const int lane = thread_read_anew() % 32;
      const int first_key = this->walk_of(told).visit(::min(index + lane, told.walk.count - 1)).tile() * kKeyTile;
      const int least = this->first_query_of(told) - (first_key + kKeyTile - 1);
      const auto found =
          Variant::steady_value(variant_, told.variant, least, least + Shared::kQueryTile + kKeyTile - 2);
      this->kept().steady_tile(made + lane) =
          steady_tile_of(found.value, found.is_known, index + lane + 1 < told.walk.count);
      __syncwarp();
    }
  }

  __device__ void tell_scales(Told& told) const {
    const TensorView& scales = arguments_.float8.q_scales;
    const float* const of_head =
        static_cast<const float*>(scales.data) + told.work.sequence * scales.batch + told.work.head * scales.head;
#pragma unroll 1
    for (int consumer = 0; consumer < Shared::kConsumers; ++consumer) {
      const int query = this->first_query_of(told) + 64 * consumer;
      if (query < told.shape.queries) told.query_scales[consumer] = __ldg(of_head + query / kScaleBlock * scales.row);
    }
  }

  __device__ void produce_keys() const {
    produce_tiles<KeyTile, false, true>(call_.k, this->key_tile(0), Shared::kKeysAt,
                                        [&] { this->keys_sent().arrive(); });
  }
  __device__ void produce_values() const {
    produce_tiles<ValueTile, Shared::ValuesOfTile::kTransposed, false>(call_.v, this->value_tile(0), Shared::kValuesAt,
                                                                       [] {});
  }

  /// All tiles of all pieces, to a ring whose first tile is `first`; its barriers begin with that number, those that
  /// say full before those that say empty. sent() follows each piece.
  template <class Tile, bool kTransposed, bool kAreKeys, class Sent>
  __device__ void produce_tiles(const TensorMap& map, const Tile& first, int barriers, const Sent& sent) const {
    Turn<kStages> turn;
    for (Turn<Shared::kToldStages> piece;; piece = piece.plus(1)) {
      this->told_full(piece.stage()).wait(piece.parity());
      const Told& told = this->told(piece.stage());
      if (told.work.query_tile < 0) break;
      load_tiles<Tile, kTransposed, kAreKeys>(map, told, first, barriers, turn, sent);
      this->told_empty(piece.stage()).arrive();
      if (!Shared::kTakesEarly || told.walk.count == 0) sent();
    }
  }

  template <class Tile, bool kTransposed, bool kAreKeys, class Sent>
  __device__ void load_tiles(const TensorMap& map, const Told& told, const Tile& first, int barriers,
                             Turn<kStages>& turn, const Sent& sent) const {
    const SequenceShape& shape = told.shape;
    // What is transposed has been put by sequences.
    const bool is_packed = !kTransposed && arguments_.keys_packed;
    Rows rows{&map, is_packed ? 0 : told.work.sequence, told.work.kv_head};
    const int first_key = is_packed ? shape.key_token : 0;
    const auto walk = this->walk_of(told);
    constexpr int kColumns = Shared::kChunkElements;
#pragma unroll 1
    for (int i = 0; i < walk.count(); ++i) {
      const Visit visit = walk.visit(i);
      const int row = first_key + visit.tile() * kKeyTile;
      const unsigned stage = made_anew(turn.stage());
      const Barrier full = this->barrier(barriers + stage), empty = this->barrier(barriers + kStages + stage);
      empty.wait(turn.parity() ^ 1);
      if constexpr (kAwaitsFirstKeys) {
        if (turn.count == (kAreKeys ? 1 : 0)) await_first_keys();
      }
      if constexpr (kAreKeys && Shared::kTellsLists) this->tell_visit(stage, visit);
      full.arrive_expecting(Tile::kBytes);
      unsigned to = first.address + stage * Tile::kBytes;
      if constexpr (Config::kIsPaged) {
        load_pages<Tile>(rows, told.work.sequence, shape.keys, row, to, full);
      } else {
#pragma unroll 1
        for (int column = 0; column < Tile::kChunks * kColumns; column += kColumns, to += Tile::kChunkBytes) {
          rows.start(to, kTransposed ? row + column : column, kTransposed ? 0 : row, full);
        }
      }
      turn = turn.plus(1);
      if constexpr (Shared::kTakesEarly) {
        if (i == told.walk.taken_at) sent();
      }
    }
  }

  /// Where that leaves a producer its registers.
  static constexpr bool kAwaitsFirstKeys =
      Shared::kTakesEarly && !Shared::kIsNarrow && !Config::kIsPaged && Config::kHeadV <= 128;
  /// All blocks of a launch ask memory for their first tiles at once: queries and first keys, which the first products
  /// wait for, come sooner if the others are asked for behind them. Causal attention of 512 tokens takes 0.99 of the
  /// time. As long as that lasts, but not for ever: later phases have the same parity.
  __device__ void await_first_keys() const {
    constexpr int kMostReads = 1024;
#pragma unroll 1
    for (int reads = 0; reads < kMostReads && !this->key_full(0).has_completed(0); ++reads) {
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
};

}  // namespace tilewise::cuda::sm90
