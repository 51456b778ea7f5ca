// AVX-512 with dot products (VNNI): two columns of a row are a lane's operands.
#include "nn/isa/avx512_lanes.h"
#include "nn/isa/compiled.h"

namespace tilewise::nn {
namespace {

struct Engine : Avx512Lanes {
  struct Sums {
    __m512i dots = _mm512_setzero_si512();
  };
  // 12 sums of integers and 12 of floats leave 8 of 32 registers for weights and factors.
  static constexpr int kBunch = 12;

  static void add(Sums& sums, const Weights& w, const std::int16_t* x) {
    sums.dots = _mm512_dpwssd_epi32(sums.dots, w.even, broadcast_two(x));
    sums.dots = _mm512_dpwssd_epi32(sums.dots, w.odd, broadcast_two(x + 2));
  }
  static __m512i total(const Sums& sums) { return sums.dots; }
};

}  // namespace

const QuantisedKernels& quantised_avx512_vnni() {
  static constexpr QuantisedKernels kKernels = kernels_over<Engine>(Isa::avx512_vnni);
  return kKernels;
}

}  // namespace tilewise::nn
