// Tile registers: their shapes, how long a thread holds them, and blocks of sums in them.
#pragma once

#include <cstdint>

#include "cpu/block.h"

namespace tilewise::cpu {
namespace {

/// What LDTILECFG loads (Intel, Software Developer's Manual, volume 2A): the shape of each tile register.
struct alignas(64) TileShapes {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

/// Registers 0 to 3 hold float32 sums [rows, 16], 4 and 5 left sides [rows, depth] of bfloat16, 6 and 7 right sides
/// [depth / 2, 16] of pairs.
constexpr TileShapes tile_shapes(int rows, int depth) {
  TileShapes shapes;
  for (int i = 0; i < 8; ++i) {
    shapes.rows[i] = static_cast<std::uint8_t>(i < 6 ? rows : depth / 2);
    shapes.row_bytes[i] = static_cast<std::uint16_t>(i == 4 || i == 5 ? 2 * depth : 64);
  }
  return shapes;
}

inline constexpr int kTileRows = 16, kTileDepth = 32;

/// The tile registers of this thread, full-sized, from construction to destruction: released, they cost no context
/// switch anything.
template <class Tiles>
class TileRegisters {
 public:
  TileRegisters() { Tiles::configure(kWhole); }
  ~TileRegisters() { Tiles::release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;

  /// Runs f with registers of another shape, which begin at zero, as the full-sized ones do after it.
  template <class Function>
  static void with_shapes(int rows, int depth, const Function& f) {
    const TileShapes shapes = tile_shapes(rows, depth);
    Tiles::configure(shapes);
    f();
    Tiles::configure(kWhole);
  }

 private:
  static constexpr TileShapes kWhole = tile_shapes(kTileRows, kTileDepth);
};

/// M x 2 tiles of float32 sums: 16 M rows, 32 columns.
template <class Tiles, int M>
struct TileBlock {
  static_assert(M == 1 || M == 2);

  /// Memory of one operand: tiles `tile` bytes apart, their rows `row` bytes, the next along the summed axis `step`.
  struct Side {
    const float* data;
    std::int64_t row, tile, step;
  };

  static TILEWISE_INLINE void clear() {
    Tiles::template zero<0>();
    Tiles::template zero<1>();
    if constexpr (M == 2) {
      Tiles::template zero<2>();
      Tiles::template zero<3>();
    }
  }

  /// c: [16 M, 32], rows `stride` floats apart.
  static TILEWISE_INLINE void load(const float* c, std::int64_t stride) {
    Tiles::template load<0>(c, 4 * stride);
    Tiles::template load<1>(c + 16, 4 * stride);
    if constexpr (M == 2) {
      Tiles::template load<2>(c + kTileRows * stride, 4 * stride);
      Tiles::template load<3>(c + kTileRows * stride + 16, 4 * stride);
    }
  }

  static TILEWISE_INLINE void store(float* c, std::int64_t stride) {
    Tiles::template store<0>(c, 4 * stride);
    Tiles::template store<1>(c + 16, 4 * stride);
    if constexpr (M == 2) {
      Tiles::template store<2>(c + kTileRows * stride, 4 * stride);
      Tiles::template store<3>(c + kTileRows * stride + 16, 4 * stride);
    }
  }

  /// beside<part>(), with part from 0 to 3, is spread among the products of each step: a core looks ahead some 500
  /// operations, and 16 weights are 13 of them. kAhead: operands are loaded as soon as their registers are free. On one
  /// core of a Xeon that is 3% of a forward pass, and costs a backward pass, with more beside each product, as much.
  template <bool kAhead, class Beside>
  static TILEWISE_INLINE void multiply(const Side& left, const Side& right, std::int64_t steps, const Beside& beside) {
    const char* a = reinterpret_cast<const char*>(left.data);
    const char* b = reinterpret_cast<const char*>(right.data);
    for (std::int64_t i = 0; i < steps; ++i) {
      const bool loads = !kAhead || i == 0, loads_next = kAhead && i + 1 < steps;
      if (loads) {
        Tiles::template load<6>(b, right.row);
        Tiles::template load<4>(a, left.row);
      }
      Tiles::template dot<0, 4, 6>();
      if (loads) {
        Tiles::template load<7>(b + right.tile, right.row);
        if constexpr (M == 2) Tiles::template load<5>(a + left.tile, left.row);
      }
      a += left.step, b += right.step;
      beside.template operator()<0>();
      Tiles::template dot<1, 4, 7>();
      if (loads_next) Tiles::template load<4>(a, left.row);
      beside.template operator()<1>();
      if constexpr (M == 2) Tiles::template dot<2, 5, 6>();
      if (loads_next) Tiles::template load<6>(b, right.row);
      beside.template operator()<2>();
      if constexpr (M == 2) Tiles::template dot<3, 5, 7>();
      if (loads_next) Tiles::template load<7>(b + right.tile, right.row);
      if constexpr (M == 2) {
        if (loads_next) Tiles::template load<5>(a + left.tile, left.row);
      }
      beside.template operator()<3>();
    }
  }
  static TILEWISE_INLINE void multiply(const Side& left, const Side& right, std::int64_t steps) {
    multiply<false>(left, right, steps, []<int>() __attribute__((always_inline)){});
  }
};

}  // namespace
}  // namespace tilewise::cpu
