// AVX-512 without dot products: products are added in pairs, and pairs to sums.
#include "nn/isa/avx512_lanes.h"
#include "nn/isa/compiled.h"
#include "nn/isa/in_this_order.h"

namespace tilewise::nn {
namespace {

struct Engine : Avx512Lanes {
  struct Sums {
    __m512i dots = _mm512_setzero_si512();
  };
  // 12 sums of integers and 12 of floats leave 8 of 32 registers for weights, products and factors.
  static constexpr int kBunch = 12;

  static void add(Sums& sums, __m512i products) {
    sums.dots = _mm512_add_epi32(sums.dots, products);
    in_this_order(sums.dots);
  }
  static void add(Sums& sums, const Weights& w, const std::int16_t* x) {
    add(sums, _mm512_madd_epi16(w.even, broadcast_two(x)));
    add(sums, _mm512_madd_epi16(w.odd, broadcast_two(x + 2)));
  }
  static __m512i total(const Sums& sums) { return sums.dots; }
};

}  // namespace

const QuantisedKernels& quantised_avx512() {
  static constexpr QuantisedKernels kKernels = kernels_over<Engine>(Isa::avx512);
  return kKernels;
}

}  // namespace tilewise::nn
