// Which instruction sets this build has kernels for, and which of them this processor runs.
#pragma once

#include <span>
#include <vector>

#include "core/isa.h"
#include "cpu/kernels.h"

namespace tilewise::cpu {

/// Kernels that this build has; functions are to be called only where the processor has the instruction set.
struct CompiledKernels {
  Isa isa;
  const Kernels& (*kernels)();
  // For float32 queries on int8 caches, where that takes others. Queries of 16 bits, of two bytes rather than three,
  // are decoded from memory by AVX512-VNNI at 1.1 of AMX's rate.
  const Kernels& (*of_codes)() = nullptr;
};

/// Slowest first; defined for each architecture in isa/compiled_<architecture>.cc.
std::span<const CompiledKernels> compiled_kernels();

/// The kernels for an instruction set; null where this build has none, or the processor does not run them. of_codes:
/// for float32 queries on int8 caches.
const Kernels* kernels_for(Isa isa, bool of_codes = false);

/// The kernels that this processor can run, fastest first; never empty.
std::vector<const Kernels*> available_kernels();

}  // namespace tilewise::cpu
