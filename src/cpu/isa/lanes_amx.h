// The vectors beside AMX tiles: AVX512-BF16's, with an exponential for a processor that has a port to spare for
// shuffles and none for arithmetic.
#pragma once

#include "cpu/isa/lanes_avx512_bf16.h"

namespace tilewise::cpu {
namespace {

struct AmxLanes : Avx512Bf16Lanes {
  static constexpr int kTableBits = 5;

  /// 2^(i / 32).
  struct PowerTable {
    Vec low, high;
  };
  static TILEWISE_INLINE PowerTable power_table() {
    return {
        _mm512_setr_ps(1.0f, 1.0218972f, 1.0442737f, 1.0671405f, 1.0905077f, 1.1143868f, 1.1387886f, 1.1637249f,
                       1.1892071f, 1.2152474f, 1.2418578f, 1.269051f, 1.2968396f, 1.3252367f, 1.3542556f, 1.38391f),
        _mm512_setr_ps(1.4142135f, 1.4451808f, 1.4768262f, 1.5091645f, 1.5422108f, 1.5759809f, 1.6104903f, 1.6457555f,
                       1.6817929f, 1.7186193f, 1.7562522f, 1.7947091f, 1.8340081f, 1.8741677f, 1.9152066f, 1.9571441f)};
  }
  /// The entry of index's low bits.
  static TILEWISE_INLINE Vec lookup(const PowerTable& table, Vec index) {
    return _mm512_permutex2var_ps(table.low, _mm512_castps_si512(index), table.high);
  }
  /// a + b, rounded downwards.
  static TILEWISE_INLINE Vec add_downwards(Vec a, Vec b) {
    return _mm512_add_round_ps(a, b, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  }
  /// x less its multiple of 1 / 32 below: in [0, 1 / 32); 0 of infinities.
  static TILEWISE_INLINE Vec fraction(Vec x) {
    return _mm512_reduce_ps(x, kTableBits << 4 | 8 | _MM_FROUND_TO_NEG_INF);
  }
  /// x 2^floor(exponent).
  static TILEWISE_INLINE Vec scale(Vec x, Vec exponent) { return _mm512_scalef_ps(x, exponent); }
};

}  // namespace
}  // namespace tilewise::cpu
