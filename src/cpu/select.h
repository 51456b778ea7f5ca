// Which instruction sets this processor has.
#pragma once

#include <vector>

#include "cpu/kernels.h"

namespace tilewise::cpu {

/// The kernels that this processor can run, fastest first; empty where it has none of the instruction sets.
std::vector<const Kernels*> available_kernels();

}  // namespace tilewise::cpu
