// Sixteen float32 lanes whose products take pairs of bfloat16: AVX512-BF16.
#pragma once

#include "cpu/isa/lanes_avx512.h"

namespace tilewise::cpu {
namespace {

struct Avx512Bf16Lanes : Avx512Lanes {
  static constexpr int kDepth = 2;

  /// The pair at p in every lane.
  static TILEWISE_INLINE Vec broadcast_from(const float* p) {
    int pair = 0;
    __builtin_memcpy(&pair, p, sizeof pair);
    return _mm512_castsi512_ps(_mm512_set1_epi32(pair));
  }
  /// sum + a.low b.low + a.high b.high, a and b pairs of bfloat16.
  static TILEWISE_INLINE Vec dot(Vec a, Vec b, Vec sum) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  /// The halves of each pair, widened.
  static TILEWISE_INLINE Vec low_of_pair(Vec x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x), 16));
  }
  static TILEWISE_INLINE Vec high_of_pair(Vec x) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(-0x10000)));
  }
  /// The pairs of x with zero in place of NaN and infinity.
  static TILEWISE_INLINE Vec finite_or_zero(Vec x) {
    const __m512i exponent = _mm512_set1_epi16(0x7f80), halves = _mm512_castps_si512(x);
    const __mmask32 finite = _mm512_cmpneq_epi16_mask(_mm512_and_si512(halves, exponent), exponent);
    return _mm512_castsi512_ps(_mm512_maskz_mov_epi16(finite, halves));
  }
  /// low and then high, rounded to bfloat16: 32 neighbours.
  static TILEWISE_INLINE Vec halves(Vec low, Vec high) { return reinterpret_cast<Vec>(_mm512_cvtne2ps_pbh(high, low)); }
  /// Lane i: (low[i], high[i]) rounded to bfloat16.
  static TILEWISE_INLINE Vec pair(Vec low, Vec high) {
    const auto halves = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, halves));
  }
  /// 32 neighbours as pairs.
  static TILEWISE_INLINE Vec load_pairs(const BFloat16* p) { return _mm512_loadu_ps(p); }
  static TILEWISE_INLINE Vec load_first_pairs(const BFloat16* p, int count) {
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16((std::uint32_t{1} << count) - 1, p));
  }
  /// Pairs of a row's and the next row's columns, [32] of each: of every eight columns, four in `first` and four in
  /// `second`.
  static TILEWISE_INLINE void pair_rows(Vec row, Vec next, Vec& first, Vec& second) {
    const __m512i a = _mm512_castps_si512(row), b = _mm512_castps_si512(next);
    first = _mm512_castsi512_ps(_mm512_unpacklo_epi16(a, b));
    second = _mm512_castsi512_ps(_mm512_unpackhi_epi16(a, b));
  }
  /// 32 columns, the first half and the second, in the order of pair_rows, and back.
  static TILEWISE_INLINE void to_pair_order(Vec low, Vec high, Vec& first, Vec& second) {
    const __m512i even = _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13);
    const __m512i odd = _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15);
    first = _mm512_castpd_ps(_mm512_permutex2var_pd(_mm512_castps_pd(low), even, _mm512_castps_pd(high)));
    second = _mm512_castpd_ps(_mm512_permutex2var_pd(_mm512_castps_pd(low), odd, _mm512_castps_pd(high)));
  }
  static TILEWISE_INLINE void from_pair_order(Vec first, Vec second, Vec& low, Vec& high) {
    const __m512i lower = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i upper = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    low = _mm512_castpd_ps(_mm512_permutex2var_pd(_mm512_castps_pd(first), lower, _mm512_castps_pd(second)));
    high = _mm512_castpd_ps(_mm512_permutex2var_pd(_mm512_castps_pd(first), upper, _mm512_castps_pd(second)));
  }
  /// Sixteen neighbours rounded to bfloat16, in eight floats' room.
  static TILEWISE_INLINE void store_halves(float* p, Vec x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
  }
};

}  // namespace
}  // namespace tilewise::cpu
