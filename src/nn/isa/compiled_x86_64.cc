#include "nn/isa/compiled.h"

namespace tilewise::nn {

std::vector<const QuantisedKernels*> compiled_quantised_kernels() {
  return {&quantised_baseline(), &quantised_avx2(), &quantised_avx512(), &quantised_avx512_vnni()};
}

}  // namespace tilewise::nn
