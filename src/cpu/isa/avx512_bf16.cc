// The AVX512-BF16 kernels: products of bfloat16 pairs, twice the rate of float32. Weights and their gradients are
// rounded to bfloat16 before the second products.
#include "cpu/broadcast_engine.h"
#include "cpu/isa/bf16_packing.h"
#include "cpu/isa/kernels_of.h"
#include "cpu/isa/lanes_avx512_bf16.h"

namespace tilewise::cpu {
namespace {

struct Avx512Bf16Config {
  using Lanes = Avx512Bf16Lanes;
  using Packing = Bf16Packing;
  static constexpr DType kOperand = DType::bfloat16;
  static constexpr int kVectors = 2;
  static constexpr int kBlock = 4;
  static constexpr int kTileKeys = 128;
  static constexpr int kTileQueries = 384;
  // Backward.
  static constexpr int kRows = 8;
  static constexpr int kLeastRows = 4;
  static constexpr int kPanelVectors = 2;
  static constexpr int kBackwardKeys = 128;  // as AVX-512: bigbird takes 0.91 of what 96 take
  static constexpr int kBackwardQueries = 192;
};

struct Avx512Bf16NarrowConfig : Avx512Bf16Config {
  static constexpr int kVectors = 1;
  static constexpr int kBlock = 8;
};

}  // namespace

const Kernels& avx512_bf16_kernels() {
  static constexpr Kernels kNarrow = kernels_of<BroadcastEngine<Avx512Bf16NarrowConfig>>("avx512_bf16");
  static constexpr Kernels kKernels = kernels_of<BroadcastEngine<Avx512Bf16Config>>("avx512_bf16", &kNarrow);
  return kKernels;
}

}  // namespace tilewise::cpu
