// What both AVX-512 engines are made of: all 16 rows of a panel are one register. In an unnamed namespace, since every
// instruction set compiles its own.
#pragma once

#include <immintrin.h>

#include "nn/isa/each_kind.h"

namespace tilewise::nn {
namespace {

struct Avx512Lanes {
  using Floats = __m512;
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

  /// Bits [kShift, kShift + kCount) of each byte, moved to kTo.
  template <int kShift, int kCount, int kTo>
  static __m512i field(__m512i from) {
    const __m512i mask = _mm512_set1_epi8(static_cast<char>(((1 << kCount) - 1) << kTo));
    if constexpr (kShift > kTo) from = _mm512_srli_epi16(from, kShift - kTo);
    if constexpr (kShift < kTo) from = _mm512_slli_epi16(from, kTo - kShift);
    return _mm512_and_si512(from, mask);
  }

  /// 32 integers of a block of quants: without a sign, but with 8 bits as they are stored.
  template <int kBits, int kStep>
  static __m512i integers(const std::byte* quants) {
    if constexpr (kBits == 8) {
      return load(quants + 64 * kStep);
    } else {
      const __m512i low = field < kStep < 4 ? 0 : 4, 4, 0 > (load(quants + 64 * (kStep % 4)));
      if constexpr (kBits == 5) return _mm512_or_si512(low, field<kStep, 1, 4>(load(quants + 256)));
      if constexpr (kBits == 6) {
        return _mm512_or_si512(low, field<2 * (kStep % 4), 2, 4>(load(quants + 256 + 64 * (kStep / 4))));
      }
      return low;
    }
  }

  static __m512i broadcast_four(const std::int8_t* x) {
    int four = 0;
    __builtin_memcpy(&four, x, sizeof(four));
    return _mm512_set1_epi32(four);
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
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out.values), _mm512_cvtepi32_epi8(a));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out.values + 16), _mm512_cvtepi32_epi8(b));
    scales.store(_mm512_reduce_add_epi32(a), _mm512_reduce_add_epi32(b), out);
  }
};

}  // namespace
}  // namespace tilewise::nn
