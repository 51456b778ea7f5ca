// AVX-512 without dot products of bytes: products are added in pairs of 16 bits, as with AVX2 (quantised_avx2.cc).
#include "nn/isa/avx512_lanes.h"
#include "nn/isa/compiled.h"
#include "nn/isa/pairs.h"

namespace tilewise::nn {
namespace {

struct Engine : Avx512Lanes {
  struct Sums {
    __m512i wide = _mm512_setzero_si512();    // [16] of 32 bits
    __m512i narrow = _mm512_setzero_si512();  // [16][2] of 16 bits
  };
  struct Weights {
    __m512i magnitudes;
    __mmask64 negative;  // of 8 bits only
  };
  // 8 sums of floats, 8 of 16-bit integers and 8 of 32-bit ones leave 8 of 32 registers.
  static constexpr int kBunch = 8;
  template <PanelShape kShape>
  static constexpr int kZero = zero_of_pairs(kShape);

  template <int kBits, int kStep>
  static Weights weights(const std::byte* quants, int) {
    const __m512i stored = integers<kBits, kStep>(quants);
    if constexpr (kBits < 8) return {stored, 0};
    const __m512i values = _mm512_xor_si512(stored, _mm512_set1_epi8(-128));
    return {_mm512_abs_epi8(values), _mm512_movepi8_mask(values)};
  }

  static void widen(Sums& sums) {
    sums.wide = _mm512_add_epi32(sums.wide, _mm512_madd_epi16(sums.narrow, _mm512_set1_epi16(1)));
    sums.narrow = _mm512_setzero_si512();
  }

  template <int kBits, int kStep>
  static void add(Sums& sums, const Weights& w, const std::int8_t* x) {
    __m512i values = broadcast_four(x);
    if constexpr (kBits == 8) values = _mm512_mask_sub_epi8(values, w.negative, _mm512_setzero_si512(), values);
    if constexpr (kStep > 0 && kStep % steps_held(kBits) == 0) widen(sums);
    sums.narrow = _mm512_add_epi16(sums.narrow, _mm512_maddubs_epi16(w.magnitudes, values));
  }

  static __m512i total(Sums sums) {
    widen(sums);
    return sums.wide;
  }
};

}  // namespace

const QuantisedKernels& quantised_avx512() {
  static constexpr QuantisedKernels kKernels = kernels_over<Engine>(Isa::avx512);
  return kKernels;
}

}  // namespace tilewise::nn
