// The kernels of a build for any architecture but x86-64.
#include <array>

#include "cpu/select.h"

namespace tilewise::cpu {

std::span<const CompiledKernels> compiled_kernels() {
  static constexpr std::array kCompiled{CompiledKernels{Isa::baseline, baseline_kernels}};
  return kCompiled;
}

}  // namespace tilewise::cpu
