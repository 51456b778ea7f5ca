#include "cpu/select.h"

#include <algorithm>

namespace tilewise::cpu {

const Kernels* kernels_for(Isa isa, bool of_codes) {
  if (!std::ranges::count(available_isas(), isa)) return nullptr;
  for (const CompiledKernels& compiled : compiled_kernels()) {
    if (compiled.isa != isa) continue;
    return of_codes && compiled.of_codes != nullptr ? &compiled.of_codes() : &compiled.kernels();
  }
  return nullptr;
}

std::vector<const Kernels*> available_kernels() {
  std::vector<const Kernels*> found;
  for (const CompiledKernels& compiled : compiled_kernels()) {
    if (const Kernels* kernels = kernels_for(compiled.isa)) found.insert(found.begin(), kernels);
  }
  return found;
}

}  // namespace tilewise::cpu
