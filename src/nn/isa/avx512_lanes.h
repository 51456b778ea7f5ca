// What both AVX-512 engines are made of: all 16 rows of a panel are one register. In an unnamed namespace, since every
// instruction set compiles its own.
#pragma once

#include <immintrin.h>

#include "nn/isa/each_kind.h"

namespace tilewise::nn {
namespace {

struct Avx512Lanes {
  using Floats = __m512;
  struct Weights {
    __m512i even, odd;  // [16][2] of 16 bits: columns 0 and 2, 1 and 3
  };
  static constexpr int kRows = 16;

  static Floats zeros() { return _mm512_setzero_ps(); }
  static Floats broadcast(float value) { return _mm512_set1_ps(value); }
  static Floats negative(Floats a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0F)); }
  static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static void store(Floats a, float* to) { _mm512_storeu_ps(to, a); }
  static Floats halves(const std::byte* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  template <bool kSigned>
  static Floats bytes(const std::byte* from) {
    const __m128i stored = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm512_cvtepi32_ps(kSigned ? _mm512_cvtepi8_epi32(stored) : _mm512_cvtepu8_epi32(stored));
  }

  static __m512i load(const std::byte* from) { return _mm512_loadu_si512(from); }

  /// Bits [kShift, kShift + kCount) of each 16, moved to kTo.
  template <int kShift, int kCount, int kTo>
  static __m512i field(__m512i from) {
    if constexpr (kShift > kTo) from = _mm512_srli_epi16(from, kShift - kTo);
    if constexpr (kShift < kTo) from = _mm512_slli_epi16(from, kTo - kShift);
    if constexpr (kShift + kCount == 16 && kTo == 0) return from;
    return _mm512_and_si512(from, _mm512_set1_epi16(static_cast<short>(((1 << kCount) - 1) << kTo)));
  }

  /// A step's integers in even (kByte 0) or odd columns (1), [16][2] of 16 bits.
  template <int kBits, int kStep, int kByte>
  static __m512i integers(const std::byte* quants) {
    if constexpr (kBits == 8) {
      const __m512i stored = load(quants + 64 * kStep);
      return _mm512_srai_epi16(kByte == 0 ? _mm512_slli_epi16(stored, 8) : stored, 8);
    } else {
      constexpr int kFirst = 8 * kByte;
      const __m512i low = field<kFirst + (kStep < 4 ? 0 : 4), 4, 0>(load(quants + 64 * (kStep % 4)));
      if constexpr (kBits == 5) return _mm512_or_si512(low, field<kFirst + kStep, 1, 4>(load(quants + 256)));
      if constexpr (kBits == 6) {
        return _mm512_or_si512(low, field<kFirst + 2 * (kStep % 4), 2, 4>(load(quants + 256 + 64 * (kStep / 4))));
      }
      return low;
    }
  }

  template <int kBits, int kStep>
  static Weights weights(const std::byte* quants, int) {
    return {integers<kBits, kStep, 0>(quants), integers<kBits, kStep, 1>(quants)};
  }

  static __m512i broadcast_two(const std::int16_t* x) {
    int two = 0;
    __builtin_memcpy(&two, x, sizeof(two));
    return _mm512_set1_epi32(two);
  }

  template <int kZeroPoint>
  static __m512i less(__m512i dots, std::int32_t total) {
    constexpr int kShift = std::countr_zero(static_cast<unsigned>(kZeroPoint));
    return _mm512_sub_epi32(dots, _mm512_slli_epi32(_mm512_set1_epi32(total), kShift));
  }
  static Floats to_float(__m512i integers) { return _mm512_cvtepi32_ps(integers); }

  static void round(const float* x, ActivationBlock& out) {
    const __m512 first = _mm512_loadu_ps(x), second = _mm512_loadu_ps(x + 16);
    const __m512i magnitude = _mm512_set1_epi32(0x7FFF'FFFF);
    const auto bits = [&](__m512 a) { return _mm512_and_si512(_mm512_castps_si512(a), magnitude); };
    const auto scales = Scales::of(_mm512_reduce_max_epi32(_mm512_max_epi32(bits(first), bits(second))));
    if (!scales.are_finite) return scales.store_without_values(out);
    const __m512 inverse = _mm512_set1_ps(scales.inverse);
    const __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(first, inverse));
    const __m512i b = _mm512_cvtps_epi32(_mm512_mul_ps(second, inverse));
    const auto store = [](std::int16_t* to, __m512i integers) {
      const __m512i even_before_odd = _mm512_shuffle_epi32(integers, _MM_PERM_DBCA);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(even_before_odd));
    };
    store(out.values, a);
    store(out.values + 16, b);
    scales.store(_mm512_reduce_add_epi32(a), _mm512_reduce_add_epi32(b), out);
  }
};

}  // namespace
}  // namespace tilewise::nn
