// For architectures that have no AMX to emulate.
#include "tests/cpu/each_isa.h"

namespace tilewise::cpu::testing {

const Kernels* emulated_amx_kernels() { return nullptr; }
const Kernels* emulated_amx_code_kernels() { return nullptr; }

}  // namespace tilewise::cpu::testing
