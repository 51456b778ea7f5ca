// The AVX2 kernels: 256-bit fused multiply-adds, F16C conversions.
#include "cpu/broadcast_engine.h"
#include "cpu/isa/avx_packing.h"
#include "cpu/isa/kernels_of.h"
#include "cpu/isa/lanes_avx2.h"

namespace tilewise::cpu {
namespace {

struct Avx2Config {
  using Lanes = Avx2Lanes;
  using Packing = AvxPacking;
  static constexpr DType kOperand = DType::float32;
  // 4 x 3 accumulators, 3 vectors of the right side and one broadcast fill the 16 registers: 7 loads to 12 products.
  static constexpr int kVectors = 3;
  static constexpr int kBlock = 4;
  static constexpr int kTileKeys = 128;
  static constexpr int kTileQueries = 384;
  // Backward.
  static constexpr int kRows = 6;
  static constexpr int kLeastRows = 2;
  static constexpr int kPanelVectors = 2;
  static constexpr int kBackwardKeys = 96;
  static constexpr int kBackwardQueries = 192;
};

/// Two thirds as wide: blocks of 16 and 64 queries are whole strips. 6 x 2 accumulators are enough for two ports and
/// four cycles with some to spare; 4 x 2, no more than those, took 1.1 of the time on a Sapphire Rapids. Plain
/// attention takes 1.01 of what 4 x 3 take there, ALiBi 1.05 forward.
struct Avx2NarrowConfig : Avx2Config {
  static constexpr int kVectors = 2;
  static constexpr int kBlock = 6;
  // Backward.
  static constexpr int kRows = 6;
  static constexpr int kLeastRows = 4;
  static constexpr int kBackwardKeys = 128;
};

}  // namespace

const Kernels& avx2_kernels() {
  static constexpr Kernels kNarrow = kernels_of<BroadcastEngine<Avx2NarrowConfig>>("avx2");
  static constexpr Kernels kKernels = kernels_of<BroadcastEngine<Avx2Config>>("avx2", &kNarrow, 1.01);
  return kKernels;
}

}  // namespace tilewise::cpu
