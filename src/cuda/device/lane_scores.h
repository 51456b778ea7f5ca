// From products q.k to scores, for variants whose text is rearranged (src/variant/rearranged.h).
//
// A kernel's Variant has
//   Arguments                 what the call binds
//   kChangesScores            whether there are score functions; where not, a full tile's scores are the products
//   kHasSink, sink_logit(arguments, place)
//   Place                     a (sequence, head): see place_of
//   Query, Key, Diagonal      hoisted values: query_values(arguments, place, query_index), ...
//   kHasOneStage              whether there is one score function
//   kHasMask                  whether there are stages that remove entries, whatever tables hold
//   kFollowsDiagonals         whether keeps() is the same for all entries of equal query - key
//   kHasFunctions             whether an exponent takes functions on the unit that makes exponentials
//   kIsShort                  whether making them takes few operations
//   kQueryFields, ...         how many they are; kMostKeptFields: with more, each entry makes its own
//   kDiagonalReads            so many tables are read for a diagonal's
//   keeps                     (arguments, place, query, key, diagonal, query_index, key_index, 0)
//   score, slope              likewise with the product q.k as the last: the score, and its derivative by
//                             scale * product
//   exponent                  likewise: the score in log2 units, less of_query(arguments, place, query)
//   kMayBeSteady              whether there are tiles all of whose diagonals add the same to an exponent, which then is
//                             factor(arguments, place) * value(arguments, place, query, product)
//                             + of_query(arguments, place, query) + that number
//   kMayBeLinear              whether that may be a number for each diagonal instead, on a line
//   kAddsDiagonals            whether an exponent is factor(arguments, place) * product
//                             + of_diagonal(arguments, place, diagonal), which reads no table, and its slope a number
//                             of the head (with slopes alone)
//   kBeginsSteady             whether tiles may be steady whose exponents are factor(arguments, place) * product + that
//                             number, and their slope a number of the head (with slopes alone)
//   kMayBeSmall               whether there are small_exponent, as exponent, for products whose square is at most
//                             square_limit(arguments, place)
//   steady_value              (arguments, place, least, most): that number or line, where it is one from one diagonal
//                             to another
#pragma once

#include "arguments.h"
#include "conditional.h"
#include "shared_values.h"
#include "softmax.h"

namespace tilewise::cuda {

/// What all diagonals of a tile add to exponents, where that is one number.
struct SteadyTile {
  float value;
  int run;  // so many tiles of a walk, from this one on, have it; 0: not even this one
};

/// What kThreads threads keep of their variant in shared memory for a tile of kQueries x kKeys: values that many
/// entries share, which a lane reads instead of making them for each of its entries. Each kind has so many stages that
/// none is written anew while some warp reads it.
/// `kPlainWords`: of up to two words they lie behind one another.
template <class Variant, int kQueries, int kKeys, int kQueryStages, int kKeyStages, int kDiagonalStages,
          int kThreads = 128, bool kPlainWords = false>
struct KeptValues {
  template <class Structure, int kCount, class Others>
  using ValuesOr = Conditional<kPlainWords && sizeof(Structure) <= 8, PlainValues<Structure, kCount>, Others>;
  __device__ static constexpr bool are_few(int fields) { return fields > 0 && fields <= Variant::kMostKeptFields; }
  static constexpr bool kKeepsQueries = kQueryStages > 0 && are_few(Variant::kQueryFields);
  static constexpr bool kKeepsKeys = Variant::kChangesScores && are_few(Variant::kKeyFields);
  static constexpr bool kKeepsDiagonals = Variant::kChangesScores && are_few(Variant::kDiagonalFields);
  using Arguments = typename Variant::Arguments;
  using Place = typename Variant::Place;

  using QueriesOfTile = ValuesOr<typename Variant::Query, kKeepsQueries ? kQueries : 0,
                                 AxisValues<typename Variant::Query, kKeepsQueries ? kQueries : 0>>;
  using KeysOfTile = ValuesOr<typename Variant::Key, kKeepsKeys ? kKeys : 0,
                              AxisValues<typename Variant::Key, kKeepsKeys ? kKeys : 0>>;
  using DiagonalsOfTile =
      ValuesOr<typename Variant::Diagonal, kKeepsDiagonals ? kQueries + kKeys - 1 : 0,
               DiagonalValues<typename Variant::Diagonal, kKeepsDiagonals ? kQueries + kKeys - 1 : 0>>;

  QueriesOfTile queries[kKeepsQueries ? kQueryStages : 1];
  KeysOfTile keys[kKeepsKeys ? kKeyStages : 1];
  DiagonalsOfTile diagonals[kKeepsDiagonals ? kDiagonalStages : 1];

  // By all of the threads; what they write is there after they have met.
  __device__ void make_queries(const Arguments& arguments, const Place& place, int stage, int first_query,
                               int thread = threadIdx.x % kThreads) {
    if constexpr (kKeepsQueries) {
      for_each<kQueries>(
          thread, [&](int i) { queries[stage].set(i, Variant::query_values(arguments, place, first_query + i)); });
    }
  }
  __device__ void make_keys(const Arguments& arguments, const Place& place, int stage, int first_key,
                            int thread = threadIdx.x % kThreads) {
    if constexpr (kKeepsKeys)
      for_each<kKeys>(thread, [&](int i) { keys[stage].set(i, Variant::key_values(arguments, place, first_key + i)); });
  }
  __device__ void make_diagonals(const Arguments& arguments, const Place& place, int stage, int first_query,
                                 int first_key, int thread = threadIdx.x % kThreads) {
    if constexpr (kKeepsDiagonals) {
      const int least = first_query - (first_key + kKeys - 1);
      for_each<kQueries + kKeys - 1>(
          thread, [&](int i) { diagonals[stage].set(i, Variant::diagonal_values(arguments, place, least + i)); });
    }
  }
  /// Likewise those of a warp's queries or keys from `first` on, kOfWarp of them, by that warp, which has them at once.
  /// Other warps may write the same to the same places.
  template <int kOfWarp>
  __device__ void make_diagonals_of_warp(const Arguments& arguments, const Place& place, int stage, int first_query,
                                         int first_key, int first, int lane) {
    if constexpr (kKeepsDiagonals) {
      const int least = first_query - (first_key + kKeys - 1);
#pragma unroll 1
      for (int i = first + lane; i < first + kOfWarp; i += 32) {
        diagonals[stage].set(i, Variant::diagonal_values(arguments, place, least + i));
      }
      __syncwarp();
    }
  }

  /// What a thread makes of a tile's keys and diagonals, to be kept later: what it waits for is there by then.
  struct Made {
    static constexpr bool kAny = Variant::kIsShort && (kKeepsKeys || kKeepsDiagonals);
    static constexpr int kDiagonals = kQueries + kKeys - 1;
    typename Variant::Key keys[kAny && kKeepsKeys ? (kKeys + kThreads - 1) / kThreads : 1];
    typename Variant::Diagonal diagonals[kAny && kKeepsDiagonals ? (kDiagonals + kThreads - 1) / kThreads : 1];
  };
  __device__ void make(Made& made, const Arguments& arguments, const Place& place, int first_query,
                       int first_key) const {
    if constexpr (Made::kAny && kKeepsKeys) {
      for_each_of_thread<kKeys>(
          [&](int n, int i) { made.keys[n] = Variant::key_values(arguments, place, first_key + i); });
    }
    if constexpr (Made::kAny && kKeepsDiagonals) {
      const int least = first_query - (first_key + kKeys - 1);
      for_each_of_thread<Made::kDiagonals>(
          [&](int n, int i) { made.diagonals[n] = Variant::diagonal_values(arguments, place, least + i); });
    }
  }
  __device__ void keep(const Made& made, int stage) {
    if constexpr (Made::kAny && kKeepsKeys)
      for_each_of_thread<kKeys>([&](int n, int i) { keys[stage].set(i, made.keys[n]); });
    if constexpr (Made::kAny && kKeepsDiagonals)
      for_each_of_thread<Made::kDiagonals>([&](int n, int i) { diagonals[stage].set(i, made.diagonals[n]); });
  }

 private:
  /// use(n, i) for a thread's n-th number i; the last ones are several threads'.
  template <int kCount, class Use>
  __device__ static void for_each_of_thread(const Use& use) {
    const int thread = threadIdx.x % kThreads;
#pragma unroll
    for (int n = 0; n < (kCount + kThreads - 1) / kThreads; ++n) use(n, ::min(thread + n * kThreads, kCount - 1));
  }

  /// One number a thread at a time; two together where that is little text, which hides half of the waiting.
  template <int kCount, class Make>
  __device__ static void for_each(int thread, const Make& make) {
    if constexpr (Variant::kIsShort && kCount > kThreads && kCount <= 2 * kThreads) {
      // The last ones are made twice rather than under a condition.
      const int second = ::min(thread + kThreads, kCount - 1);
      make(thread), make(second);
    } else {
#pragma unroll 1
      for (int i = thread; i < kCount; i += kThreads) make(i);
    }
  }
};

/// A lane's entries of a tile: those `query` and `key` away from its first one.
template <class Variant, class Values, int kKeys>
struct LaneScores {
  using Arguments = typename Variant::Arguments;

  const Arguments& arguments;
  const typename Variant::Place& place;
  int first_query, first_key;                         // indices of the lane's first entry
  typename Values::QueriesOfTile::Place queries;      // of the lane's first entry and on, where they are kept
  typename Values::KeysOfTile::Place keys;            // likewise
  typename Values::DiagonalsOfTile::Place diagonals;  // of the lane's first entry, in the midst of the others

  /// The tile's first query and key and, within the tile, the lane's.
  __device__ LaneScores(const Arguments& bound, const typename Variant::Place& of_head, const Values& values,
                        int query_stage, int key_stage, int diagonal_stage, int tile_query, int tile_key, int row,
                        int column)
      : arguments(bound),
        place(of_head),
        first_query(tile_query + row),
        first_key(tile_key + column),
        queries(values.queries[Values::kKeepsQueries ? query_stage : 0].at(row)),
        keys(values.keys[Values::kKeepsKeys ? key_stage : 0].at(column)),
        diagonals(values.diagonals[Values::kKeepsDiagonals ? diagonal_stage : 0].at(row - column + kKeys - 1)) {}

  __device__ auto query_at(int query) const {
    if constexpr (Values::kKeepsQueries)
      return queries[query];
    else
      return Variant::query_values(arguments, place, query_index(query));
  }
  __device__ auto key_at(int key) const {
    if constexpr (Values::kKeepsKeys)
      return keys[key];
    else
      return Variant::key_values(arguments, place, key_index(key));
  }
  __device__ auto diagonal_at(int query, int key) const {
    if constexpr (Values::kKeepsDiagonals)
      return diagonals[query - key];
    else
      return Variant::diagonal_values(arguments, place, query_index(query) - key_index(key));
  }
  __device__ int query_index(int query) const { return first_query + query; }
  __device__ int key_index(int key) const { return first_key + key; }

  __device__ bool keeps(int query, int key) const {
    return Variant::keeps(arguments, place, query_at(query), key_at(key), diagonal_at(query, key), query_index(query),
                          key_index(key), 0);
  }
  /// In log2 units, not clamped, less `base`.
  __device__ float exponent(int query, int key, float product, float base) const {
    return own_exponent(query, key, product) - (base - of_query(query));
  }
  /// Likewise, less what is the query's alone.
  __device__ float own_exponent(int query, int key, float product) const {
    return Variant::exponent(arguments, place, query_at(query), key_at(key), diagonal_at(query, key),
                             query_index(query), key_index(key), product);
  }
  __device__ float of_query(int query) const { return Variant::of_query(arguments, place, query_at(query)); }
  /// Likewise, of a product whose square is at most Variant::square_limit.
  __device__ float small_exponent(int query, int key, float product, float base) const {
    return own_small_exponent(query, key, product) - (base - of_query(query));
  }
  __device__ float own_small_exponent(int query, int key, float product) const {
    return Variant::small_exponent(arguments, place, query_at(query), key_at(key), diagonal_at(query, key),
                                   query_index(query), key_index(key), product);
  }
  /// Not clamped; -inf where a stage removes the entry.
  __device__ float score(int query, int key, float product) const {
    return Variant::score(arguments, place, query_at(query), key_at(key), diagonal_at(query, key), query_index(query),
                          key_index(key), product);
  }
  static constexpr float kFloor = -0x1p126f;
  __device__ static float clamped(float score) { return score < kFloor && score != -infinity() ? kFloor : score; }
  /// d(score)/d(scale * product), of a score that is not clamped.
  __device__ float slope(int query, int key, float product) const {
    return Variant::slope(arguments, place, query_at(query), key_at(key), diagonal_at(query, key), query_index(query),
                          key_index(key), product);
  }
};

}  // namespace tilewise::cuda
