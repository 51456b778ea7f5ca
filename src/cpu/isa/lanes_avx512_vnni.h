// Sixteen lanes of AVX-512 with integer dot products of bytes (VNNI): what decoding from int8 caches is made of.
#pragma once

#include "cpu/isa/lanes_avx512.h"

namespace tilewise::cpu {
namespace {

struct Avx512VnniLanes : Avx512Lanes {
  using Ints = __m512i;  // [16] of 32 bits, or [16][4] of 8

  static TILEWISE_INLINE Ints zero_ints() { return _mm512_setzero_si512(); }
  static TILEWISE_INLINE Ints broadcast_int(std::int32_t x) { return _mm512_set1_epi32(x); }
  static TILEWISE_INLINE Ints broadcast_four(const std::uint8_t* p) {
    int four = 0;
    __builtin_memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
  }
  /// sum + the sum of each lane's four products.
  static TILEWISE_INLINE Ints dot(Ints of_unsigned, Ints of_signed, Ints sum) {
    Ints next = _mm512_dpbusd_epi32(sum, of_unsigned, of_signed);
    asm("" : "+v"(next));  // NOLINT(hicpp-no-assembler): no instruction
    return next;
  }
  static TILEWISE_INLINE Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  static TILEWISE_INLINE Ints sub(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
  using Avx512Lanes::add;
  using Avx512Lanes::sub;
  static TILEWISE_INLINE Ints times_256(Ints x) { return _mm512_slli_epi32(x, 8); }
  /// x / 256, rounded downwards.
  static TILEWISE_INLINE Ints over_256(Ints x) { return _mm512_srai_epi32(x, 8); }
  static TILEWISE_INLINE Vec to_float(Ints x) { return _mm512_cvtepi32_ps(x); }
  static TILEWISE_INLINE Ints nearest(Vec x) { return _mm512_cvtps_epi32(x); }
  static TILEWISE_INLINE std::int32_t sum_of(Ints x) { return _mm512_reduce_add_epi32(x); }
  using Avx512Lanes::sum_of;
  static TILEWISE_INLINE Vec divide(Vec a, Vec b) { return _mm512_div_ps(a, b); }
  static TILEWISE_INLINE Vec magnitude(Vec x) { return _mm512_abs_ps(x); }
  /// The largest of x's lanes' bits as unsigned integers: above infinity's for a negative number or NaN.
  static TILEWISE_INLINE std::uint32_t largest_bits(Vec x) { return _mm512_reduce_max_epu32(_mm512_castps_si512(x)); }
  static TILEWISE_INLINE Vec max_bits(Vec a, Vec b) {
    return _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
  }
  /// Bits [8 kByte, 8 kByte + 8) of each lane, [16].
  template <int kByte>
  static TILEWISE_INLINE void store_byte(std::uint8_t* p, Ints x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_srli_epi32(x, 8 * kByte)));
  }
  /// Bits of bytes, each turned from [0, 256) to [-128, 128) or back.
  static TILEWISE_INLINE Ints flip_signs(Ints x) {
    return _mm512_xor_si512(x, _mm512_set1_epi32(static_cast<int>(0x80808080u)));
  }

  static constexpr int kKeyColumns = 16;  // of columns_of
  /// columns[j], lane i: columns [4 j, 4 j + 4) of rows[i], [16]; those from `count` on zero.
  template <bool kWhole>
  static TILEWISE_INLINE void columns_of(const void* const* rows, std::int64_t first, int count, Ints (&columns)[4]) {
    // Read again for each block: kept in registers, of which there are too few, they came by way of vector registers.
    asm("" : "+r"(rows));  // NOLINT(hicpp-no-assembler): no instruction
    const __mmask16 present = kWhole ? 0xffff : static_cast<__mmask16>((1u << count) - 1);
    const auto load = [&](int row) {
      const auto* p = static_cast<const std::int8_t*>(rows[row]) + first;
      return kWhole ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)) : _mm_maskz_loadu_epi8(present, p);
    };
    Ints four[4];  // of rows i, 4 + i, 8 + i, 12 + i
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(load(i)), load(4 + i), 1);
      const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(load(8 + i)), load(12 + i), 1);
      four[i] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    }
    const Ints low01 = _mm512_unpacklo_epi32(four[0], four[1]), high01 = _mm512_unpackhi_epi32(four[0], four[1]);
    const Ints low23 = _mm512_unpacklo_epi32(four[2], four[3]), high23 = _mm512_unpackhi_epi32(four[2], four[3]);
    columns[0] = _mm512_unpacklo_epi64(low01, low23);
    columns[1] = _mm512_unpackhi_epi64(low01, low23);
    columns[2] = _mm512_unpacklo_epi64(high01, high23);
    columns[3] = _mm512_unpackhi_epi64(high01, high23);
  }

  static constexpr int kValueColumns = 64;  // of rows_of
  /// Four rows' codes at 32 of the columns [first, first + 64), those from `count` on zero: of each 16, the first
  /// eight (kHalf 0) or the last. rows[n], lane 4 i + c: all four at column 16 i + 8 kHalf + 4 n + c.
  template <bool kWhole, int kHalf>
  static TILEWISE_INLINE void rows_of(const void* const* from, std::int64_t first, int count, Ints (&rows)[2]) {
    const __mmask64 present = kWhole ? ~__mmask64{0} : static_cast<__mmask64>((std::uint64_t{1} << count) - 1);
    Ints row[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const auto* p = static_cast<const std::int8_t*>(from[i]) + first;
      row[i] = kWhole ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi8(present, p);
    }
    const auto pair = [](Ints a, Ints b) {
      return kHalf == 0 ? _mm512_unpacklo_epi8(a, b) : _mm512_unpackhi_epi8(a, b);
    };
    const Ints low = pair(row[0], row[1]), high = pair(row[2], row[3]);
    rows[0] = _mm512_unpacklo_epi16(low, high);
    rows[1] = _mm512_unpackhi_epi16(low, high);
  }
  /// Adds what lies in the order of rows_of to `floats` [64], of which `count` are there, a multiple of 16.
  template <int kHalf>
  static TILEWISE_INLINE void add_to(float* floats, int count, Vec first, Vec second) {
    const __m512 low = _mm512_shuffle_f32x4(first, second, 0x44), high = _mm512_shuffle_f32x4(first, second, 0xee);
    const auto add = [&](int column, __m512 pieces) {  // [0 of 0, 1 of 0, 0 of 1, 1 of 1]
      const __m512 ordered = _mm512_shuffle_f32x4(pieces, pieces, 0xd8);
      const auto one = [&](int at, __m256 x) {
        if (at >= count) return;
        float* to = floats + at + 8 * kHalf;
        _mm256_storeu_ps(to, _mm256_add_ps(_mm256_loadu_ps(to), x));
      };
      one(column, _mm512_castps512_ps256(ordered));
      one(column + 16, _mm512_extractf32x8_ps(ordered, 1));
    };
    add(0, low);
    add(32, high);
  }
};

}  // namespace
}  // namespace tilewise::cpu
