// The AVX-512 kernels with integer dot products (VNNI), which decoding from int8 caches takes. All else is AVX-512's.
#include "cpu/decode.h"
#include "cpu/isa/avx_packing.h"
#include "cpu/isa/kernels_of.h"
#include "cpu/isa/lanes_avx512_vnni.h"
#include "cpu/kernels.h"

namespace tilewise::cpu {
namespace {

Kernels with_integer_decoding(const Kernels& kernels) {
  return with_decoding<DecodeKernel<Avx512VnniLanes, AvxPacking>>(kernels, "avx512_vnni");
}

}  // namespace

const Kernels& avx512_vnni_kernels() {
  static const Kernels kNarrow = with_integer_decoding(*avx512_kernels().narrow);
  static const Kernels kKernels = [] {
    Kernels kernels = with_integer_decoding(avx512_kernels());
    kernels.narrow = &kNarrow;
    return kernels;
  }();
  return kKernels;
}

}  // namespace tilewise::cpu
