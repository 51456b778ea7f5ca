#include "variant/lanes/strip.h"

#include "variant/lanes/dropout_strip.h"

namespace tilewise::variant {

const StripOperations& strip_operations(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::avx512) return compiled_strip_operations<Isa::avx512>();
  if (isa >= Isa::avx2) return compiled_strip_operations<Isa::avx2>();
#else
  static_cast<void>(isa);  // only x86-64 has more than its baseline
#endif
  return compiled_strip_operations<Isa::baseline>();
}

DropoutFunction dropout_function(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::avx512) return compiled_dropout<Isa::avx512>();
  if (isa >= Isa::avx2) return compiled_dropout<Isa::avx2>();
#else
  static_cast<void>(isa);
#endif
  return nullptr;
}

}  // namespace tilewise::variant
