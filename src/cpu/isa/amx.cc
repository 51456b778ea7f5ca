// The AMX kernels: bfloat16 products of whole tiles, eight times the rate of dot products. Inputs, weights and their
// gradients are bfloat16, sums float32, as with AVX512-BF16. int8 caches are decoded by products of bytes.
#include "cpu/isa/amx_kernels.h"

namespace tilewise::cpu {
namespace {

// Instructions by name: GCC 12's intrinsics do not tell the compiler that a load reads memory, so it moves stores past
// them.
struct AmxTiles {
  static void configure(const TileShapes& shapes) { asm volatile("ldtilecfg %0" : : "m"(shapes)); }
  static void release() { asm volatile("tilerelease"); }

  template <int kTile>
  static TILEWISE_INLINE void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  /// Rows `stride` bytes apart.
  template <int kTile>
  static TILEWISE_INLINE void load(const void* rows, std::int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(rows), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kTile>
  static TILEWISE_INLINE void store(void* rows, std::int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(rows), "r"(stride), "i"(kTile) : "memory");
  }
  /// sum += left right.
  template <int kSum, int kLeft, int kRight>
  static TILEWISE_INLINE void dot() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kLeft), "i"(kRight));
  }
  /// The same of bytes, four to a lane; the right side's are signed.
  template <int kSum, int kLeft, int kRight>
  static TILEWISE_INLINE void dot_signed() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kLeft), "i"(kRight));
  }
  template <int kSum, int kLeft, int kRight>
  static TILEWISE_INLINE void dot_unsigned() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kLeft), "i"(kRight));
  }
};

}  // namespace

const Kernels& amx_kernels() {
  static constexpr Kernels kKernels = amx_kernels_of<AmxEngine<AmxTiles, AmxConfig>>("amx");
  return kKernels;
}

const Kernels& amx_code_kernels() {
  static const Kernels kNarrow = with_code_tiles<AmxTiles>(*avx512_kernels().narrow, "amx");
  static const Kernels kKernels = [] {
    Kernels kernels = with_code_tiles<AmxTiles>(avx512_kernels(), "amx");
    kernels.narrow = &kNarrow;
    return kernels;
  }();
  return kKernels;
}

}  // namespace tilewise::cpu
