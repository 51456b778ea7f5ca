// Packing for AMX: pairs as for bfloat16 dot products, and transposes whose pairs run along rows.
#pragma once

#include <type_traits>

#include "cpu/isa/avx512_transpose.h"
#include "cpu/isa/bf16_packing.h"

namespace tilewise::cpu {
namespace {

struct AmxPacking : Bf16Packing {
  /// rows [count, width] -> packed [width][ceil(count / 2)] pairs of neighbouring rows, columns `stride` floats apart,
  /// whole vectors of 8 pairs written, zero past count. finite: with zeros in place of NaN and infinity.
  static void transpose_pairs_of_rows(const Rows& rows, std::int64_t begin, int count, int width, bool finite,
                                      float* packed, std::int64_t stride) {
    with_row(rows, begin, [&](const auto* row) {
      if constexpr (std::is_same_v<decltype(row), const BFloat16*>) {
        if (count % 32 == 0 && width % 32 == 0)
          return transpose_whole_pairs(row, rows.stride, count, width, finite, packed, stride);
      }
      for (int first = 0; first < count; first += 16) {
        for (int column = 0; column < width; column += 8) {
          const int wide = width - column < 8 ? width - column : 8;
          __m256 block[8];
          for (int i = 0; i < 8; ++i) {
            const int even = first + 2 * i;
            const auto* source = row + even * rows.stride + column;
            const __m128i low = even < count ? load8_halves(source, wide) : _mm_setzero_si128();
            const __m128i high = even + 1 < count ? load8_halves(source + rows.stride, wide) : _mm_setzero_si128();
            const __m256i pairs = _mm256_set_m128i(_mm_unpackhi_epi16(low, high), _mm_unpacklo_epi16(low, high));
            block[i] = _mm256_castsi256_ps(finite ? finite_halves(pairs) : pairs);
          }
          transpose(block);
          for (int i = 0; i < wide; ++i) _mm256_storeu_ps(packed + (column + i) * stride + first / 2, block[i]);
        }
      }
    });
  }

 private:
  /// transpose_pairs_of_rows of count and width multiples of 32.
  static void transpose_whole_pairs(const BFloat16* rows, std::int64_t row_stride, int count, int width, bool finite,
                                    float* packed, std::int64_t stride) {
    for (int first = 0; first < count; first += 32, rows += 32 * row_stride) {
      for (int column = 0; column < width; column += 32) {
        __m512i blocks[2][16];  // of columns 0 to 3 of each eight, and of 4 to 7
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
          const __m512i even = _mm512_loadu_si512(rows + 2 * i * row_stride + column);
          const __m512i odd = _mm512_loadu_si512(rows + (2 * i + 1) * row_stride + column);
          blocks[0][i] = _mm512_unpacklo_epi16(even, odd);
          blocks[1][i] = _mm512_unpackhi_epi16(even, odd);
        }
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          transpose(blocks[half]);
#pragma GCC unroll 16
          for (int i = 0; i < 16; ++i) {
            const __m512i pairs = finite ? finite_halves(blocks[half][i]) : blocks[half][i];
            const std::int64_t to = column + i / 4 * 8 + half * 4 + i % 4;
            _mm512_storeu_si512(packed + to * stride + first / 2, pairs);
          }
        }
      }
    }
  }

  static __m256i finite_halves(__m256i halves) {
    const __m256i exponent = _mm256_set1_epi16(0x7f80);
    return _mm256_maskz_mov_epi16(_mm256_cmpneq_epi16_mask(_mm256_and_si256(halves, exponent), exponent), halves);
  }
  static __m512i finite_halves(__m512i halves) {
    const __m512i exponent = _mm512_set1_epi16(0x7f80);
    return _mm512_maskz_mov_epi16(_mm512_cmpneq_epi16_mask(_mm512_and_si512(halves, exponent), exponent), halves);
  }
};

}  // namespace
}  // namespace tilewise::cpu
