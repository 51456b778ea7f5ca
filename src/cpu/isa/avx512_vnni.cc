// The AVX-512 kernels with integer dot products (VNNI), which decoding from int8 caches takes. All else is AVX-512's.
#include "cpu/decode.h"
#include "cpu/isa/avx_packing.h"
#include "cpu/isa/lanes_avx512_vnni.h"
#include "cpu/kernels.h"

namespace tilewise::cpu {

const Kernels& avx512_vnni_kernels() {
  static const Kernels kKernels = [] {
    using Decode = DecodeKernel<Avx512VnniLanes, AvxPacking>;
    Kernels kernels = avx512_kernels();
    kernels.name = "avx512_vnni";
    kernels.decode_keys = Decode::kTileKeys;
    kernels.decode_floats = Decode::workspace_floats;
    kernels.decode = Decode::run;
    return kernels;
  }();
  return kKernels;
}

}  // namespace tilewise::cpu
