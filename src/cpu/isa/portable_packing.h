// Packing of rows of any storage type, for every architecture.
#pragma once

#include "core/half.h"
#include "cpu/isa/lanes_portable.h"
#include "cpu/isa/with_row.h"

namespace tilewise::cpu {
namespace {

struct PortablePacking {
  template <class Function>
  static void with_element(DType dtype, Function&& f) {
    with_element_of(dtype, f);
  }

  /// rows [count, width] -> packed [width][columns] float32 times factor, columns past count zero; columns is a
  /// multiple of 4.
  static void transpose_in(const Rows& rows, std::int64_t begin, int count, int width, float factor, float* packed,
                           int columns) {
    const Vec factors = Lanes::broadcast(factor);
    with_row(rows, begin, [&](const auto* first) {
      for (int row = 0; row < columns; row += 4) {
        for (int column = 0; column < width; column += 4) {
          const int wide = least(width - column, 4);
          Vec block[4];
          for (int i = 0; i < 4; ++i) {
            const bool present = row + i < count;
            block[i] = present ? load(first + (row + i) * rows.stride + column, wide) : Lanes::zero();
          }
          Lanes::transpose(block);
          for (int i = 0; i < wide; ++i) {
            Lanes::store(packed + std::int64_t{column + i} * columns + row, Lanes::mul(block[i], factors));
          }
        }
      }
    });
  }

  /// packed [width][columns], factors [columns] -> rows [count, width], column c times factors[c].
  static void transpose_out(const float* packed, int columns, const float* factors, std::int64_t begin, int count,
                            int width, const MutableRows& rows) {
    with_row(rows, begin, [&](auto* first) {
      for (int row = 0; row < count; row += 4) {
        const Vec scale = Lanes::load(factors + row);
        for (int column = 0; column < width; column += 4) {
          const int wide = least(width - column, 4);
          Vec block[4];
          for (int i = 0; i < 4; ++i) {
            const float* source = packed + std::int64_t{column + i} * columns + row;
            block[i] = i < wide ? Lanes::mul(scale, Lanes::load(source)) : Lanes::zero();
          }
          Lanes::transpose(block);
          for (int i = 0; i < least(count - row, 4); ++i) {
            store(first + (row + i) * rows.stride + column, block[i], wide);
          }
        }
      }
    });
  }

  /// rows [count, width] -> panels [ceil(width / panel)][count][panel] float32, panels panel_stride floats apart,
  /// columns past width zero. panel is a multiple of 4.
  static void pack_panels(const Rows& rows, std::int64_t begin, int count, int width, int panel,
                          std::int64_t panel_stride, float* panels) {
    with_row(rows, begin, [&](const auto* first) {
      for (int column = 0; column < rounded(width, panel); column += 4) {
        float* to = panels + column / panel * panel_stride + column % panel;
        const int wide = least(width - column, 4);
        for (int row = 0; row < count; ++row) {
          Lanes::store(to + std::int64_t{row} * panel,
                       wide > 0 ? load(first + row * rows.stride + column, wide) : Lanes::zero());
        }
      }
    });
  }

  /// One row of `width` elements to float32.
  static void to_floats(const Rows& row, int width, float* floats) { widen_rows(row, 0, 1, width, floats); }

  /// rows [count, width] -> packed [count][width] float32.
  static void widen_rows(const Rows& rows, std::int64_t begin, int count, int width, float* packed) {
    with_row(rows, begin, [&](const auto* row) {
      for (int i = 0; i < count; ++i, row += rows.stride, packed += width) {
        for (int column = 0; column < width; column += 4) {
          const int wide = least(width - column, 4);
          store(packed + column, load(row + column, wide), wide);
        }
      }
    });
  }

  /// packed [count][columns] times factor -> rows [count, width].
  static void narrow_rows(const float* packed, int columns, float factor, std::int64_t begin, int count, int width,
                          const MutableRows& rows) {
    const Vec factors = Lanes::broadcast(factor);
    with_row(rows, begin, [&](auto* row) {
      for (int i = 0; i < count; ++i, row += rows.stride, packed += columns) {
        for (int column = 0; column < width; column += 4) {
          const int wide = least(width - column, 4);
          store(row + column, Lanes::mul(load(packed + column, wide), factors), wide);
        }
      }
    });
  }

 private:
  using Lanes = PortableLanes;
  using Vec = Lanes::Vec;

  static constexpr int least(int a, int b) { return a < b ? a : b; }
  static constexpr int rounded(int n, int step) { return (n + step - 1) / step * step; }

  template <class Element>
  static TILEWISE_INLINE Vec load(const Element* p, int count) {
    return count >= 4 ? Lanes::load(p) : Lanes::load_first(p, count);
  }

  static TILEWISE_INLINE void store(float* p, Vec x, int count) {
    if (count >= 4) return Lanes::store(p, x);
    float lanes[4];
    Lanes::store(lanes, x);
    for (int i = 0; i < count; ++i) p[i] = lanes[i];
  }
  static TILEWISE_INLINE void store(BFloat16* p, Vec x, int count) { store_halves<Bfloat16>(p, x, count); }
  static TILEWISE_INLINE void store(cpu::Float16* p, Vec x, int count) { store_halves<tilewise::Float16>(p, x, count); }
  /// One by one: only outputs are narrowed, once a pass.
  template <class Half, class Element>
  static void store_halves(Element* p, Vec x, int count) {
    float lanes[4];
    Lanes::store(lanes, x);
    for (int i = 0; i < least(count, 4); ++i) p[i].bits = Half(double{lanes[i]}).bits;
  }
};

}  // namespace
}  // namespace tilewise::cpu
