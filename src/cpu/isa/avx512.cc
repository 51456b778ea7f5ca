// The AVX-512 kernels: 512-bit fused multiply-adds.
#include "cpu/broadcast_engine.h"
#include "cpu/isa/avx_packing.h"
#include "cpu/isa/kernels_of.h"
#include "cpu/isa/lanes_avx512.h"

namespace tilewise::cpu {
namespace {

struct Avx512Config {
  using Lanes = Avx512Lanes;
  using Packing = AvxPacking;
  static constexpr DType kOperand = DType::float32;
  // Eight accumulators cover four cycles of latency on two ports, if nothing is ever late: on a Sapphire Rapids 8 x 2
  // take 0.93 to 0.96 of the time of 4 x 2. On a Zen 4, which has one port as wide, 1.01. 8 x 3 take another 0.96 of
  // plain attention, but strips of 48 queries cut blocks of 64: BigBird 1.12, documents of 512 1.17.
  static constexpr int kVectors = 2;
  static constexpr int kBlock = 8;
  static constexpr int kTileKeys = 128;
  static constexpr int kTileQueries = 384;
  // Backward.
  static constexpr int kRows = 8;
  static constexpr int kLeastRows = 4;
  static constexpr int kPanelVectors = 2;
  static constexpr int kBackwardKeys = 128;  // blocks of 64 keys lie within: BigBird takes 0.93 of what 96 take
  static constexpr int kBackwardQueries = 192;
};

struct Avx512NarrowConfig : Avx512Config {
  static constexpr int kVectors = 1;
  static constexpr int kBlock = 8;
};

}  // namespace

const Kernels& avx512_kernels() {
  static constexpr Kernels kNarrow = kernels_of<BroadcastEngine<Avx512NarrowConfig>>("avx512");
  // Eight products take nine loads, for which two wide ports wait: on a Sapphire Rapids, where window(256) takes 0.93
  // of the time in wide strips, forward. Of AMD's family 25 only Zen 4 has AVX-512, and one wide port.
  static const Kernels kKernels =
      kernels_of<BroadcastEngine<Avx512Config>>("avx512", &kNarrow, __builtin_cpu_is("amdfam19h") ? 1.05 : 1.1);
  return kKernels;
}

}  // namespace tilewise::cpu
