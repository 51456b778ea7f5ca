// The vectors beside AMX's products of bytes: AVX512-VNNI's, with what turns sums in tiles into rows.
#pragma once

#include "cpu/isa/lanes_avx512_vnni.h"

namespace tilewise::cpu {
namespace {

template <class Tiles>
struct AmxCodeLanes : Avx512VnniLanes {
  using Registers = Tiles;

  static TILEWISE_INLINE Ints load_ints(const std::int32_t* p) { return _mm512_load_si512(p); }
  static TILEWISE_INLINE void store_ints(std::int8_t* p, Ints x) { _mm512_store_si512(p, x); }

  /// to[64]: the first `count` bytes from p on, at most 64, then zeros.
  static TILEWISE_INLINE void copy_bytes(const std::int8_t* p, int count, std::int8_t* to) {
    const __mmask64 present = count >= 64 ? ~__mmask64{0} : static_cast<__mmask64>((std::uint64_t{1} << count) - 1);
    _mm512_store_si512(to, _mm512_maskz_loadu_epi8(present, p));
  }

  /// Four rows' codes at the columns [first, first + 64), both halves of rows_of.
  template <bool kWhole>
  static TILEWISE_INLINE void parts_of(const void* const* from, std::int64_t first, int count, Ints (&parts)[4]) {
    Ints half[2];
    rows_of<kWhole, 0>(from, first, count, half);
    parts[0] = half[0], parts[1] = half[1];
    rows_of<kWhole, 1>(from, first, count, half);
    parts[2] = half[0], parts[3] = half[1];
  }

  /// sums: rows of 16, four lanes a digit. digits[j], lane 4 i + r: lane r of digit j of row 4 i.
  template <int kDigits>
  static TILEWISE_INLINE void digits_of_keys(const std::int32_t* sums, Ints (&digits)[kDigits]) {
    static_assert(kDigits == 2 || kDigits == 3);
    const Ints a = load_ints(sums), b = load_ints(sums + 64), c = load_ints(sums + 128), d = load_ints(sums + 192);
    const Ints ab = _mm512_shuffle_i32x4(a, b, 0x44), cd = _mm512_shuffle_i32x4(c, d, 0x44);
    digits[0] = _mm512_shuffle_i32x4(ab, cd, 0x88);
    digits[1] = _mm512_shuffle_i32x4(ab, cd, 0xdd);
    if constexpr (kDigits == 3) {
      digits[2] = _mm512_shuffle_i32x4(_mm512_shuffle_i32x4(a, b, 0xee), _mm512_shuffle_i32x4(c, d, 0xee), 0x88);
    }
  }

  /// Each four lanes of four vectors transposed.
  static TILEWISE_INLINE void transpose_fours(Vec (&x)[4]) {
    const auto pair = [](Vec a, Vec b) { return _mm512_castps_pd(_mm512_unpacklo_ps(a, b)); };
    const auto upper_pair = [](Vec a, Vec b) { return _mm512_castps_pd(_mm512_unpackhi_ps(a, b)); };
    const __m512d low01 = pair(x[0], x[1]), low23 = pair(x[2], x[3]);
    const __m512d high01 = upper_pair(x[0], x[1]), high23 = upper_pair(x[2], x[3]);
    x[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23));
    x[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23));
    x[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23));
    x[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23));
  }
};

}  // namespace
}  // namespace tilewise::cpu
