// Sixteen float32 lanes of AVX-512F.
#pragma once

#include <immintrin.h>

#include "cpu/block.h"

namespace tilewise::cpu {
namespace {

struct Avx512Lanes {
  using Vec = __m512;
  static constexpr int kWidth = 16;

  static TILEWISE_INLINE Vec load(const float* p) { return _mm512_loadu_ps(p); }
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
  /// Whether a > b in any lane.
  static TILEWISE_INLINE bool any_greater(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0; }
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
