#include "nn/quantised.h"

#include <algorithm>

#include "nn/isa/compiled.h"

namespace tilewise::nn {

std::vector<const QuantisedKernels*> available_quantised_kernels() {
  std::vector<const QuantisedKernels*> found;
  for (const QuantisedKernels* kernels : compiled_quantised_kernels()) {
    if (std::ranges::count(available_isas(), kernels->isa) > 0) found.insert(found.begin(), kernels);
  }
  return found;
}

const QuantisedKernels& chosen_quantised_kernels() {
  static const QuantisedKernels& chosen = []() -> const QuantisedKernels& {
    const Isa most = chosen_isa();
    const auto all = available_quantised_kernels();
    return **std::ranges::find_if(all, [&](const QuantisedKernels* kernels) { return kernels->isa <= most; });
  }();
  return chosen;
}

}  // namespace tilewise::nn
