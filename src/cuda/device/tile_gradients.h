// Gradients of tables and parameters from a tile of entries. What entries of a tile give to one element (all of them,
// or those of a query, a key or a diagonal) is summed up in registers first, then over the warp's lanes, and reaches
// memory as one number for each query, key or diagonal of the warp's piece.
#pragma once

#include "gradients.h"
#include "products.h"

namespace tilewise::cuda {

/// Classes of the entries that share an element: variant::Hoist's numbers.
inline constexpr int kOfAll = 0, kOfQuery = 1, kOfKey = 2, kOfDiagonal = 3, kOfEntry = 4;

/// A lane's sums of one slot over its warp's piece of a tile of scores [keys, queries].
template <class Grid, class Slot>
struct SlotSums {
  static constexpr int kKeyBlocks = 2 * Grid::kRows, kQueryBlocks = 2 * Grid::kColumns;  // of 8
  static constexpr int kDiagonals = kKeyBlocks + kQueryBlocks - 1;                       // of such blocks
  static constexpr int kClass = Slot::kClass;
  static constexpr int kSums = kClass == kOfQuery      ? 2 * kQueryBlocks
                               : kClass == kOfKey      ? kKeyBlocks
                               : kClass == kOfDiagonal ? 2 * kDiagonals
                                                       : 1;
  float x[kSums];

  __device__ SlotSums() {
#pragma unroll
    for (int n = 0; n < kSums; ++n) x[n] = 0;
  }

  /// Of key block i (of 8), query block j and the lane's column 0 or 1 in it.
  __device__ void add(int i, int j, int column, float value) {
    x[kClass == kOfQuery      ? 2 * j + column
      : kClass == kOfKey      ? i
      : kClass == kOfDiagonal ? 2 * (j - i + kKeyBlocks - 1) + column
                              : 0] += value;
  }
};

/// What a variant's add_gradients() is handed for the entries of a tile, one after the other; flush() adds the sums to
/// memory. All lanes of a warp call it.
template <class Config, class Variant, class Grid>
class TileGradients {
 public:
  __device__ TileGradients(const GradientSums& to, const typename Variant::Arguments& variant,
                           const typename Variant::Place& place)
      : to_(to), variant_(variant), place_(place) {}

  /// The entry that is next.
  __device__ void enter(int key_block, int query_block, int column) {
    i_ = key_block, j_ = query_block, column_ = column;
  }

  template <class Slot, class Table, class... Index>
  __device__ void add_table(Slot slot, const Table& table, int number, float value, Index... index) {
    if constexpr (Slot::kClass == kOfEntry) {
      GradientAdder(to_).add_table(slot, table, number, value, index...);
    } else {
      static_cast<SlotSums<Grid, Slot>&>(sums_).add(i_, j_, column_, value);
    }
  }
  template <class Slot>
  __device__ void add_parameter(Slot, int, float value) {
    static_cast<SlotSums<Grid, Slot>&>(sums_).add(i_, j_, column_, value);
  }

  /// `query` and `key` are the indices of the warp's piece's first entry.
  template <int kSlot = 0>
  __device__ void flush(int query, int key) {
    if constexpr (kSlot < Variant::kSlots) {
      using Slot = typename Variant::template Slot<kSlot>;
      if constexpr (Slot::kClass != kOfEntry) flush_slot(Slot{}, query, key);
      flush<kSlot + 1>(query, key);
    }
  }

 private:
  struct SumsInGrid {
    template <class Slot>
    using Of = SlotSums<Grid, Slot>;
  };
  struct AllSums : Variant::template OfSlots<SumsInGrid::template Of> {};

  __device__ static int lane() { return threadIdx.x % 32; }

  template <class Slot>
  __device__ void flush_slot(Slot slot, int query, int key) {
    using Sums = SlotSums<Grid, Slot>;
    float* memory = nullptr;
    if constexpr (Slot::kTable >= 0) {
      memory = to_.tables[Slot::kTable];
    } else {
      memory = to_.parameters[Slot::kParameter];
    }
    if (memory == nullptr) return;
    const Sums& sums = sums_;
    Pending pending{to_, memory, -1, 0};
    const auto add = [&](float sum, int at_query, int at_key) {
      if (sum == 0) return;
      long long element = 0;
      if constexpr (Slot::kTable >= 0) {
        element = Variant::gradient_element(slot, variant_, place_, Variant::query_values(variant_, place_, at_query),
                                            Variant::key_values(variant_, place_, at_key), at_query, at_key);
      }
      if (element >= 0) pending.add(element, sum);
    };
    if constexpr (Sums::kClass == kOfAll) {
      const float sum = over_lanes<1, 32>(sums.x[0]);
      if (lane() == 0) add(sum, query, key);
    } else if constexpr (Sums::kClass == kOfQuery) {
#pragma unroll
      for (int n = 0; n < Sums::kSums; ++n) {
        const float sum = over_lanes<4, 32>(sums.x[n]);
        if (lane() < 4) add(sum, query + n / 2 * 8 + lane() * 2 + n % 2, key);
      }
    } else if constexpr (Sums::kClass == kOfKey) {
#pragma unroll
      for (int n = 0; n < Sums::kSums; ++n) {
        const float sum = over_lanes<1, 4>(sums.x[n]);
        if (lane() % 4 == 0) add(sum, query, key + n * 8 + lane() / 4);
      }
    } else {
      flush_diagonals(sums, query, key, add);
    }
    pending.flush();
  }

  /// A lane's number on its way to memory: what follows for the same element joins it, and in the end those of all
  /// lanes where they are for one. A distance that is clamped has but one element for most tiles, and atomic additions
  /// to one element wait for each other.
  struct Pending {
    const GradientSums& to;
    float* memory;
    long long element;  // -1: none
    float sum;

    __device__ void add(long long next, float value) {
      if (element >= 0 && element != next) GradientAdder::add_one(to, memory + element, sum), sum = 0;
      element = next;
      sum += value;
    }
    __device__ void flush() {
      const unsigned lanes = __ballot_sync(~0u, element >= 0);
      if (lanes == 0) return;
      const int first = __ffs(lanes) - 1;
      const long long other = __shfl_sync(~0u, element, first);
      if (__all_sync(~0u, element < 0 || element == other)) {
        const float all = over_lanes<1, 32>(element < 0 ? 0.0f : sum);
        if (threadIdx.x % 32 == first) GradientAdder::add_one(to, memory + element, all);
      } else if (element >= 0) {
        GradientAdder::add_one(to, memory + element, sum);
      }
    }
  };

  /// The sum over lanes whose numbers differ in the bits from kFirst up to kEnd.
  template <int kFirst, int kEnd>
  __device__ static float over_lanes(float x) {
#pragma unroll
    for (int step = kFirst; step < kEnd; step *= 2) x += __shfl_xor_sync(~0u, x, step);
    return x;
  }

  /// Lane (g, t) has queries 2 t + column and keys g of each block, so its sum n = 8 m - g of a column is of diagonal
  /// 2 t + column + n: eight shifted rows, which are added up in shared memory.
  template <class Sums, class Add>
  __device__ void flush_diagonals(const Sums& sums, int query, int key, const Add& add) {
    constexpr int kRow = 8 * Sums::kDiagonals;             // numbers of a (t, column)
    constexpr int kStride = kRow + (20 - kRow % 16) % 16;  // 4 beyond a multiple of 16: lanes store to different banks
    __shared__ float shared[Config::kWarps][8 * kStride];
    float* const rows = shared[threadIdx.x / 32];
    const int g = lane() / 4, t = lane() % 4;
    __syncwarp();  // sums before these have been read
#pragma unroll
    for (int n = 0; n < Sums::kSums; ++n) rows[(2 * t + n % 2) * kStride + n / 2 * 8 + 7 - g] = sums.x[n];
    __syncwarp();
    for (int diagonal = lane(); diagonal < kRow + 7; diagonal += 32) {
      float sum = 0;
#pragma unroll
      for (int row = 0; row < 8; ++row) {
        const int n = diagonal - row;
        if (n >= 0 && n < kRow) sum += rows[row * kStride + n];
      }
      const int difference = query - key + diagonal - 7 - 8 * (Sums::kKeyBlocks - 1);
      add(sum, difference, 0);  // an element of a diagonal is that of any of its entries
    }
  }

  const GradientSums& to_;
  const typename Variant::Arguments& variant_;
  const typename Variant::Place& place_;
  int i_ = 0, j_ = 0, column_ = 0;
  AllSums sums_;
};

/// Where no gradients are asked for.
struct NoGradients {
  template <class... Any>
  __device__ explicit NoGradients(const Any&...) {}
};

}  // namespace tilewise::cuda
