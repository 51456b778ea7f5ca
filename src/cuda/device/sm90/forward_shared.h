// What the producers and the consumers of the forward kernel share: shared memory, barriers, the walk over key tiles.
#pragma once

#include "lane_scores.h"
#include "sm90/schedule.h"
#include "sm90/tma.h"
#include "sm90/wgmma.h"
#include "sm90_call.h"
#include "walk.h"

namespace tilewise::cuda::sm90 {

/// A tile's values in shared memory. Those of float8_e4m3 lie transposed (sm90/float8_values.h), two keys where 16 bits
/// count as a column.
template <class Element, int kKeys, int kColumns>
struct ValuesOf {
  static constexpr bool kTransposed = false;
  using Tile = ChunkedTile<kKeys, kColumns>;
};
template <int kKeys, int kColumns>
struct ValuesOf<Float8E4m3, kKeys, kColumns> {
  static constexpr bool kTransposed = true;
  using Tile = ChunkedTile<kColumns, kKeys / 2>;
};

/// What is told of a piece's queries besides.
template <class Element>
struct QueryScale {};
template <>
struct QueryScale<Float8E4m3> {
  float query_scales[3];  // a consumer's each
};

/// What is told of its walk, and of a list.
template <bool kTakesEarly, bool kTellsLists>
struct ToldWalk : WalkStart {};
template <>
struct ToldWalk<true, false> : WalkStart {
  int taken_at;  // the next piece is taken when the keys of this tile of them are on their way
};
template <>
struct ToldWalk<true, true> : ToldWalk<true, false> {
  int first_query;  // of the tile, where that may be below 0 (kEndsWithQueries)
  const int* list;  // its tiles
};

/// Config has
///   Element                      of q, k and v
///   OutputElement                of o
///   kHeadQk, kHeadV              d_qk, d_v
///   kConsumers                   warpgroups that compute
///   kKeyTile, kStages            keys of a tile, and how many tiles of k, and of v, are in shared memory
///   kQueryInRegisters            q stays in registers; otherwise it is read from shared memory for each tile
///   kQueryStages                 query tiles in shared memory
///   kStagesOutput                output goes through shared memory, from which the copy engine takes it
///   kProducerRegisters, kConsumerRegisters
///   kPolynomials                 of 8 exponentials of scored tiles, how many are made by polynomials
///   kTakesTurns                  consumers start a tile's products one after the other
///   kHasLists, kHasDropout
///   kEndsWithQueries             the last query tile does so, and the first begins ahead of its sequence; consumers
///                                change parts of the queries from piece to piece
///   kIsPaged                     k and v lie in pages of multiples of 8 tokens
template <class Config, class Variant>
class ForwardShared {
 public:
  using Element = typename Config::Element;
  using OutputElement = typename Config::OutputElement;
  static constexpr int kConsumers = Config::kConsumers, kKeyTile = Config::kKeyTile, kStages = Config::kStages;
  static constexpr int kQueryStages = Config::kQueryStages;
  static constexpr int kThreads = 128 * (1 + kConsumers), kQueryTile = 64 * kConsumers;
  static constexpr int kColumnsQk = (Config::kHeadQk * int(sizeof(Element)) / 2 + 15) / 16 * 16;  // of 16 bits
  static constexpr int kColumnsV = (Config::kHeadV + 15) / 16 * 16;
  using QueryTile = ChunkedTile<kQueryTile, kColumnsQk>;
  using KeyTile = ChunkedTile<kKeyTile, kColumnsQk>;
  using ValuesOfTile = ValuesOf<Element, kKeyTile, kColumnsV>;
  using ValueTile = typename ValuesOfTile::Tile;
  static constexpr int kChunkElements = 128 / int(sizeof(Element));  // of a chunk's row

  /// Whether lists are told with their tiles and taken early, and a piece is ended in another order (forward.h): what
  /// lies between two pieces of work matters most where lists are short. Documents take 0.96 of the time, BigBird 0.98
  /// at d 64 and 0.96 at d 256. At d 128 the kernel of small parts (64 keys) has lost by it, BigBird 1.01 -> 1.14 of
  /// its share of plain's time, as has d 64 without a mask, 1.29 -> 1.17 of cuDNN.
  static constexpr bool kIsNarrow = kKeyTile == 64 && Config::kHeadV > 64 && Config::kHeadV <= 128;
  static constexpr bool kTellsLists = Config::kHasLists && !Variant::kChangesScores && sizeof(Element) == 2 &&
                                      (Variant::kFollowsDiagonals || !kIsNarrow);

  /// Whether of short walks the next piece is taken before all their keys are on their way.
  static constexpr bool kTakesEarly =
      kTellsLists || (!Config::kHasLists && !Variant::kChangesScores && sizeof(Element) == 2);

  /// A piece of work, as it is told: with all that others would wait for global memory for. It stays in shared memory
  /// until all are done with it, since little of it is read for a full tile.
  struct Told : QueryScale<Element> {
    Work work;
    SequenceShape shape;
    ToldWalk<kTakesEarly, kTellsLists> walk;
    typename Variant::Place variant;
  };
  /// What entries share is made by a warp of the producers: queries' values with the piece, keys' and diagonals' for
  /// each tile, when all consumers have let go of the keys of kKeptAhead tiles before. The tile before that one they
  /// have then done with.
  static constexpr int kKeptStages = 4, kKeptAhead = kStages < kKeptStages ? kStages : kKeptStages - 1;
  /// Masks along diagonals are not looked up by values of queries.
  static constexpr int kPiecesOfQueries = kTellsLists && Variant::kFollowsDiagonals ? 0 : 2;
  using Values = KeptValues<Variant, kQueryTile, kKeyTile, kPiecesOfQueries, kKeptStages, kKeptStages, 32>;
  /// One is at work, and one is told ahead, or three: of a causal mask's short rows what has to be asked for before a
  /// piece can begin takes longer than the piece.
  static constexpr int kToldStages = kTakesEarly && !Values::kKeepsQueries ? 4 : 2;
  static constexpr bool kKeepsOfTiles = Values::kKeepsKeys || Values::kKeepsDiagonals;
  static constexpr bool kKnowsSteady = Variant::kMayBeSteady && Values::kKeepsDiagonals;
  /// Whether tiles are steady is found out for kAhead together, of the piece at work: of the tiles before, the last
  /// ones are still read then.
  static constexpr int kAhead = 32;
  struct Kept : Values {
    // Where they are made there are few registers: the number of the piece at work, and of tiles up to its first one.
    unsigned pieces, made;
    SteadyTile steady[kKnowsSteady ? 2 * kAhead : 1];

    __device__ SteadyTile& steady_tile(unsigned tile) { return steady[tile % (2 * kAhead)]; }
  };

  static constexpr bool kStagesOutput = Config::kStagesOutput;
  using OutputTile = ChunkedTile<kQueryTile, kColumnsV>;
  static constexpr int kKeyTilesAt = kQueryStages * QueryTile::kBytes;
  static constexpr int kValueTilesAt = kKeyTilesAt + kStages * KeyTile::kBytes;
  static constexpr int kOutputAt = kValueTilesAt + kStages * ValueTile::kBytes;
  static constexpr int kTileBytes = kOutputAt + (kStagesOutput ? OutputTile::kBytes : 0);
  static constexpr int kQueriesAt = 3 * kToldStages, kKeysAt = kQueriesAt + 2 * kQueryStages;
  static constexpr int kValuesAt = kKeysAt + 2 * kStages, kKeptBarriersAt = kValuesAt + 2 * kStages;
  static constexpr int kKeysSentAt = kKeptBarriersAt + (kKeepsOfTiles ? kKeptStages : 0);
  static constexpr int kBarriers = kKeysSentAt + 1;
  /// Visits lie behind the barriers, and as far apart, so that one address leads to both.
  static constexpr int kVisitsAt = kBarriers, kVisits = kTellsLists ? kStages : 0;
  static constexpr int kToldAt = (kTileBytes + 8 * (kBarriers + kVisits) + 15) / 16 * 16;
  static constexpr int kToldBytes = (int(sizeof(Told)) + 15) / 16 * 16;
  static constexpr int kKeptAt = kToldAt + kToldStages * kToldBytes;
  static constexpr int kKeptBytes = (int(sizeof(Kept)) + 15) / 16 * 16;
  static constexpr int kSharedBytes = kKeptAt + kKeptBytes;

  __device__ ForwardShared(const ForwardCall& call, const typename Variant::Arguments& variant, unsigned char* shared)
      : call_(call),
        arguments_(call.arguments),
        variant_(variant),
        shared_(shared),
        base_(static_cast<unsigned>(__cvta_generic_to_shared(shared))) {}

 protected:
  __device__ QueryTile query_tile(int stage) const { return {base_ + stage * QueryTile::kBytes}; }
  __device__ KeyTile key_tile(int stage) const { return {base_ + kKeyTilesAt + stage * KeyTile::kBytes}; }
  __device__ ValueTile value_tile(int stage) const { return {base_ + kValueTilesAt + stage * ValueTile::kBytes}; }
  __device__ OutputTile output_tile() const { return {base_ + kOutputAt}; }
  __device__ Barrier barrier(int index) const { return {base_ + kTileBytes + 8 * index}; }
  __device__ Barrier told_full(int stage) const { return barrier(stage); }
  __device__ Barrier told_empty(int stage) const { return barrier(kToldStages + stage); }
  __device__ Barrier told_begun(int stage) const { return barrier(2 * kToldStages + stage); }
  __device__ Barrier query_full(int stage) const { return barrier(kQueriesAt + stage); }
  __device__ Barrier query_empty(int stage) const { return barrier(kQueriesAt + kQueryStages + stage); }
  __device__ Barrier key_full(int stage) const { return barrier(kKeysAt + stage); }
  __device__ Barrier key_empty(int stage) const { return barrier(kKeysAt + kStages + stage); }
  __device__ Barrier value_full(int stage) const { return barrier(kValuesAt + stage); }
  __device__ Barrier value_empty(int stage) const { return barrier(kValuesAt + kStages + stage); }
  __device__ Barrier kept_full(int stage) const { return barrier(kKeptBarriersAt + stage); }
  /// A phase for each piece: all of its keys are on their way.
  __device__ Barrier keys_sent() const { return barrier(kKeysSentAt); }
  __device__ Told& told(int stage) const { return *reinterpret_cast<Told*>(shared_ + kToldAt + stage * kToldBytes); }
  /// What a list says of the keys in a stage is told with them: to find its place in the list and to read it takes
  /// longer, and stands in front of a tile's products. Causal attention takes 0.91 of the time that way at d 64, 0.98
  /// at d 128, and a window 0.99. BigBird's kernel took 1.07 of it, with tiles of 64 keys.
  __device__ void tell_visit(int stage, const Visit& visit) const {
    asm volatile("st.shared.s32 [%0], %1;" ::"r"(barrier(kVisitsAt + stage).address), "r"(visit.entry) : "memory");
  }
  __device__ Visit told_visit(int stage) const {
    Visit visit;
    asm volatile("ld.shared.s32 %0, [%1];" : "=r"(visit.entry) : "r"(barrier(kVisitsAt + stage).address) : "memory");
    return visit;
  }
  __device__ Kept& kept() const { return *reinterpret_cast<Kept*>(shared_ + kKeptAt); }

  /// What is full takes a producer's arrival and its bytes; what is empty one arrival of every consumer's warp. What is
  /// told, also one of each of the three producers that read it.
  __device__ void create_barriers() const {
    const auto create_ring = [&](int at, int stages, int readers) {
      for (int stage = 0; stage < stages; ++stage) {
        barrier(at + stage).create(1);
        barrier(at + stages + stage).create(readers);
      }
    };
    for (int stage = 0; stage < kToldStages; ++stage) told_begun(stage).create(1);
    create_ring(0, kToldStages, 4 * kConsumers + 3);
    create_ring(kQueriesAt, kQueryStages, 4 * kConsumers);
    create_ring(kKeysAt, kStages, 4 * kConsumers);
    create_ring(kValuesAt, kStages, 4 * kConsumers);
    for (int i = kKeptBarriersAt; i < kKeysSentAt; ++i) barrier(i).create(1);
    keys_sent().create(1);
    publish_barriers();
  }

  __device__ static int first_query_of(const Work& work, const SequenceShape& shape) {
    return work.query_tile * kQueryTile - (Config::kEndsWithQueries ? lead_of(shape.queries, kQueryTile, 64) : 0);
  }
  __device__ static int first_query_of(const Told& piece) {
    if constexpr (Config::kEndsWithQueries) return piece.walk.first_query;
    return piece.work.query_tile * kQueryTile;
  }

  /// The key tiles of a piece of work. Where there are lists, those come first in which queries meet their own
  /// positions, from the first query's on: masks most often keep something of every row there, so that rows have a base
  /// from then on, and what is left of a causal mask's tiles is something for every consumer. Without lists, scores
  /// begin where the queries in the middle do: biases by distance are largest there, and rows seldom outgrow them.
  __device__ WalkStart start_of(const Work& work, const SequenceShape& shape) const {
    const int first = first_query_of(work, shape);
    if constexpr (Config::kHasLists) {
      return WalkStart::near(ListWalk(arguments_.lists, work.sequence, work.head, work.query_tile),
                             tile_of_own_position(shape, first, kKeyTile));
    } else {
      return WalkStart::near(
          DenseWalk(shape, kKeyTile),
          Variant::kChangesScores ? tile_of_own_position(shape, first + kQueryTile / 2, kKeyTile) : 0);
    }
  }
  __device__ ListWalk list_walk(const Told& piece) const {
    if constexpr (kTellsLists) {
      return ListWalk(piece.walk.list, piece.walk.count);
    } else {
      const TileLists& lists = arguments_.lists;
      const Work& work = piece.work;
      return ListWalk(lists, list_of(lists, work.sequence, work.head, work.query_tile), piece.walk.count);
    }
  }
  /// The most key tiles in which a query tile meets its own positions.
  static constexpr int kOwnTiles =
      (kQueryTile - 1) / kKeyTile + ((Config::kEndsWithQueries ? 64 : kQueryTile) % kKeyTile == 0 ? 1 : 2);
  __device__ auto walk_of(const Told& piece) const {
    const WalkStart& start = piece.walk;
    if constexpr (Config::kHasLists) {
      return LedWalk<ListWalk, kOwnTiles>{list_walk(piece), start.index};
    } else if constexpr (Variant::kChangesScores) {
      return LedWalk<DenseWalk, 1>{DenseWalk(piece.shape, kKeyTile, start.count), start.index};
    } else {
      return DenseWalk(piece.shape, kKeyTile);
    }
  }

  const ForwardCall& call_;
  const ForwardArguments& arguments_;
  const typename Variant::Arguments& variant_;
  unsigned char* const shared_;
  const unsigned base_;
};

}  // namespace tilewise::cuda::sm90
