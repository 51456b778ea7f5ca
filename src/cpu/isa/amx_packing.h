// Packing for AMX: pairs as for bfloat16 dot products, and transposes whose pairs run along rows.
#pragma once

#include "cpu/isa/bf16_packing.h"

namespace tilewise::cpu {
namespace {

struct AmxPacking : Bf16Packing {
  /// rows [count, width] -> packed [width][ceil(count / 2)] pairs of neighbouring rows, columns `stride` floats apart,
  /// whole vectors of 8 pairs written, zero past count. finite: with zeros in place of NaN and infinity.
  static void transpose_pairs_of_rows(const Rows& rows, std::int64_t begin, int count, int width, bool finite,
                                      float* packed, std::int64_t stride) {
    with_row(rows, begin, [&](const auto* row) {
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
  static __m256i finite_halves(__m256i halves) {
    const __m256i exponent = _mm256_set1_epi16(0x7f80);
    return _mm256_maskz_mov_epi16(_mm256_cmpneq_epi16_mask(_mm256_and_si256(halves, exponent), exponent), halves);
  }
};

}  // namespace
}  // namespace tilewise::cpu
