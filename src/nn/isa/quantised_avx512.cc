// AVX-512 without dot products of bytes: as AVX2 (quantised_avx2.cc), with all 16 rows of a panel in a register.
#include <immintrin.h>

#include "nn/isa/compiled.h"
#include "nn/isa/each_kind.h"

namespace tilewise::nn {
namespace {

/// Steps whose products 16 bits hold: each adds two products of at most 2^bits - 1 and 127. Integers of 8 bits are
/// taken as signed, so that a pair is at most 2 * 128 * 127 = 32,512.
constexpr int steps_held(int bits) { return bits == 8 ? 1 : 32767 / (2 * ((1 << bits) - 1) * 127); }
static_assert(steps_held(4) == 8 && steps_held(5) == 4 && steps_held(6) == 2);

struct Engine {
  using Floats = __m512;
  struct Sums {
    __m512i wide = _mm512_setzero_si512();    // [16] of 32 bits
    __m512i narrow = _mm512_setzero_si512();  // [16][2] of 16 bits
  };
  struct Weights {
    __m512i magnitudes;
    __mmask64 negative;  // of 8 bits only
  };
  static constexpr int kRows = 16;
  // 8 sums of floats, 8 of 16-bit integers and 8 of 32-bit ones leave 8 of 32 registers.
  static constexpr int kBunch = 8;
  template <PanelShape kShape>
  static constexpr int kZero = kShape.bits == 8 ? 0 : kShape.zero;

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
  static void prefetch(const std::byte*) {}

  static __m512i load(const std::byte* from) { return _mm512_loadu_si512(from); }

  /// Bits [kShift, kShift + kCount) of each byte, moved to kTo.
  template <int kShift, int kCount, int kTo>
  static __m512i field(__m512i from) {
    const __m512i mask = _mm512_set1_epi8(static_cast<char>(((1 << kCount) - 1) << kTo));
    if constexpr (kShift > kTo) from = _mm512_srli_epi16(from, kShift - kTo);
    if constexpr (kShift < kTo) from = _mm512_slli_epi16(from, kTo - kShift);
    return _mm512_and_si512(from, mask);
  }

  template <int kBits, int kStep>
  static Weights weights(const std::byte* quants, int) {
    if constexpr (kBits == 8) {
      const __m512i values = _mm512_xor_si512(load(quants + 64 * kStep), _mm512_set1_epi8(-128));
      return {_mm512_abs_epi8(values), _mm512_movepi8_mask(values)};
    }
    __m512i w = field < kStep < 4 ? 0 : 4, 4, 0 > (load(quants + 64 * (kStep % 4)));
    if constexpr (kBits == 5) w = _mm512_or_si512(w, field<kStep, 1, 4>(load(quants + 256)));
    if constexpr (kBits == 6) {
      w = _mm512_or_si512(w, field<2 * (kStep % 4), 2, 4>(load(quants + 256 + 64 * (kStep / 4))));
    }
    return {w, 0};
  }

  static void widen(Sums& sums) {
    sums.wide = _mm512_add_epi32(sums.wide, _mm512_madd_epi16(sums.narrow, _mm512_set1_epi16(1)));
    sums.narrow = _mm512_setzero_si512();
  }

  template <int kBits, int kStep>
  static void add(Sums& sums, const Weights& w, const std::int8_t* x) {
    int four = 0;
    __builtin_memcpy(&four, x, sizeof(four));
    __m512i values = _mm512_set1_epi32(four);
    if constexpr (kBits == 8) values = _mm512_mask_sub_epi8(values, w.negative, _mm512_setzero_si512(), values);
    if constexpr (kStep > 0 && kStep % steps_held(kBits) == 0) widen(sums);
    sums.narrow = _mm512_add_epi16(sums.narrow, _mm512_maddubs_epi16(w.magnitudes, values));
  }

  static __m512i total(Sums sums) {
    widen(sums);
    return sums.wide;
  }
  template <int kZeroPoint>
  static __m512i less(__m512i dots, std::int32_t total) {
    constexpr int kShift = std::countr_zero(static_cast<unsigned>(kZeroPoint));
    return _mm512_sub_epi32(dots, _mm512_slli_epi32(_mm512_set1_epi32(total), kShift));
  }
  static Floats to_float(__m512i integers) { return _mm512_cvtepi32_ps(integers); }
};

}  // namespace

const QuantisedKernels& quantised_avx512() {
  static constexpr QuantisedKernels kKernels = kernels_over<Engine>(Isa::avx512);
  return kKernels;
}

}  // namespace tilewise::nn
