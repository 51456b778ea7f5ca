// Which instruction sets' kernels this build has.
#pragma once

#include <vector>

#include "nn/quantised.h"

namespace tilewise::nn {

const QuantisedKernels& quantised_baseline();
const QuantisedKernels& quantised_avx2();
const QuantisedKernels& quantised_avx512();
const QuantisedKernels& quantised_avx512_vnni();
const QuantisedKernels& quantised_neon();  // its Isa is baseline, as every AArch64 has it

/// In rank order.
std::vector<const QuantisedKernels*> compiled_quantised_kernels();

}  // namespace tilewise::nn
