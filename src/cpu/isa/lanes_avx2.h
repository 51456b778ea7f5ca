// Eight float32 lanes of AVX2 with FMA.
#pragma once

#include <immintrin.h>

#include "cpu/block.h"
#include "cpu/isa/avx_rows.h"

namespace tilewise::cpu {
namespace {

struct Avx2Lanes {
  using Vec = __m256;
  static constexpr int kWidth = 8;

  static TILEWISE_INLINE Vec load(const float* p) { return _mm256_loadu_ps(p); }
  static TILEWISE_INLINE Vec load(const BFloat16* p) { return load8(p); }
  static TILEWISE_INLINE Vec load(const Float16* p) { return load8(p); }
  static TILEWISE_INLINE Vec load(const std::int8_t* p) { return load8(p); }
  /// The first `count` lanes, zero above.
  template <class Element>
  static TILEWISE_INLINE Vec load_first(const Element* p, int count) {
    return load_some(p, count);
  }
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
  static TILEWISE_INLINE float sum_of(Vec x) {
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
  }
  static TILEWISE_INLINE float max_of(Vec x) {
    const __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
  }
  /// x, zero where it is NaN or infinite.
  static TILEWISE_INLINE Vec finite_or_zero(Vec x) {
    return _mm256_and_ps(x, _mm256_cmp_ps(_mm256_sub_ps(x, x), _mm256_setzero_ps(), _CMP_EQ_OQ));
  }
  /// p[i] = the sum of x[i]'s lanes.
  static TILEWISE_INLINE void store_sums(float* p, const Vec (&x)[4]) {
    const Vec low = add(_mm256_unpacklo_ps(x[0], x[1]), _mm256_unpackhi_ps(x[0], x[1]));
    const Vec high = add(_mm256_unpacklo_ps(x[2], x[3]), _mm256_unpackhi_ps(x[2], x[3]));
    const Vec all = add(_mm256_shuffle_ps(low, high, 0x44), _mm256_shuffle_ps(low, high, 0xee));
    _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
  }
  // Rows of a decode block, against four keys, and vectors of its outputs: what registers hold.
  static constexpr int kDecodeRows = 2;
  static constexpr int kDecodeVectors = 2;
  /// Whether a > b in any lane.
  static TILEWISE_INLINE bool any_greater(Vec a, Vec b) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0;
  }
  /// x, zero where w is zero.
  static TILEWISE_INLINE Vec zero_where_zero(Vec w, Vec x) {
    return _mm256_and_ps(x, _mm256_cmp_ps(w, _mm256_setzero_ps(), _CMP_NEQ_UQ));
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
