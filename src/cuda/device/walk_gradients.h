// Gradients of tables and parameters by warpgroups that walk over tiles of queries with the same 64 keys: each warp has
// 16 of them, laid out as Accumulator<1, 8> of [keys, queries].
//
// What a tile's entries give to elements is summed up by the class of a slot (variant/cuda_text.h):
//   all, key    such sums belong to one element for the whole walk over a head's tiles: they stay with their thread, in
//               shared memory, until the head is done
//   diagonal    likewise where all diagonals of a tile have one element, as clamped distances have in most tiles; else
//               sums over the lanes that share a diagonal, by way of shared memory, and one addition to memory for each
//   query       sums over lanes likewise
//   entry       an addition to memory for each entry
#pragma once

#include "gradients.h"
#include "mma.h"
#include "tile_gradients.h"

namespace tilewise::cuda {

/// A lane's numbers of one slot in a tile: of each entry where they are summed up by query or diagonal, else sums.
template <class Slot>
struct SlotNumbers {
  static constexpr bool kOfEntries = Slot::kClass == kOfQuery || Slot::kClass == kOfDiagonal;
  static constexpr int kCount = kOfEntries ? 32 : Slot::kClass == kOfKey ? 2 : 1;

  float x[kCount];

  __device__ SlotNumbers() {
#pragma unroll
    for (int n = 0; n < kCount; ++n) x[n] = 0;
  }
  /// Of [j][e] in the accumulator.
  __device__ void add(int j, int e, float value) {
    x[kOfEntries ? 4 * j + e : Slot::kClass == kOfKey ? e / 2 : 0] += value;
  }
};

/// Adds to an element: by an addition in float32, or, where sums must not depend on the order of additions, as the pass
/// asks for.
template <bool kIsOrdered>
__device__ inline void add_to_element(const GradientSums& to, float* element, float value) {
  if (value == 0) return;
  if constexpr (kIsOrdered) {
    GradientAdder::add_one(to, element, value);
  } else {
    atomicAdd(element, value);
  }
}

/// What a variant's add_gradients() is handed for a lane's entries of a tile, one after the other.
template <class Variant, bool kIsOrdered>
class EntryGradients {
 public:
  __device__ explicit EntryGradients(const GradientSums& to) : to_(to) {}

  /// The entry that is next.
  __device__ void enter(int j, int e) { j_ = j, e_ = e; }

  template <class Slot, class Table, class... Index>
  __device__ void add_table(Slot, const Table& table, int number, float value, Index... index) {
    if constexpr (Slot::kClass == kOfEntry) {
      float* const sums = to_.tables[number];
      if (sums == nullptr) return;
      const long long element = element_of(table, index...);
      if (element >= 0) add_to_element<kIsOrdered>(to_, sums + element, value);
    } else {
      static_cast<SlotNumbers<Slot>&>(numbers_).add(j_, e_, value);
    }
  }
  template <class Slot>
  __device__ void add_parameter(Slot, int, float value) {
    static_cast<SlotNumbers<Slot>&>(numbers_).add(j_, e_, value);
  }

  template <class Slot>
  __device__ const SlotNumbers<Slot>& of(Slot) const {
    return numbers_;
  }

 private:
  struct AllNumbers : Variant::template OfSlots<SlotNumbers> {};

  const GradientSums& to_;
  int j_ = 0, e_ = 0;
  AllNumbers numbers_;
};

/// A warpgroup's sums, in its shared memory, over the tiles of one head after the other. All of its threads call
/// everything; `thread` is a thread's number in it.
template <class Variant, bool kIsOrdered>
class WalkGradients {
 public:
  using Arguments = typename Variant::Arguments;
  using Place = typename Variant::Place;
  static constexpr int kKeys = 64, kQueries = 64, kOfWarp = 16;

  /// Before anything else.
  __device__ void begin(int thread) {
    if constexpr (kHasRows) {
      for (int n = thread % 32; n < kRowFloats; n += 32) rows_[thread / 32][n] = 0;
    }
  }

  /// Of the head that follows; then the threads must meet.
  __device__ void begin_head(const Place& place, int thread) {
    if (thread == 0) place_ = place;
#pragma unroll
    for (int n = 0; n < kCarried; ++n) carried_[n][thread] = 0;
    if (thread % 32 == 0) {
#pragma unroll
      for (int n = 0; n < kDiagonalSlots; ++n) carried_element_[n][thread / 32] = kNone;
    }
  }
  __device__ const Place& place() const { return place_; }

  /// Asks whether the diagonals of the tile from these on have one element. Then the threads must meet; `stage` is
  /// another one than the last time.
  template <int kSlot = 0>
  __device__ void look_up(const GradientSums& to, const Arguments& arguments, int stage, int first_query, int first_key,
                          int thread) {
    if constexpr (kSlot < Variant::kSlots) {
      using OneSlot = Slot<kSlot>;
      if constexpr (OneSlot::kClass == kOfDiagonal) {
        if (memory_of(to, OneSlot{}) != nullptr) {
          constexpr int kLast = kQueries + kKeys - 2;
          const int number = thread < kLast ? thread : kLast;
          const long long element = element_at(OneSlot{}, arguments, first_query - first_key - (kKeys - 1) + number, 0);
          const long long first = __shfl_sync(~0u, element, 0);
          const bool are_one = __all_sync(~0u, element == first);
          if (thread % 32 == 0) found_[stage][diagonals_before<kSlot>()][thread / 32] = are_one ? first : kSeveral;
        }
      }
      look_up<kSlot + 1>(to, arguments, stage, first_query, first_key, thread);
    }
  }

  /// Takes a tile's numbers. `first_key` is the warp's.
  template <int kSlot = 0>
  __device__ void add(const GradientSums& to, const Arguments& arguments,
                      const EntryGradients<Variant, kIsOrdered>& numbers, int stage, int first_query, int first_key,
                      int thread) {
    if constexpr (kSlot < Variant::kSlots) {
      using OneSlot = Slot<kSlot>;
      if (OneSlot::kClass != kOfEntry && memory_of(to, OneSlot{}) != nullptr) {
        const auto& x = numbers.of(OneSlot{}).x;
        if constexpr (OneSlot::kClass == kOfAll || OneSlot::kClass == kOfKey) {
#pragma unroll
          for (int n = 0; n < SlotNumbers<OneSlot>::kCount; ++n) carried_[carried_before<kSlot>() + n][thread] += x[n];
        } else if constexpr (OneSlot::kClass == kOfQuery) {
          add_queries<kSlot>(to, arguments, x, first_query, first_key, thread);
        } else if constexpr (OneSlot::kClass == kOfDiagonal) {
          add_diagonals<kSlot>(to, arguments, x, stage, first_query, first_key, thread);
        }
      }
      add<kSlot + 1>(to, arguments, numbers, stage, first_query, first_key, thread);
    }
  }

  /// After a head's last tile. `first_key` is the warp's.
  template <int kSlot = 0>
  __device__ void end_head(const GradientSums& to, const Arguments& arguments, int first_key, int thread) {
    if constexpr (kSlot < Variant::kSlots) {
      using OneSlot = Slot<kSlot>;
      if (OneSlot::kClass != kOfEntry && memory_of(to, OneSlot{}) != nullptr) {
        if constexpr (OneSlot::kClass == kOfAll) {
          const float sum = over_lanes<1, 32>(carried_[carried_before<kSlot>()][thread]);
          if (thread % 32 == 0) add_one<kSlot>(to, element_at(OneSlot{}, arguments, 0, first_key), sum);
        } else if constexpr (OneSlot::kClass == kOfKey) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const float sum = over_lanes<1, 4>(carried_[carried_before<kSlot>() + half][thread]);
            const int key = first_key + 8 * half + thread % 32 / 4;
            if (thread % 4 == 0) add_one<kSlot>(to, element_at(OneSlot{}, arguments, 0, key), sum);
          }
        } else if constexpr (OneSlot::kClass == kOfDiagonal) {
          add_carried<kSlot>(to, thread);
        }
      }
      end_head<kSlot + 1>(to, arguments, first_key, thread);
    }
  }

 private:
  template <int kNumber>
  using Slot = typename Variant::template Slot<kNumber>;

  static constexpr long long kNone = -1, kSeveral = -2;  // in the place of an element; tables may be empty: kNone, too

  template <int kEnd, int kSlot = 0>
  __device__ static constexpr int diagonals_before() {
    if constexpr (kSlot == kEnd) {
      return 0;
    } else {
      return (Slot<kSlot>::kClass == kOfDiagonal) + diagonals_before<kEnd, kSlot + 1>();
    }
  }
  template <int kEnd, int kSlot = 0>
  __device__ static constexpr int queries_before() {
    if constexpr (kSlot == kEnd) {
      return 0;
    } else {
      return (Slot<kSlot>::kClass == kOfQuery) + queries_before<kEnd, kSlot + 1>();
    }
  }
  /// Numbers that a thread keeps for the slots before one.
  template <int kEnd, int kSlot = 0>
  __device__ static constexpr int carried_before() {
    if constexpr (kSlot == kEnd) {
      return 0;
    } else {
      constexpr int kClass = Slot<kSlot>::kClass;
      return (kClass == kOfKey                            ? 2
              : kClass == kOfAll || kClass == kOfDiagonal ? 1
                                                          : 0) +
             carried_before<kEnd, kSlot + 1>();
    }
  }
  static constexpr int kDiagonalSlots = diagonals_before<Variant::kSlots>();
  static constexpr int kCarried = carried_before<Variant::kSlots>();
  static constexpr bool kHasRows = kDiagonalSlots + queries_before<Variant::kSlots>() > 0;

  /// Eight rows of sums, each of kRow numbers and as many zeros as stand for what is beyond its end and the next one's
  /// beginning. A stride is 4 beyond a multiple of 16, so that lanes store to different banks.
  static constexpr int kRow = kQueries + 8, kStride = 84, kRowFloats = 8 * kStride;

  template <class OneSlot>
  __device__ static float* memory_of(const GradientSums& to, OneSlot) {
    if constexpr (OneSlot::kTable >= 0) {
      return to.tables[OneSlot::kTable];
    } else {
      return to.parameters[OneSlot::kParameter];
    }
  }
  template <class OneSlot>
  __device__ long long element_at(OneSlot slot, const Arguments& arguments, int query, int key) const {
    if constexpr (OneSlot::kTable < 0) {
      return 0;
    } else {
      return Variant::gradient_element(slot, arguments, place_, Variant::query_values(arguments, place_, query),
                                       Variant::key_values(arguments, place_, key), query, key);
    }
  }
  template <int kSlot>
  __device__ static void add_one(const GradientSums& to, long long element, float sum) {
    if (element >= 0) add_to_element<kIsOrdered>(to, memory_of(to, Slot<kSlot>{}) + element, sum);
  }

  /// The sum over lanes whose numbers differ in the bits from kFirst up to kEnd.
  template <int kFirst, int kEnd>
  __device__ static float over_lanes(float x) {
#pragma unroll
    for (int step = kFirst; step < kEnd; step *= 2) x += __shfl_xor_sync(~0u, x, step);
    return x;
  }

  /// Adds what a warp's threads keep of a diagonals' slot to its element.
  template <int kSlot>
  __device__ void add_carried(const GradientSums& to, int thread) {
    const float sum = over_lanes<1, 32>(carried_[carried_before<kSlot>()][thread]);
    if (thread % 32 == 0) add_one<kSlot>(to, carried_element_[diagonals_before<kSlot>()][thread / 32], sum);
  }

  template <int kSlot>
  __device__ void add_diagonals(const GradientSums& to, const Arguments& arguments, const float (&x)[32], int stage,
                                int first_query, int first_key, int thread) {
    constexpr int kNumber = diagonals_before<kSlot>(), kKept = carried_before<kSlot>();
    const long long(&found)[4] = found_[stage][kNumber];
    const long long element = found[0];
    if (element == kSeveral || found[1] != element || found[2] != element || found[3] != element) {
      add_several_diagonals<kSlot>(to, arguments, x, first_query, first_key, thread);
      return;
    }
    float sum = 0;
#pragma unroll
    for (int n = 0; n < 32; n += 4) sum += (x[n] + x[n + 1]) + (x[n + 2] + x[n + 3]);
    if (carried_element_[kNumber][thread / 32] != element) {
      add_carried<kSlot>(to, thread);
      carried_[kKept][thread] = 0;
      __syncwarp();  // all have read the element before
      if (thread % 32 == 0) carried_element_[kNumber][thread / 32] = element;
      __syncwarp();
    }
    carried_[kKept][thread] += sum;
  }

  /// Lane (g, t) has queries 2 t + column and keys g of each block, so its sum n = 8 m - g of a column is of diagonal
  /// 2 t + column + n: eight shifted rows, which are added up.
  template <int kSlot>
  __device__ void add_several_diagonals(const GradientSums& to, const Arguments& arguments, const float (&x)[32],
                                        int first_query, int first_key, int thread) {
    const int lane = thread % 32, g = lane / 4, t = lane % 4;
    float* const rows = rows_[thread / 32];
    __syncwarp();  // sums before these have been read
#pragma unroll
    for (int column = 0; column < 2; ++column) {
      float* const row = rows + (2 * t + column) * kStride + 7 - g;
      // Of keys g query block m - 1, and of keys g + 8 block m.
#pragma unroll
      for (int m = 0; m <= kQueries / 8; ++m) {
        row[8 * m] = m == 0              ? x[2 + column]
                     : m == kQueries / 8 ? x[4 * (m - 1) + column]
                                         : x[4 * (m - 1) + column] + x[4 * m + 2 + column];
      }
    }
    __syncwarp();
    for (int diagonal = lane; diagonal < kRow + 7; diagonal += 32) {
      float sum = 0;
#pragma unroll
      for (int row = 0; row < 8; ++row) sum += rows[row * kStride + diagonal - row];
      const int difference = first_query - first_key + diagonal - 7 - 8;
      add_one<kSlot>(to, element_at(Slot<kSlot>{}, arguments, difference, 0), sum);
    }
  }

  template <int kSlot>
  __device__ void add_queries(const GradientSums& to, const Arguments& arguments, const float (&x)[32], int first_query,
                              int first_key, int thread) {
    const int lane = thread % 32, g = lane / 4, t = lane % 4;
    float* const rows = rows_[thread / 32];
    __syncwarp();  // sums before these have been read
#pragma unroll
    for (int j = 0; j < kQueries / 8; ++j) {
#pragma unroll
      for (int column = 0; column < 2; ++column)
        rows[g * kStride + 8 * j + 2 * t + column] = x[4 * j + column] + x[4 * j + 2 + column];
    }
    __syncwarp();
    for (int query = lane; query < kQueries; query += 32) {
      float sum = 0;
#pragma unroll
      for (int row = 0; row < 8; ++row) sum += rows[row * kStride + query];
      add_one<kSlot>(to, element_at(Slot<kSlot>{}, arguments, first_query + query, first_key), sum);
    }
  }

  Place place_;
  long long found_[2][kDiagonalSlots > 0 ? kDiagonalSlots : 1][4];         // by warps: the element of their diagonals
  long long carried_element_[kDiagonalSlots > 0 ? kDiagonalSlots : 1][4];  // whose sums threads keep
  float carried_[kCarried > 0 ? kCarried : 1][128];
  float rows_[4][kHasRows ? kRowFloats : 1];
};

}  // namespace tilewise::cuda
