#include "core/isa.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "core/fail.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace tilewise {
namespace {

constexpr std::array kNames{"baseline", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx"};

/// What the processor has and the operating system allows.
struct Detected {
  std::vector<Isa> available{Isa::baseline};
  std::array<std::string_view, kNames.size()> missing{};  // why not, by Isa; empty: available

  void add(Isa isa) {
    available.push_back(isa);
    missing[static_cast<std::size_t>(isa)] = {};
  }
};

/// Nothing but the baseline, for that reason.
Detected none_because(std::string_view reason) {
  Detected found;
  std::fill(found.missing.begin() + 1, found.missing.end(), reason);
  return found;
}

#if defined(__x86_64__)

struct Registers {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

/// A leaf of CPUID, all zero where the processor has no such leaf.
Registers cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  Registers r;
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

constexpr bool has(std::uint32_t word, std::initializer_list<int> bits) {
  return std::all_of(bits.begin(), bits.end(), [word](int bit) { return (word >> bit & 1) != 0; });
}

/// The register states that the operating system saves (XCR0). Call only where OSXSAVE is set.
std::uint32_t saved_states() {
  std::uint32_t low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));  // the intrinsic would need -mxsave
  return low;
}

/// AMX's tile data is 8 KiB a thread; Linux saves it only for processes that ask.
bool request_amx() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM of <asm/prctl.h>, which older headers lack
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

// Bit numbers are those of Intel's Software Developer's Manual, volume 2A, CPUID.
Detected detect() {
  constexpr std::string_view kNotSaved = "the operating system does not save its registers";
  Detected found = none_because("this processor lacks it");
  const Registers basic = cpuid(1, 0), extended = cpuid(7, 0), more = cpuid(7, 1);
  if (!has(basic.ecx, {27})) return none_because(kNotSaved);  // OSXSAVE
  const std::uint32_t states = saved_states();
  const auto add = [&](Isa isa, bool processor_has, bool is_saved) {
    const bool adds = processor_has && is_saved;
    if (adds) found.add(isa);
    if (processor_has && !is_saved) found.missing[static_cast<std::size_t>(isa)] = kNotSaved;
    return adds;
  };

  if (!add(Isa::avx2, has(basic.ecx, {12, 28, 29}) && has(extended.ebx, {3, 5, 8}), has(states, {1, 2}))) return found;
  if (!add(Isa::avx512, has(extended.ebx, {16, 17, 28, 30, 31}), has(states, {5, 6, 7}))) return found;
  if (!add(Isa::avx512_vnni, has(extended.ecx, {11}), true)) return found;
  if (!add(Isa::avx512_bf16, has(more.eax, {5}), true)) return found;
  if (!add(Isa::amx, has(extended.edx, {22, 24, 25}), has(states, {17, 18}))) return found;
  if (!request_amx()) {
    found.available.pop_back();
    found.missing[static_cast<std::size_t>(Isa::amx)] =
        "the operating system refused this process the tile registers (arch_prctl, ARCH_REQ_XCOMP_PERM)";
  }
  return found;
}

#else

Detected detect() { return none_because("it is another architecture's"); }

#endif

const Detected& detected() {
  static const Detected found = detect();
  return found;
}

}  // namespace

const char* to_string(Isa isa) { return kNames[static_cast<std::size_t>(isa)]; }

Isa isa_from_string(std::string_view name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) {
    fail(ErrorCode::parse, "instruction set '{}' is unknown, expected one of {}", name, fmt::join(kNames, ", "));
  }
  return static_cast<Isa>(found - kNames.begin());
}

const std::vector<Isa>& available_isas() { return detected().available; }

std::string_view why_unavailable(Isa isa) { return detected().missing[static_cast<std::size_t>(isa)]; }

Isa chosen_isa() {
  const char* name = std::getenv("TILEWISE_ISA");  // NOLINT(concurrency-mt-unsafe): nothing here writes it
  if (name == nullptr) return available_isas().back();
  const Isa isa = isa_from_string(name);
  if (std::find(available_isas().begin(), available_isas().end(), isa) == available_isas().end()) {
    fail(ErrorCode::unsupported, "TILEWISE_ISA is '{}', which cannot be used: {}; expected {} or lower", name,
         why_unavailable(isa), to_string(available_isas().back()));
  }
  return isa;
}

}  // namespace tilewise
