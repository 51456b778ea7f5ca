// Instruction sets: which of those that Tilewise is compiled for this processor and its operating system run.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace tilewise {

/// In rank order: each includes those before it.
enum class Isa : std::uint8_t {
  baseline,     // what every processor of the architecture has
  avx2,         // AVX2, FMA, F16C, BMI1 and 2
  avx512,       // AVX-512 F, BW, DQ, VL, CD
  avx512_vnni,  // and dot products of bytes
  avx512_bf16,  // and bfloat16 dot products
  amx,          // and tiles with bfloat16 products
};

/// "baseline", "avx2", ...: as TILEWISE_ISA names them.
const char* to_string(Isa isa);

/// The instruction set of that name; throws Error(parse) listing the names.
Isa isa_from_string(std::string_view name);

/// Those that the processor has and the operating system saves the registers of, in rank order; the first is baseline.
/// Asks the operating system for the use of AMX, which Linux grants to a process on request, once.
const std::vector<Isa>& available_isas();

/// Why an instruction set is not available; empty where it is.
std::string_view why_unavailable(Isa isa);

/// The best available one, or the one that the environment variable TILEWISE_ISA names. Throws Error(parse) on an
/// unknown name and Error(unsupported) where the named one is not available.
Isa chosen_isa();

}  // namespace tilewise
