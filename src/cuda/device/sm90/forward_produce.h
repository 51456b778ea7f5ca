// The producers of the forward kernel: four threads of a warpgroup that has few registers.
#pragma once

#include "sm90/forward_shared.h"

namespace tilewise::cuda::sm90 {

/// One takes the work, one tells it to all others and loads queries, one loads keys, one loads values.
template <class Config, class Variant>
class ForwardProducers : ForwardShared<Config, Variant> {
  using Shared = ForwardShared<Config, Variant>;
  using Told = typename Shared::Told;
  using typename Shared::KeyTile;
  using typename Shared::QueryTile;
  using typename Shared::ValueTile;
  static constexpr int kStages = Shared::kStages, kKeyTile = Shared::kKeyTile, kQueryStages = Shared::kQueryStages;
  using Shared::arguments_;
  using Shared::call_;

 public:
  using Shared::Shared;

  __device__ void run() const {
    if (threadIdx.x == 0) {
      produce_keys();
    } else if (threadIdx.x == 32) {
      produce_values();
    } else if (threadIdx.x == 64) {
      produce_work();
    } else if (threadIdx.x == 96) {
      produce_queries();
    }
  }

 private:
  /// Takes a piece when the keys of the one before are on their way: no earlier, since another block may be idle then.
  __device__ void produce_work() const {
    Turn<Shared::kToldStages> turn;
    Schedule schedule(call_);
    while (schedule.has_work()) {
      Work work = schedule.work();
      [[maybe_unused]] WalkStart listed;
      const bool has_order = Config::kHasLists && arguments_.lists.order != nullptr;
      if (has_order) {
        const RowStart start = row_start(arguments_.lists, work.sequence, work.head, work.query_tile);
        work.query_tile = start.row;
        listed = {start.count, start.index, start.entry};
      }
      if (work.query_tile * Shared::kQueryTile < arguments_.sequences[work.sequence].queries) {
        // Written and read back one by one: this thread has few registers.
        Told& told = this->told(turn.stage());
        told.work = work;
        forget();
        told.work.kv_head = told.work.head / arguments_.heads_per_kv;
        told.shape = arguments_.sequences[told.work.sequence];
        forget();
        told.walk = has_order ? listed : this->start_of(told.work, told.shape);
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
    for (Turn<Shared::kToldStages> piece;; piece = piece.plus(1)) {
      this->told_begun(piece.stage()).wait(piece.parity());
      Told& told = this->told(made_anew(piece.stage()));
      const Work& work = told.work;
      if (work.query_tile >= 0) {
        // What follows from them alone would be kept in registers from piece to piece, and spill.
        const auto& bound = (&this->variant_)[made_anew(0)];
        told.variant = Variant::place_of(bound, told.shape, work.sequence, work.head, work.kv_head, arguments_.scale);
        if constexpr (Shared::ValuesOfTile::kTransposed) tell_scales(told);
      }
      this->told_full(made_anew(piece.count) % Shared::kToldStages).arrive();
      if (work.query_tile < 0) break;
      const Turn<kQueryStages> turn{made_anew(piece.count)};
      const Barrier full = this->query_full(turn.stage());
      this->query_empty(turn.stage()).wait(turn.parity() ^ 1);
      full.arrive_expecting(QueryTile::kBytes);
      const int first_query =
          (arguments_.queries_packed ? told.shape.query_token : 0) + work.query_tile * Shared::kQueryTile;
      const Rows q{&call_.q, arguments_.queries_packed ? 0 : work.sequence, work.head};
      const QueryTile tile = this->query_tile(turn.stage());
#pragma unroll 1
      for (int chunk = 0; chunk < QueryTile::kChunks; ++chunk) {
        q.start(tile.chunk(chunk), Shared::kChunkElements * chunk, first_query, full);
      }
      this->told_empty(piece.stage()).arrive();
    }
  }

  __device__ void tell_scales(Told& told) const {
    const TensorView& scales = arguments_.float8.q_scales;
    const float* const of_head =
        static_cast<const float*>(scales.data) + told.work.sequence * scales.batch + told.work.head * scales.head;
#pragma unroll 1
    for (int consumer = 0; consumer < Shared::kConsumers; ++consumer) {
      const int query = told.work.query_tile * Shared::kQueryTile + 64 * consumer;
      if (query < told.shape.queries) told.query_scales[consumer] = __ldg(of_head + query / kScaleBlock * scales.row);
    }
  }

  __device__ void produce_keys() const {
    produce_tiles<KeyTile, false>(call_.k, this->key_tile(0), Shared::kKeysAt, [&] { this->keys_sent().arrive(); });
  }
  __device__ void produce_values() const {
    produce_tiles<ValueTile, Shared::ValuesOfTile::kTransposed>(call_.v, this->value_tile(0), Shared::kValuesAt, [] {});
  }

  /// All tiles of all pieces, to a ring whose first tile is `first`; its barriers begin with that number, those that
  /// say full before those that say empty. sent() follows each piece.
  template <class Tile, bool kTransposed, class Sent>
  __device__ void produce_tiles(const TensorMap& map, const Tile& first, int barriers, const Sent& sent) const {
    Turn<kStages> turn;
    for (Turn<Shared::kToldStages> piece;; piece = piece.plus(1)) {
      this->told_full(piece.stage()).wait(piece.parity());
      const Told& told = this->told(piece.stage());
      if (told.work.query_tile < 0) break;
      load_tiles<Tile, kTransposed>(map, told, first, barriers, turn);
      this->told_empty(piece.stage()).arrive();
      sent();
    }
  }

  template <class Tile, bool kTransposed>
  __device__ void load_tiles(const TensorMap& map, const Told& told, const Tile& first, int barriers,
                             Turn<kStages>& turn) const {
    const SequenceShape& shape = told.shape;
    // What is transposed has been put by sequences.
    const bool is_packed = !kTransposed && arguments_.keys_packed;
    Rows rows{&map, is_packed ? 0 : told.work.sequence, told.work.kv_head};
    const int first_key = is_packed ? shape.key_token : 0;
    const auto walk = this->walk_of(told);
    constexpr int kColumns = Shared::kChunkElements;
#pragma unroll 1
    for (int i = 0; i < walk.count(); ++i) {
      const int row = first_key + walk.visit(i).tile() * kKeyTile;
      const unsigned stage = made_anew(turn.stage());
      const Barrier full = this->barrier(barriers + stage), empty = this->barrier(barriers + kStages + stage);
      empty.wait(turn.parity() ^ 1);
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
