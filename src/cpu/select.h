// Which instruction sets this build has kernels for, and which of them this processor runs.
#pragma once

#include <span>
#include <vector>

#include "core/isa.h"
#include "cpu/kernels.h"

namespace tilewise::cpu {

/// Kernels that this build has.
struct CompiledKernels {
  Isa isa;
  const Kernels& (*kernels)();  // to be called only where the processor has the instruction set
};

/// Slowest first; defined for each architecture in isa/compiled_<architecture>.cc.
std::span<const CompiledKernels> compiled_kernels();

/// The kernels for an instruction set; null where this build has none, or the processor does not run them.
const Kernels* kernels_for(Isa isa);

/// The kernels that this processor can run, fastest first; never empty.
std::vector<const Kernels*> available_kernels();

}  // namespace tilewise::cpu
