// What the producer and the consumers of the backward kernels share: shared memory, barriers, walks.
#pragma once

#include "conditional.h"
#include "lane_scores.h"
#include "sm90/backward_rows.h"
#include "sm90/tma.h"
#include "sm90/turns.h"
#include "sm90/wgmma.h"
#include "walk.h"
#include "walk_gradients.h"

namespace tilewise::cuda::sm90 {

/// How a block walks the tiles of queries.
template <bool kHasLists>
struct WalkOf {
  using Type = TilesInOrder;
};
template <>
struct WalkOf<true> {
  using Type = ListWalk;
};

/// What consumers sum up gradients of tables and parameters by; nothing where none are asked for.
template <bool kHasGradients, bool kIsOrdered, class Variant>
struct SumsOf {
  using Entries = NoGradients;
  struct Walks {};
};
template <bool kIsOrdered, class Variant>
struct SumsOf<true, kIsOrdered, Variant> {
  using Entries = EntryGradients<typename Variant::Recorded, kIsOrdered>;
  using Walks = WalkGradients<typename Variant::Recorded, kIsOrdered>;
};

/// Config has Element, kHeadQk, kHeadV (up to 256), kStages (tiles of queries in shared memory), kHasLists,
/// kHasLongRows (lists, of which some are far longer than most), kHasDropout, kIsOrdered (turns.h), kHasGradients (of
/// tables and parameters: of up to 128 columns), kCountsAdded (added.h), kIsPaired (of more than 128 columns: clusters
/// of two blocks have the halves of a tile's keys, and copy halves of its queries to both), kProducerRegisters,
/// kConsumerRegisters.
template <class Config, class Variant>
class BackwardShared {
 public:
  using Element = typename Config::Element;
  using Sizes = BackwardSizes<Config>;
  static constexpr int kQueries = Sizes::kQueries, kKeys = Sizes::kKeys, kStages = Config::kStages;
  static constexpr int kThreads = 128 * (1 + Sizes::kConsumers);
  static constexpr int kColumnsQk = (Config::kHeadQk + 15) / 16 * 16;
  static constexpr int kColumnsV = (Config::kHeadV + 15) / 16 * 16;
  /// Narrow heads leave registers for a consumer's keys and values: half the reads of shared memory.
  static constexpr bool kKeysInRegisters = kColumnsQk <= 64 && !Sizes::kIsWide;
  static constexpr bool kValuesInRegisters = kColumnsV <= 64 && !Sizes::kIsWide;
  /// Keys of a tile of the lists, of which a pair's blocks have a half each.
  static constexpr bool kIsPaired = Config::kIsPaired;
  static constexpr int kTileKeys = kIsPaired ? 2 * kKeys : kKeys;
  static_assert(!kIsPaired || (Sizes::kIsWide && !Config::kIsOrdered));
  using KeyTile = ChunkedTile<kKeys, kColumnsQk>;
  using ValueTile = ChunkedTile<kKeys, kColumnsV>;
  using QueryTile = ChunkedTile<kQueries, kColumnsQk>;
  using GradientTile = ChunkedTile<kQueries, kColumnsV>;  // of d_o
  using ScoreTile = ChunkedTile<kQueries, kKeys>;         // d_s: [queries, keys], a chunk of 64 keys from a consumer

  /// A variant without score functions gives nothing by its entries; its sink does so in prepare_backward.
  static constexpr bool kHasGradients = Config::kHasGradients && Variant::kChangesScores;
  using Sums = SumsOf<kHasGradients, Config::kIsOrdered, Variant>;
  using EntryNumbers = typename Sums::Entries;
  static_assert(!kHasGradients || !Sizes::kIsWide);

  /// Where an exponent is a multiple of the product plus a number of the diagonal, products of queries and keys begin
  /// at that number: weights take as many operations as without score functions, and are made while the tensor cores
  /// are at the products of d_o and values. What is kept of diagonals is made for it by the producer's idle warps, for
  /// both consumers, up to four tiles ahead: ALiBi 0.928 of plain attention at d 128, 0.873 without. Of an ordered pass
  /// these warps are not idle, and a wide kernel's consumers may be at different heads. Of other scores consumers make
  /// it: of twelve operations 0.779, 0.682 ahead.
  using OwnValues = KeptValues<Variant, kQueries, 64, 2, 1, 2>;
  static constexpr bool kKeepsAhead =
      Variant::kAddsDiagonals && OwnValues::kKeepsDiagonals && !kHasGradients && !Config::kIsOrdered && !Sizes::kIsWide;
  static constexpr int kKeptAhead = 4, kMakers = 96;
  using KeptTurn = Turn<kKeptAhead>;
  using Values =
      Conditional<kKeepsAhead, KeptValues<Variant, kQueries, kKeys, kKeptAhead, 1, kKeptAhead, kMakers>, OwnValues>;
  using Lane = LaneScores<Variant, Values, kKeepsAhead ? kKeys : 64>;
  static constexpr int kDiagonals = kQueries + kKeys - 1;
  /// Of tiles whose diagonals add one number, products begin at that, less their rows' references: no exponent takes
  /// more operations than without score functions. Which tiles are such is found out for kSteadyAhead at a time.
  static constexpr bool kKnowsSteady =
      Variant::kBeginsSteady && OwnValues::kKeepsDiagonals && !kKeepsAhead && !kHasGradients && !Sizes::kIsWide;
  static constexpr int kSteadyAhead = 128;
  struct SteadyTiles {
    float factor, inverse;           // factor_of(), and 1 / that
    SteadyTile tiles[kSteadyAhead];  // what their products begin at
  };
  struct KeptAhead {
    typename Variant::Place variant;  // of the head that the makers are at
    Values values;                    // keys by consumers
    float begins[kKeepsAhead ? kKeptAhead : 1][kKeepsAhead ? kDiagonals : 1];
  };
  struct Nothing {};

  /// What a consumer keeps of the head that it is at.
  struct Place {
    typename Variant::Place variant;
    Conditional<kKeepsAhead, Nothing, Values> values;
    Conditional<kKnowsSteady, SteadyTiles, Nothing> steady;
    typename Sums::Walks gradients;
  };

  /// Whether a last round of few key tiles may be shared: a cluster has one, each of its blocks a part of the queries,
  /// and their sums of d_k and d_v are added up in the end. 4096 key tiles of 32 heads are 31.03 rounds on 132
  /// multiprocessors.
  static constexpr bool kMayShare = !Config::kHasLists && !Config::kIsOrdered && !kHasGradients && !Sizes::kIsWide &&
                                    kKeysInRegisters && kValuesInRegisters;

  /// Tiles that are between a block's turn and the next one's: handing one on waits until additions have arrived, which
  /// takes longer than a step under load.
  static constexpr int kTurnsAhead = 4, kPassers = 2;
  using OrderedTurn = Turn<kTurnsAhead>;
  /// What a block does is found out, and then read in shared memory: in registers it would spill.
  static constexpr bool kTakesWork = Config::kIsOrdered || Config::kHasLongRows || kMayShare;
  /// So is the block's tile where lists tell it: kept, up to 48 bytes of a tree and 24 of ALiBi with a mask spilled. At
  /// d 128 without a mask scores take what that leaves for more of their table at a time, and spill.
  static constexpr bool kKeepsTile = Config::kHasLists && !Sizes::kIsWide && (Variant::kHasMask || kKeysInRegisters);
  using Work = Conditional<Config::kIsOrdered, OrderedWork, KeyWork>;
  using Walk = typename WalkOf<Config::kHasLists>::Type;

  /// A warp counts the blocks, that has nothing else to do.
  static constexpr bool kCountsAdded = Config::kCountsAdded;
  static_assert(!kCountsAdded || (!Sizes::kIsWide && !Config::kIsOrdered && !kKeepsAhead));

  static constexpr int kStageBytes = QueryTile::kBytes + GradientTile::kBytes;
  static constexpr int kStagesAt = KeyTile::kBytes + ValueTile::kBytes;
  static constexpr int kScoresAt = kStagesAt + kStages * kStageBytes;
  static constexpr int kNumbersAt = kScoresAt + 2 * ScoreTile::kBytes;  // reference and delta of a tile's queries
  static constexpr int kNumbersBytes = 2 * kQueries * 4;
  static constexpr int kTileBytes = kNumbersAt + kStages * kNumbersBytes;
  static constexpr int kBarriers =
      1 + 2 * kStages + 4 + (Config::kIsOrdered ? 3 * kTurnsAhead : 0) + (kKeepsAhead ? 2 * kKeptAhead : 0);
  /// What is told of the queries in a stage lies behind the barriers.
  static constexpr int kToldAt = kBarriers;
  static constexpr int kWorkAt = kTileBytes + 8 * (kToldAt + kStages);
  static constexpr int kPlacesAt = (kWorkAt + (kTakesWork || kKeepsTile ? int(sizeof(Work)) : 0) + 15) / 16 * 16;
  static constexpr int kPlaceBytes = (int(sizeof(Place)) + 15) / 16 * 16;
  static constexpr int kAheadAt = kPlacesAt + Sizes::kConsumers * kPlaceBytes;
  static constexpr int kSharedBytes = kAheadAt + (kKeepsAhead ? int(sizeof(KeptAhead)) : 0);

  __device__ BackwardShared(const BackwardCall& call, const typename Variant::Arguments& variant, unsigned char* shared)
      : call_(call),
        arguments_(call.arguments),
        variant_(variant),
        shared_(shared),
        base_(static_cast<unsigned>(__cvta_generic_to_shared(shared))) {}

 protected:
  /// What a product is multiplied by. Beside 2^-96, or less than that, products vanish.
  __device__ float factor_of(const typename Variant::Place& place) const {
    const float factor = Variant::factor(variant_, place);
    return fabsf(factor) < 0x1p-96f ? 0x1p-96f : factor;
  }
  /// By a warp: it has read a stage's queries for the last time. What is copied to it comes from both blocks.
  __device__ void release(int stage) const {
    const unsigned lane = threadIdx.x % 32;
    empty(stage).arrive_if(lane == 0);
    if constexpr (kIsPaired) empty(stage).arrive_at_if(lane == 0, rank() ^ 1);
  }

  __device__ KeyTile key_tile() const { return {base_}; }
  __device__ ValueTile value_tile() const { return {base_ + KeyTile::kBytes}; }
  __device__ QueryTile query_tile(int stage) const { return {base_ + kStagesAt + stage * kStageBytes}; }
  __device__ GradientTile gradient_tile(int stage) const { return {query_tile(stage).address + QueryTile::kBytes}; }
  __device__ ScoreTile score_tile(int stage) const { return {base_ + kScoresAt + stage * ScoreTile::kBytes}; }
  __device__ unsigned numbers(int stage) const { return base_ + kNumbersAt + stage * kNumbersBytes; }
  __device__ Barrier barrier(int index) const { return {base_ + kTileBytes + 8 * index}; }
  /// What consumers would wait for global memory for in front of each tile's products, 260 cycles of 3960 of T5's at
  /// d 128: the list's entry, and whether the tile goes beyond the sequence's queries.
  struct ToldQueries {
    Visit visit;
    int has_missing;
  };
  __device__ void tell(int stage, const ToldQueries& told) const {
    asm volatile("st.shared.v2.s32 [%0], {%1, %2};" ::"r"(barrier(kToldAt + stage).address), "r"(told.visit.entry),
                 "r"(told.has_missing)
                 : "memory");
  }
  /// Of number `index` of a walk, when its stage is full. Ordered passes with gradients of tables have not the
  /// registers for what is read in shared memory, which the compiler does not know to be the same for all of a warp;
  /// with steady tiles they lose by it, T5 at d 128 482 TFLOP/s for 531.
  __device__ ToldQueries told(const Walk& walk, int index, int stage) const {
    ToldQueries told;
    if constexpr (Config::kIsOrdered && (kHasGradients || kKnowsSteady)) {
      told.visit = visit(walk, index);
      told.has_missing = (told.visit.tile() + 1) * kQueries > arguments_.sequences[sequence()].queries;
    } else {
      asm volatile("ld.shared.v2.s32 {%0, %1}, [%2];"
                   : "=r"(told.visit.entry), "=r"(told.has_missing)
                   : "r"(barrier(kToldAt + stage).address)
                   : "memory");
    }
    return told;
  }
  __device__ Barrier keys_full() const { return barrier(0); }
  __device__ Barrier full(int stage) const { return barrier(1 + stage); }
  __device__ Barrier empty(int stage) const { return barrier(1 + kStages + stage); }
  __device__ Barrier scores_full(int stage) const { return barrier(1 + 2 * kStages + stage); }
  __device__ Barrier scores_empty(int stage) const { return barrier(3 + 2 * kStages + stage); }
  // Of an ordered pass: it is this block's turn at the tile of a visit; consumers have added to it; it is the next
  // block's turn.
  __device__ Barrier may_add(int stage) const { return barrier(5 + 2 * kStages + stage); }
  __device__ Barrier added(int stage) const { return barrier(5 + 2 * kStages + kTurnsAhead + stage); }
  __device__ Barrier passed_on(int stage) const { return barrier(5 + 2 * kStages + 2 * kTurnsAhead + stage); }
  // What is kept ahead has been made; all have read it. An ordered pass, whose barriers these would be, keeps nothing.
  __device__ Barrier kept_full(int stage) const { return barrier(5 + 2 * kStages + stage); }
  __device__ Barrier kept_empty(int stage) const { return barrier(5 + 2 * kStages + kKeptAhead + stage); }
  static constexpr int kMakersMeet = 4;  // behind the consumers' barriers
  static constexpr int kAddedMeet = 5, kAddedThreads = 128 * Sizes::kConsumers + 32;
  __device__ KeptAhead& ahead() const { return *reinterpret_cast<KeptAhead*>(shared_ + kAheadAt); }
  __device__ Place& place_of(int consumer) const {
    return *reinterpret_cast<Place*>(shared_ + kPlacesAt + consumer * kPlaceBytes);
  }

  /// Of what is in shared memory, consumers' warps release all. Both consumers make d_s and read it, or one of them
  /// makes it and the other one reads it.
  __device__ void create_barriers() const {
    constexpr int kWarps = 4 * Sizes::kConsumers, kOfScores = kWarps / (Sizes::kIsWide ? 2 : 1);
    keys_full().create(1);
    for (int stage = 0; stage < kStages; ++stage) {
      full(stage).create(1);
      empty(stage).create(kIsPaired ? 2 * kWarps : kWarps);
    }
    for (int stage = 0; stage < 2; ++stage) {
      scores_full(stage).create(kOfScores);
      scores_empty(stage).create(kOfScores);
    }
    for (int stage = 0; kKeepsAhead && stage < kKeptAhead; ++stage) {
      kept_full(stage).create(kMakers / 32);
      kept_empty(stage).create(kWarps);
    }
    for (int stage = 0; Config::kIsOrdered && stage < kTurnsAhead; ++stage) {
      may_add(stage).create(1);
      added(stage).create(kOfScores);
      passed_on(stage).create(1);
    }
    publish_barriers();
  }

  /// Which of a pair's blocks this one is.
  __device__ unsigned rank() const { return kIsPaired ? rank_of_cluster() : 0; }
  __device__ static unsigned rank_of_cluster() {
    unsigned rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
  }
  __device__ static unsigned blocks_of_cluster() {
    unsigned blocks;
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(blocks));
    return blocks;
  }
  /// The block's tile of keys, read again where kept registers would spill.
  __device__ int tile_again(int tile) const {
    if constexpr (kKeepsTile) {
      forget();
      return work().row;
    }
    return tile;
  }
  /// Likewise in a producer, which has few.
  __device__ int tile_anew(int tile) const {
    if constexpr (kKeepsAhead && !Config::kHasLists) {
      int block;
      asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block));
      return block;
    }
    return kKeepsTile ? tile_again(tile) : Config::kIsOrdered ? int(made_anew(tile)) : tile;
  }
  /// The first of the block's keys.
  __device__ int key_begin_of(int tile) const { return tile * kTileKeys + int(rank()) * kKeys; }

  /// What a block does where key tiles may be shared; a row of -1 where others do it.
  __device__ KeyWork share() const {
    const int parts = int(blocks_of_cluster());
    if (parts == 1) {
      const int number = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
      return {number < call_.shared_from ? int(blockIdx.x) : -1, int(blockIdx.y), int(blockIdx.z)};
    }
    const int number = call_.shared_from + int(blockIdx.y), head = number / call_.key_tiles;
    const int kv_heads = arguments_.h_q / arguments_.heads_per_kv;
    return {number % call_.key_tiles, head % kv_heads, head / kv_heads, int(rank_of_cluster()), parts};
  }
  __device__ bool is_shared() const {
    if constexpr (kMayShare) return uniform(work().parts) > 1;
    return false;
  }

  // The key head and the sequence that the block is at.
  __device__ Work& work() const { return *reinterpret_cast<Work*>(shared_ + kWorkAt); }
  /// The block's work, by one thread; a row by its place in their order, or of -1 where others do it.
  __device__ void take_work() const {
    if constexpr (Config::kIsOrdered) {
      work() = OrderedWork::take(call_, gridDim.x, gridDim.y, gridDim.z);
    } else if constexpr (kMayShare) {
      work() = share();
    } else {
      constexpr int kTogether = kIsPaired ? 2 : 1;
      const RowPart row =
          row_of_heads(arguments_.lists, blockIdx.x / kTogether, blockIdx.y, gridDim.x / kTogether, gridDim.y);
      work() = {row.place, row.head, int(blockIdx.z)};
    }
  }
  __device__ int kv_head() const {
    if constexpr (kTakesWork) return work().kv_head;
    return int(blockIdx.y);
  }
  __device__ int sequence() const { return kTakesWork ? work().sequence : int(blockIdx.z); }

  /// The query tiles that meet a key tile.
  __device__ Walk walk_of(int tile, int head) const {
    if constexpr (Config::kHasLists) {
      return ListWalk(arguments_.lists, sequence(), head, tile);
    } else {
      const int tiles = (arguments_.sequences[sequence()].queries + kQueries - 1) / kQueries;
      if constexpr (!kMayShare) return TilesInOrder{0, tiles};
      const int parts = work().parts, begin = tiles * work().part / parts;
      return TilesInOrder{begin, tiles * (work().part + 1) / parts - begin};
    }
  }
  /// The visit that is number `index` of a block's.
  __device__ Visit visit(const Walk& walk, int index) const {
    if constexpr (Config::kHasLists && Config::kIsOrdered) {
      return walk.visit(work().index(index, walk.count()));  // read anew each time: a producer has few registers
    } else {
      return walk.visit(index);
    }
  }
  /// How many blocks add to a tile of queries before this one.
  __device__ int turn_at(const Walk& walk, int query_tile_number) const {
    if constexpr (Config::kHasLists) {
      return __ldg(work().turns + (walk.tiles - arguments_.lists.tiles) + query_tile_number);
    } else {
      return work().row;
    }
  }
  __device__ TurnCount turns_at(int head, int query_tile_number) const {
    return {arguments_.d_q_turns + workspace_tile(head, query_tile_number)};
  }
  __device__ int first_head() const { return kv_head() * arguments_.heads_per_kv; }
  /// A query tile's number in the workspace.
  __device__ long long workspace_tile(int head, int tile) const {
    return (static_cast<long long>(sequence()) * arguments_.h_q + head) * call_.query_tiles + tile;
  }

  const BackwardCall& call_;
  const BackwardArguments& arguments_;
  const typename Variant::Arguments& variant_;
  unsigned char* const shared_;
  const unsigned base_;
};

}  // namespace tilewise::cuda::sm90
