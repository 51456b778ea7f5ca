// Packing of operands as pairs of bfloat16, for engines whose products take such pairs along the summed axis.
#pragma once

#include "cpu/isa/avx_packing.h"

namespace tilewise::cpu {
namespace {

/// `count` <= 8 elements as bfloat16, zero above.
template <class Element>
inline __m128i load8_halves(const Element* p, int count) {
  if constexpr (std::is_same_v<Element, BFloat16>) {
    if (count == 8) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  BFloat16 halves[8];
  store8(halves, count == 8 ? load8(p) : load_some(p, count));
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(halves));
}

/// `count` <= 16 elements as eight pairs of neighbours.
template <class Element>
inline __m256 load8_pairs(const Element* p, int count) {
  const __m128i low = load8_halves(p, count < 8 ? count : 8);
  const __m128i high = count <= 8 ? _mm_setzero_si128() : load8_halves(p + 8, count - 8);
  return _mm256_castsi256_ps(_mm256_set_m128i(high, low));
}

/// Outputs are float32 and unpacked as everywhere; only operands differ.
struct Bf16Packing : AvxPacking {
  /// rows [count, width] -> packed [ceil(width / 2)][columns] pairs, times factor, columns past count zero.
  static void transpose_in(const Rows& rows, std::int64_t begin, int count, int width, float factor, float* packed,
                           int columns) {
    with_row(rows, begin,
             [&](const auto* row) { transpose_pairs(row, rows.stride, count, width, factor, packed, columns); });
  }

  /// rows [count, width] -> packed [count][ceil(width / 2)] pairs.
  static void widen_rows(const Rows& rows, std::int64_t begin, int count, int width, float* packed) {
    with_row(rows, begin, [&](const auto* row) {
      for (int i = 0; i < count; ++i, row += rows.stride) {
        for (int column = 0; column < width; column += 16, packed += 8) {
          const int wide = width - column < 16 ? width - column : 16;
          alignas(32) float pairs[8];
          _mm256_store_ps(pairs, load8_pairs(row + column, wide));
          for (int pair = 0; pair < (wide + 1) / 2; ++pair) packed[pair] = pairs[pair];
          if (wide < 16) packed += (wide + 1) / 2 - 8;
        }
      }
    });
  }

  /// rows [count, width] -> panels [ceil(width / panel)][ceil(count / 2)][panel] pairs of neighbouring rows, panels
  /// panel_stride floats apart.
  static void pack_panels(const Rows& rows, std::int64_t begin, int count, int width, int panel,
                          std::int64_t panel_stride, float* panels) {
    with_row(rows, begin, [&](const auto* row) {
      for (int column = 0; column < width; column += 8) {
        const int wide = width - column < 8 ? width - column : 8;
        float* low = panels + column / panel * panel_stride + column % panel;
        float* high = panel == 4 ? low + panel_stride : low + 4;
        const bool has_high = panel != 4 || wide > 4;
        for (int i = 0; i < count; i += 2) {
          const auto* source = row + i * rows.stride + column;
          const __m128i even = load8_halves(source, wide);
          const __m128i odd = i + 1 < count ? load8_halves(source + rows.stride, wide) : _mm_setzero_si128();
          const std::int64_t at = std::int64_t{i / 2} * panel;
          _mm_storeu_ps(low + at, _mm_castsi128_ps(_mm_unpacklo_epi16(even, odd)));
          if (has_high) _mm_storeu_ps(high + at, _mm_castsi128_ps(_mm_unpackhi_epi16(even, odd)));
        }
      }
    });
  }

 private:
  template <class Element>
  static void transpose_pairs(const Element* rows, std::int64_t stride, int count, int width, float factor,
                              float* packed, int columns) {
    // The only factors that matter are 1 and -1; any other is smaller than every bfloat16 score can resolve.
    const __m256 sign = _mm256_castsi256_ps(_mm256_set1_epi32(factor < 0 ? static_cast<int>(0x80008000u) : 0));
    const __m256 keep = _mm256_castsi256_ps(_mm256_set1_epi32(factor == 1 || factor == -1 ? -1 : 0));
    for (int row = 0; row < columns; row += 8) {
      for (int column = 0; column < width; column += 16) {
        const int wide = width - column < 16 ? width - column : 16;
        __m256 block[8];
        for (int i = 0; i < 8; ++i) {
          block[i] = row + i >= count ? _mm256_setzero_ps() : load8_pairs(rows + (row + i) * stride + column, wide);
        }
        transpose(block);
        for (int i = 0; i < (wide + 1) / 2; ++i) {
          _mm256_storeu_ps(packed + std::int64_t{column / 2 + i} * columns + row,
                           _mm256_and_ps(keep, _mm256_xor_ps(sign, block[i])));
        }
      }
    }
  }
};

}  // namespace
}  // namespace tilewise::cpu
