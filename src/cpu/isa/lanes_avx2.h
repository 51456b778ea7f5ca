// Eight float32 lanes of AVX2 with FMA.
#pragma once

#include <immintrin.h>

#include "cpu/block.h"

namespace tilewise::cpu {
namespace {

struct Avx2Lanes {
  using Vec = __m256;
  static constexpr int kWidth = 8;

  static TILEWISE_INLINE Vec load(const float* p) { return _mm256_loadu_ps(p); }
  static TILEWISE_INLINE void store(float* p, Vec x) { _mm256_storeu_ps(p, x); }
  static TILEWISE_INLINE Vec broadcast(float x) { return _mm256_set1_ps(x); }
  static TILEWISE_INLINE Vec zero() { return _mm256_setzero_ps(); }
  static TILEWISE_INLINE Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
  static TILEWISE_INLINE Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
  static TILEWISE_INLINE Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
  /// a b + c, rounded once.
  static TILEWISE_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  /// The product that blocks are made of: kDepth neighbours a lane.
  static constexpr int kDepth = 1;
  static TILEWISE_INLINE Vec broadcast_from(const float* p) { return broadcast(*p); }
  static TILEWISE_INLINE Vec dot(Vec a, Vec b, Vec sum) { return fma(a, b, sum); }
  /// a b - c, rounded once.
  static TILEWISE_INLINE Vec fms(Vec a, Vec b, Vec c) { return _mm256_fmsub_ps(a, b, c); }
  /// The larger; b where either is NaN.
  static TILEWISE_INLINE Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
  /// Whether a > b in any lane.
  static TILEWISE_INLINE bool any_greater(Vec a, Vec b) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0;
  }
  /// x where x > -inf or NaN, else zero.
  static TILEWISE_INLINE Vec zero_if_minus_infinity(Vec x) {
    return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(-__builtin_inff()), _CMP_EQ_OQ), x);
  }

  /// 2^(i / 8) in lane i, its bits less i << 20: adding the rounded 8 x, shifted left by 20, completes the exponent.
  static constexpr int kTableBits = 3;
  static TILEWISE_INLINE Vec power_table() {
    return _mm256_castsi256_ps(
        _mm256_sub_epi32(_mm256_castps_si256(_mm256_setr_ps(1.0f, 1.09050775f, 1.18920708f, 1.29683959f, 1.41421354f,
                                                            1.54221082f, 1.68179286f, 1.8340081f)),
                         _mm256_slli_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), 23 - kTableBits)));
  }
  /// table[index's low bits] with index << (23 - kTableBits) added to its bits.
  static TILEWISE_INLINE Vec scaled_lookup(Vec table, Vec index) {
    const __m256i bits = _mm256_castps_si256(index);
    const __m256i entry = _mm256_castps_si256(_mm256_permutevar8x32_ps(table, bits));
    return _mm256_castsi256_ps(_mm256_add_epi32(entry, _mm256_slli_epi32(bits, 23 - kTableBits)));
  }
};

}  // namespace
}  // namespace tilewise::cpu
