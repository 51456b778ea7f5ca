// The AVX-512 kernels: 512-bit fused multiply-adds.
#include "cpu/fma_engine.h"
#include "cpu/forward.h"
#include "cpu/isa/avx_packing.h"
#include "cpu/isa/kernels_of.h"
#include "cpu/isa/lanes_avx512.h"

namespace tilewise::cpu {
namespace {

struct Avx512Config {
  using Lanes = Avx512Lanes;
  using Packing = AvxPacking;
  // 4 x 3 accumulators, 3 vectors of the right side and one broadcast fill the 16 registers: 7 loads to 12 products.
  static constexpr int kVectors = 2;
  static constexpr int kBlock = 4;
  static constexpr int kTileKeys = 128;
  static constexpr int kTileQueries = 384;
  // Backward.
  static constexpr int kRows = 8;
  static constexpr int kPanelVectors = 2;
  static constexpr int kBackwardKeys = 96;
  static constexpr int kBackwardQueries = 192;
};

}  // namespace

const Kernels& avx512_kernels() {
  static constexpr Kernels kernels = kernels_of<FmaEngine<Avx512Config>>("avx512");
  return kernels;
}

}  // namespace tilewise::cpu
