// What consumers of every dtype do about a piece of work: they take it, pass it or its tiles by, and start products.
#pragma once

#include "sm90/forward_entries.h"

namespace tilewise::cuda::sm90 {

template <class Config, class Variant>
class ForwardSteps : public ForwardEntries<Config, Variant> {
  using Shared = ForwardEntries<Config, Variant>;

 public:
  using Shared::Shared;

 protected:
  using Shared::first_query, Shared::is_first_lane, Shared::key_empty, Shared::key_full, Shared::key_tile,
      Shared::place_of, Shared::query_empty, Shared::query_full, Shared::query_tile, Shared::release,
      Shared::store_directly, Shared::told_full, Shared::value_empty, Shared::value_full;
  using Shared::kColumnsQk, Shared::kConsumers, Shared::kKeyTile, Shared::kQueryStages, Shared::kQueryTile,
      Shared::kStages, Shared::kTellsLists;
  using typename Shared::Element;
  using typename Shared::Output;
  using typename Shared::Piece;
  using typename Shared::Scores;
  using typename Shared::Told;
  using QueryFragments = LeftFragment[kColumnsQk / 16];

  /// Whether the next tile's visit is reckoned beside a tile's products: in front of the next ones it took 14
  /// instructions of 39. Three of four drawn scores went from 0.745, 0.764 and 0.790 of plain to 0.754, 0.767 and 0.797
  /// by that, T5 from 0.912 to 0.898, softcap at d 64 from 0.784 to 0.777.
  static constexpr bool kReckonsAhead =
      !Config::kHasLists && Variant::kChangesScores && !Variant::kMayBeSteady && Config::kHeadV > 64;

  /// All pieces there are. attend(piece, turn) is given one in which this consumer has something to compute; it goes on
  /// as long as there is something in the next one, and leaves `piece` at the first one of which that is not known.
  template <class Attend>
  __device__ void attend_all(int consumer, const Attend& attend) const {
    Turn<kStages> turn;
    Piece piece{consumer, 0};
    if (consumer == kConsumers - 1) pass_turn(piece);
    while (is_told(piece)) {
      if (has_entries(piece)) {
        attend(piece, turn);
      } else {
        pass_by(piece, turn);
        ++piece.number;
      }
    }
    if constexpr (Shared::kStagesOutput) wait_for_copies();
  }

  /// Waits until a piece is told. Whether there is one.
  __device__ bool is_told(const Piece& piece) const {
    told_full(piece.turn().stage()).wait(piece.turn().parity());
    return uniform(place_of(piece).work.query_tile) >= 0;
  }
  /// Whether this consumer has anything to compute there.
  __device__ bool has_entries(const Piece& piece) const {
    const Told& place = place_of(piece);
    return uniform(place.walk.count > 0 && unsigned(first_query(piece)) < unsigned(place.shape.queries)) != 0;
  }
  /// Both, by numbers that are read together: each of these reads would be waited for.
  __device__ bool may_attend(const Piece& piece) const {
    told_full(piece.turn().stage()).wait(piece.turn().parity());
    const Told& place = place_of(piece);
    return uniform((place.work.query_tile >= 0) & (place.walk.count > 0) &
                   (unsigned(first_query(piece)) < unsigned(place.shape.queries))) != 0;
  }
  __device__ Visit first_visit(const Piece& piece) const { return {place_of(piece).walk.entry}; }

  /// Waits for the queries of a piece and its first keys; afterwards its first products may start.
  __device__ void begin(const Piece& piece, QueryFragments& q, const Turn<kStages>& keys) const {
    const Turn<kQueryStages> queries = piece.query_turn();
    query_full(queries.stage()).wait(queries.parity());
    if constexpr (Config::kQueryInRegisters) {
      const int thread = thread_read_anew(), row = 64 * piece.part() + thread / 32 % 4 * 16 + thread % 16;
      const unsigned first = query_tile(queries.stage()).at(row, thread / 16 % 2 * 8);
#pragma unroll
      for (int k = 0; k < kColumnsQk / 16; ++k) {
        load_matrices(q[k].pairs, Shared::QueryTile::behind(first, k));
      }
      query_empty(queries.stage()).arrive_if(is_first_lane());
    }
    key_full(keys.stage()).wait(keys.parity());
  }
  /// These products, started.
  __device__ void start_piece(Scores& s, QueryFragments& q, const Piece& piece, const Turn<kStages>& keys) const {
    begin(piece, q, keys);
    begin_products();
    start_scores(s, q, piece, keys.stage());
  }

  /// After the last products with queries in shared memory.
  __device__ void release_queries(const Piece& piece, bool is_last) const {
    if constexpr (!Config::kQueryInRegisters) {
      query_empty(piece.query_turn().stage()).arrive_if(is_last && is_first_lane());
    }
  }

  /// A consumer starts a tile's products when the one before it has its own scores, so that one makes weights while
  /// another's products are made. Each takes one turn for every tile of a piece.
  __device__ static void take_turn(const Piece& piece) {
    if constexpr (Config::kTakesTurns) meet(kFirstTurn + piece.consumer, 256);
  }
  __device__ static void pass_turn(const Piece& piece) {
    if constexpr (Config::kTakesTurns) {
      tell(kFirstTurn + (piece.consumer == kConsumers - 1 ? 0 : piece.consumer + 1), 256);
    }
  }

  /// s = q k^T of the tile in a stage, started.
  __device__ void start_scores(Scores& s, const QueryFragments& q, const Piece& piece, int stage) const {
    const Operand k = keys_in(stage);
    if constexpr (Config::kQueryInRegisters) {
      multiply_rows<Element, true>(s, q, k, kKeyTile);
    } else {
      const unsigned rows = query_tile(piece.query_turn().stage()).address + piece.part() * 64 * 128;
      multiply_rows<Element, true, kColumnsQk>(s, Operand::of(rows, kQueryTile), kQueryTile, k, kKeyTile);
    }
    commit_products();
  }

  /// Of short steps, and of scores', what lies in front of the products counts most: from the first stage's keys on
  /// that is an instruction instead of five. Causal attention takes 0.98 of the time at d 64, but 1.04 at d 128;
  /// float8_e4m3's 0.96 there, drawn scores' 0.993.
  __device__ Operand keys_in(int stage) const {
    if constexpr (Config::kHeadQk <= 64 || sizeof(Element) == 1 || kReckonsAhead)
      return Operand::of(key_tile(0).address, kKeyTile).plus(stage * Shared::KeyTile::kBytes);
    return Operand::of(key_tile(stage).address, kKeyTile);
  }

  /// Whether this consumer passes a tile by, which others follow, of which a mask leaves it nothing; then it has done
  /// so, and `passed` counts it: no more of them at a time than there are stages but one, since the values of the tile
  /// before are not read yet.
  __device__ bool passes(const Visit& visit, const Piece& piece, bool others_follow, const Turn<kStages>& keys,
                         unsigned& passed) const {
    if (others_follow && passed + 1 < kStages && uniform(visit.misses(piece.part())) != 0) {
      pass_tile(piece, keys);
      ++passed;
      return true;
    }
    passed = 0;
    return false;
  }

  /// Registers that a product has read are written only here, when none is under way: otherwise the assembler waits for
  /// each product by itself (its remark C7513). Plain copies it would merge.
  __device__ static void move(LeftFragment& to, const LeftFragment& from) {
#pragma unroll
    for (int r = 0; r < 4; ++r) asm volatile("mov.b32 %0, %1;" : "=r"(to.pairs[r]) : "r"(from.pairs[r]));
  }
  template <int kSteps>
  __device__ static void move(LeftFragment (&to)[kSteps], const LeftFragment (&from)[kSteps][1]) {
#pragma unroll
    for (int k = 0; k < kSteps; ++k) move(to[k], from[k][0]);
  }

  /// What is told of the tile in a stage, where lists are told.
  __device__ void take_visit(Visit& visit, const Turn<kStages>& keys) const {
    if constexpr (kTellsLists) visit = this->told_visit(keys.stage());
  }
  /// Likewise when its keys have come.
  __device__ void await_visit(Visit& visit, const Turn<kStages>& keys) const {
    key_full(keys.stage()).wait(keys.parity());
    take_visit(visit, keys);
  }
  /// Whether a mask leaves this consumer nothing of a tile that is told of and others follow.
  __device__ bool may_pass(const Visit& visit, const Piece& piece, bool others_follow) const {
    return kTellsLists && visit.misses(piece.part()) && others_follow;
  }
  /// Passes tile `i` by, of `count`, and those behind it up to one that may not be, no more than passes() would. `i`,
  /// `keys` and the visit are that one's.
  __device__ Visit pass_tiles(const Piece& piece, int& i, int count, Turn<kStages>& keys) const {
    Visit visit;
    unsigned passed = 0;
#pragma unroll 1
    do {
      pass_tile(piece, keys);
      ++i, ++passed, keys = keys.plus(1);
      await_visit(visit, keys);
    } while (passed + 1 < kStages && uniform(may_pass(visit, piece, i + 1 < count)) != 0);
    return visit;
  }

 private:
  static constexpr int kFirstTurn = 1 + kConsumers;  // of barriers; before it one of each consumer

  __device__ void pass_by(const Piece& piece, Turn<kStages>& turn) const {
    const Turn<kQueryStages> queries = piece.query_turn();
    query_full(queries.stage()).wait(queries.parity());
    query_empty(queries.stage()).arrive_if(is_first_lane());
    const int tiles = place_of(piece).walk.count;
#pragma unroll 1
    for (int i = 0; i < tiles; ++i, turn = turn.plus(1)) pass_tile(piece, turn);
    if (tiles == 0 && first_query(piece) >= 0) {
      Output o;
      RowStatistics<1> rows;
      o.clear();
      rows.clear(0, 1 << 30);
      store_directly(piece, threadIdx.x % 128, o, this->close_rows(piece, threadIdx.x % 128, rows));
    }
    release(piece);
  }
  /// Lets go of a tile that has nothing for this consumer.
  __device__ void pass_tile(const Piece& piece, const Turn<kStages>& turn) const {
    take_turn(piece);
    pass_turn(piece);
    key_full(turn.stage()).wait(turn.parity());
    key_empty(turn.stage()).arrive_if(is_first_lane());
    value_full(turn.stage()).wait(turn.parity());
    value_empty(turn.stage()).arrive_if(is_first_lane());
  }
};

}  // namespace tilewise::cuda::sm90
