#include "nn/isa/compiled.h"

namespace tilewise::nn {

std::vector<const QuantisedKernels*> compiled_quantised_kernels() { return {&quantised_baseline(), &quantised_neon()}; }

}  // namespace tilewise::nn
