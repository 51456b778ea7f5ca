// The AVX-512 kernels with integer dot products (VNNI), which decoding from int8 caches takes. All else is AVX-512's.
#include "cpu/decode.h"
#include "cpu/isa/avx_packing.h"
#include "cpu/isa/lanes_avx512_vnni.h"
#include "cpu/kernels.h"

namespace tilewise::cpu {

const Kernels& avx512_vnni_kernels() {
  static constexpr auto kWithCodes = [](Kernels kernels, const Kernels* narrow) {
    using Decode = DecodeKernel<Avx512VnniLanes, AvxPacking>;
    kernels.name = "avx512_vnni";
    kernels.decode_keys = Decode::kTileKeys;
    kernels.decode_floats = Decode::workspace_floats;
    kernels.decode = Decode::run;
    kernels.narrow = narrow;
    return kernels;
  };
  static const Kernels kNarrow = kWithCodes(*avx512_kernels().narrow, nullptr);
  static const Kernels kKernels = kWithCodes(avx512_kernels(), &kNarrow);
  return kKernels;
}

}  // namespace tilewise::cpu
