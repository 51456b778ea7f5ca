#include "cpu/select.h"

#include "core/isa.h"

namespace tilewise::cpu {

std::vector<const Kernels*> available_kernels() {
  std::vector<const Kernels*> found;
#if defined(__x86_64__)  // kernels for other architectures are still to be written
  for (const Isa isa : available_isas()) {
    if (isa == Isa::avx2) found.insert(found.begin(), &avx2_kernels());
    if (isa == Isa::avx512) found.insert(found.begin(), &avx512_kernels());
    if (isa == Isa::avx512_bf16) found.insert(found.begin(), &avx512_bf16_kernels());
  }
#endif
  return found;
}

}  // namespace tilewise::cpu
