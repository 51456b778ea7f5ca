// Sixteen float32 lanes of AVX-512F.
#pragma once

#include <immintrin.h>

#include "cpu/block.h"
#include "cpu/isa/avx_rows.h"

namespace tilewise::cpu {
namespace {

struct Avx512Lanes {
  using Vec = __m512;
  static constexpr int kWidth = 16;

  static TILEWISE_INLINE Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static TILEWISE_INLINE Vec load(const BFloat16* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static TILEWISE_INLINE Vec load(const Float16* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static TILEWISE_INLINE Vec load(const std::int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  /// The first `count` lanes, zero above.
  template <class Element>
  static TILEWISE_INLINE Vec load_first(const Element* p, int count) {
    alignas(64) float lanes[kWidth] = {};
    for (int i = 0; i < count; ++i) lanes[i] = load1(p + i);
    return _mm512_load_ps(lanes);
  }
  static TILEWISE_INLINE void store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
  static TILEWISE_INLINE Vec broadcast(float x) { return _mm512_set1_ps(x); }
  static TILEWISE_INLINE Vec zero() { return _mm512_setzero_ps(); }
  static TILEWISE_INLINE Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  static TILEWISE_INLINE Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
  static TILEWISE_INLINE Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
  /// a b + c, rounded once.
  static TILEWISE_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  /// The product that blocks are made of: kDepth neighbours a lane.
  static constexpr int kDepth = 1;
  static TILEWISE_INLINE Vec broadcast_from(const float* p) { return broadcast(*p); }
  static TILEWISE_INLINE Vec dot(Vec a, Vec b, Vec sum) { return fma(a, b, sum); }
  /// a b - c, rounded once.
  static TILEWISE_INLINE Vec fms(Vec a, Vec b, Vec c) { return _mm512_fmsub_ps(a, b, c); }
  /// The larger; b where either is NaN.
  static TILEWISE_INLINE Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
  static TILEWISE_INLINE float sum_of(Vec x) { return _mm512_reduce_add_ps(x); }
  static TILEWISE_INLINE float max_of(Vec x) { return _mm512_reduce_max_ps(x); }
  /// x, zero where it is NaN or infinite.
  static TILEWISE_INLINE Vec finite_or_zero(Vec x) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(_mm512_sub_ps(x, x), _mm512_setzero_ps(), _CMP_EQ_OQ), x);
  }
  /// p[i] = the sum of x[i]'s lanes.
  static TILEWISE_INLINE void store_sums(float* p, const Vec (&x)[4]) {
    const Vec low = add(_mm512_unpacklo_ps(x[0], x[1]), _mm512_unpackhi_ps(x[0], x[1]));
    const Vec high = add(_mm512_unpacklo_ps(x[2], x[3]), _mm512_unpackhi_ps(x[2], x[3]));
    const Vec all = add(_mm512_shuffle_ps(low, high, 0x44), _mm512_shuffle_ps(low, high, 0xee));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
  }
  // Rows of a decode block, against four keys, and vectors of its outputs: what registers hold.
  static constexpr int kDecodeRows = 4;
  static constexpr int kDecodeVectors = 4;
  /// Whether a > b in any lane.
  static TILEWISE_INLINE bool any_greater(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0; }
  /// x, zero where w is zero.
  static TILEWISE_INLINE Vec zero_where_zero(Vec w, Vec x) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(w, _mm512_setzero_ps(), _CMP_NEQ_UQ), x);
  }
  /// x where x > -inf or NaN, else zero.
  static TILEWISE_INLINE Vec zero_if_minus_infinity(Vec x) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(-__builtin_inff()), _CMP_NEQ_UQ), x);
  }

  /// 2^(i / 16) in lane i, its bits less i << 19: adding the rounded 16 x, shifted left by 19, completes the exponent.
  static constexpr int kTableBits = 4;
  static TILEWISE_INLINE Vec power_table() {
    return _mm512_castsi512_ps(_mm512_sub_epi32(
        _mm512_castps_si512(_mm512_setr_ps(1.0f, 1.04427373f, 1.09050775f, 1.13878858f, 1.18920708f, 1.24185777f,
                                           1.29683959f, 1.35425556f, 1.41421354f, 1.47682619f, 1.54221082f, 1.61049032f,
                                           1.68179286f, 1.75625217f, 1.8340081f, 1.91520655f)),
        _mm512_slli_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), 23 - kTableBits)));
  }
  /// table[index's low bits] with index << (23 - kTableBits) added to its bits.
  static TILEWISE_INLINE Vec scaled_lookup(Vec table, Vec index) {
    const __m512i bits = _mm512_castps_si512(index);
    const __m512i entry = _mm512_castps_si512(_mm512_permutexvar_ps(bits, table));
    return _mm512_castsi512_ps(_mm512_add_epi32(entry, _mm512_slli_epi32(bits, 23 - kTableBits)));
  }
};

}  // namespace
}  // namespace tilewise::cpu
