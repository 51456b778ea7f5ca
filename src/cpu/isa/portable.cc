// The kernels of the architecture's baseline: SSE2 on x86-64, NEON on AArch64.
#include "cpu/broadcast_engine.h"
#include "cpu/isa/kernels_of.h"
#include "cpu/isa/lanes_portable.h"
#include "cpu/isa/portable_packing.h"

namespace tilewise::cpu {
namespace {

struct PortableConfig {
  using Lanes = PortableLanes;
  using Packing = PortablePacking;
  static constexpr DType kOperand = DType::float32;
  // 4 x 4 accumulators, 4 vectors of the right side and a broadcast: 21 of NEON's 32 registers, 8 loads to 16 products.
  // SSE2's 16, one of which a product takes before it is added, hold 4 x 2.
  static constexpr int kVectors = Lanes::kFuses ? 4 : 2;
  static constexpr int kBlock = 4;
  static constexpr int kTileKeys = 128;
  static constexpr int kTileQueries = 384;
  // Backward.
  static constexpr int kRows = 4;
  static constexpr int kLeastRows = 4;
  static constexpr int kPanelVectors = kVectors;
  static constexpr int kBackwardKeys = 96;
  static constexpr int kBackwardQueries = 192;
};

}  // namespace

const Kernels& baseline_kernels() {
  static constexpr Kernels kKernels = kernels_of<BroadcastEngine<PortableConfig>>("baseline");
  return kKernels;
}

}  // namespace tilewise::cpu
