// The kernels of a build for x86-64.
#include <array>

#include "cpu/select.h"

namespace tilewise::cpu {

std::span<const CompiledKernels> compiled_kernels() {
  static constexpr std::array kCompiled{
      CompiledKernels{Isa::baseline, baseline_kernels},       CompiledKernels{Isa::avx2, avx2_kernels},
      CompiledKernels{Isa::avx512, avx512_kernels},           CompiledKernels{Isa::avx512_vnni, avx512_vnni_kernels},
      CompiledKernels{Isa::avx512_bf16, avx512_bf16_kernels}, CompiledKernels{Isa::amx, amx_kernels, amx_code_kernels}};
  return kCompiled;
}

}  // namespace tilewise::cpu
