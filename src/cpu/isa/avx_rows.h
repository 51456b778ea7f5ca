// Rows of a tensor to packed float32 and back, on x86: conversions, transposes, panels. Everything here has internal
// linkage, so each instruction set's file compiles its own copy.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/element.h"
#include "cpu/isa/avx_transpose.h"

namespace tilewise::cpu {
namespace {

inline __m256 load8(const float* p) { return _mm256_loadu_ps(p); }
inline __m256 load8(const BFloat16* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
inline __m256 load8(const Float16* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }

inline float load1(const float* p) { return *p; }
inline float load1(const BFloat16* p) {
  return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(std::uint32_t{p->bits} << 16))));
}
inline float load1(const Float16* p) { return _cvtsh_ss(p->bits); }

inline float load1(const std::int8_t* p) { return static_cast<float>(*p); }

inline __m256 load8(const std::int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

inline void store8(float* p, __m256 x) { _mm256_storeu_ps(p, x); }
inline void store8(BFloat16* p, __m256 x) {
  // Round to nearest even on the integer bits; a NaN keeps its upper bits and stays quiet.
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan), 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}
inline void store8(Float16* p, __m256 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

/// Stores the first `count` of eight lanes.
template <class Element>
inline void store_some(Element* p, __m256 x, int count) {
  Element lanes[8];
  store8(lanes, x);
  for (int i = 0; i < count; ++i) p[i] = lanes[i];
}

/// Loads `count` <= 8 elements, zero above.
template <class Element>
inline __m256 load_some(const Element* p, int count) {
  alignas(32) float lanes[8] = {};
  for (int i = 0; i < count; ++i) lanes[i] = load1(p + i);
  return _mm256_load_ps(lanes);
}
inline __m256 load_some(const float* p, int count) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lanes));
}

/// rows [8, 8], stride apart  ->  columns [8, 8] times factor, column_stride apart. Not in line: next to the loops of
/// partial blocks neither rows nor addresses kept their registers, at three times the time.
template <class Element>
__attribute__((noinline)) void transpose_block_in(const Element* rows, std::int64_t stride, __m256 factors,
                                                  float* columns, std::int64_t column_stride) {
  __m256 block[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) block[i] = load8(rows + i * stride);
  transpose(block);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) _mm256_storeu_ps(columns + i * column_stride, _mm256_mul_ps(block[i], factors));
}

/// And back; factors of the rows.
template <class Element>
__attribute__((noinline)) void transpose_block_out(const float* columns, std::int64_t column_stride, __m256 factors,
                                                   Element* rows, std::int64_t stride) {
  __m256 block[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) block[i] = _mm256_mul_ps(factors, _mm256_loadu_ps(columns + i * column_stride));
  transpose(block);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) store8(rows + i * stride, block[i]);
}

/// rows: [count, width] elements, stride apart  ->  packed: [width, columns] float32 times factor, columns past count
/// zero. columns is a multiple of 8.
template <class Element>
void transpose_in(const Element* rows, std::int64_t stride, int count, int width, float factor, float* packed,
                  int columns) {
  const __m256 factors = _mm256_set1_ps(factor);
  for (int row = 0; row < columns; row += 8) {
    const int present = count - row < 8 ? count - row : 8;
    for (int column = 0; column < width; column += 8) {
      const int wide = width - column < 8 ? width - column : 8;
      const Element* source = rows + row * stride + column;
      float* target = packed + std::int64_t{column} * columns + row;
      // Rows are short and their lines in no order that the processor would foresee.
      if (column * static_cast<int>(sizeof(Element)) % 64 == 0) {
        for (int i = 0; i < 8; ++i) __builtin_prefetch(source + (8 + i) * stride);
      }
      if (present == 8 && wide == 8) {
        transpose_block_in(source, stride, factors, target, columns);
        continue;
      }
      __m256 block[8];
      for (int i = 0; i < 8; ++i) block[i] = i < present ? load_some(source + i * stride, wide) : _mm256_setzero_ps();
      transpose(block);
      for (int i = 0; i < wide; ++i) {
        _mm256_storeu_ps(target + std::int64_t{i} * columns, _mm256_mul_ps(block[i], factors));
      }
    }
  }
}

/// packed: [width, columns]; factors: [columns]  ->  rows: [count, width] elements, stride apart, column c times
/// factors[c].
template <class Element>
void transpose_out(const float* packed, int columns, const float* factors, int count, int width, Element* rows,
                   std::int64_t stride) {
  for (int row = 0; row < count; row += 8) {
    const int present = count - row < 8 ? count - row : 8;
    const __m256 scale = _mm256_loadu_ps(factors + row);
    for (int column = 0; column < width; column += 8) {
      const int wide = width - column < 8 ? width - column : 8;
      const float* source = packed + std::int64_t{column} * columns + row;
      Element* target = rows + row * stride + column;
      if (present == 8 && wide == 8) {
        transpose_block_out(source, columns, scale, target, stride);
        continue;
      }
      __m256 block[8];
      for (int i = 0; i < 8; ++i) {
        block[i] =
            i < wide ? _mm256_mul_ps(scale, _mm256_loadu_ps(source + std::int64_t{i} * columns)) : _mm256_setzero_ps();
      }
      transpose(block);
      for (int i = 0; i < present; ++i) store_some(target + i * stride, block[i], wide);
    }
  }
}

/// rows: [count, width] elements, stride apart  ->  panels: [ceil(width / panel), count, panel] float32, panels
/// panel_stride floats apart, columns past width zero up to a multiple of 8. Of a panel of 6 columns two floats are
/// written behind the last row.
template <class Element>
void pack_panels(const Element* rows, std::int64_t stride, int count, int width, int panel, std::int64_t panel_stride,
                 float* panels) {
  if (panel != 4) {  // a row of a panel is read and written as one piece
    for (int column = 0; column < width; column += panel, panels += panel_stride) {
      const int left = width - column, wide = left < panel ? left : panel;
      for (int row = 0; row < count; ++row) {
        const Element* source = rows + row * stride + column;
        float* target = panels + std::int64_t{row} * panel;
        for (int at = 0; at < wide; at += 8)
          _mm256_storeu_ps(target + at, left - at >= 8 ? load8(source + at) : load_some(source + at, left - at));
      }
    }
    return;
  }
  for (int column = 0; column < width; column += 8) {
    const int wide = width - column < 8 ? width - column : 8;
    float* low = panels + column / 4 * panel_stride;
    float* high = low + panel_stride;
    const bool has_high = wide > 4;
    for (int row = 0; row < count; ++row) {
      const Element* source = rows + row * stride + column;
      const __m256 x = wide == 8 ? load8(source) : load_some(source, wide);
      _mm_storeu_ps(low + std::int64_t{row} * 4, _mm256_castps256_ps128(x));
      if (has_high) _mm_storeu_ps(high + std::int64_t{row} * 4, _mm256_extractf128_ps(x, 1));
    }
  }
}

/// rows: [count, width] elements, stride apart  ->  packed: [count, width] float32.
template <class Element>
void widen_rows(const Element* rows, std::int64_t stride, int count, int width, float* packed) {
  for (int row = 0; row < count; ++row, rows += stride, packed += width) {
    int column = 0;
    for (; column + 8 <= width; column += 8) _mm256_storeu_ps(packed + column, load8(rows + column));
    for (; column < width; ++column) packed[column] = load1(rows + column);
  }
}

/// packed: [count, columns] float32  ->  rows: [count, width] elements, stride apart, times factor.
template <class Element>
void narrow_rows(const float* packed, int columns, float factor, int count, int width, Element* rows,
                 std::int64_t stride) {
  const __m256 factors = _mm256_set1_ps(factor);
  for (int row = 0; row < count; ++row, rows += stride, packed += columns) {
    for (int column = 0; column < width; column += 8) {
      const __m256 x = _mm256_mul_ps(_mm256_loadu_ps(packed + column), factors);
      if (width - column >= 8) {
        store8(rows + column, x);
      } else {
        store_some(rows + column, x, width - column);
      }
    }
  }
}

}  // namespace
}  // namespace tilewise::cpu
