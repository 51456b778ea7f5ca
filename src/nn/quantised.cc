#include "nn/quantised.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/fail.h"
#include "nn/isa/compiled.h"

namespace tilewise::nn {
namespace {

constexpr float kMost = 127.0F;

ActivationBlock rounded(const float* x) {
  float largest = 0;
  bool finite = true;
  for (std::int64_t i = 0; i < kBlock; ++i) {
    finite = finite && std::isfinite(x[i]);
    largest = std::max(largest, std::abs(x[i]));
  }
  ActivationBlock block{};
  const float inverse = kMost / largest;
  // What is not finite must not come out as a number. Zeros, and subnormals whose inverse overflows, are 0.
  if (!finite) block.scale = block.sum = std::numeric_limits<float>::quiet_NaN();
  if (!finite || !std::isfinite(inverse)) return block;
  block.scale = largest / kMost;
  for (std::int64_t i = 0; i < kBlock; ++i) block.values[i] = static_cast<std::int8_t>(std::nearbyint(x[i] * inverse));
  block.sum = block.scale * static_cast<float>(std::accumulate(block.values, block.values + kBlock, 0));
  return block;
}

}  // namespace

std::int64_t block_bytes(WeightKind kind) {
  switch (kind) {
    case WeightKind::q4_0: return 18;
    case WeightKind::q4_1: return 20;
    case WeightKind::q8_0: return 34;
  }
  return 0;
}

std::vector<const QuantisedKernels*> available_quantised_kernels() {
  std::vector<const QuantisedKernels*> found;
  for (const QuantisedKernels* kernels : compiled_quantised_kernels()) {
    if (std::ranges::count(available_isas(), kernels->isa) > 0) found.insert(found.begin(), kernels);
  }
  return found;
}

void quantise_activations(const float* x, std::int64_t tokens, std::int64_t columns, ActivationBlock* out) {
  if (tokens < 0 || columns < 0 || columns % kBlock != 0) {
    fail_argument("activations [{}, {}]: expected a number of tokens, and columns in multiples of {}", tokens, columns,
                  kBlock);
  }
  for (std::int64_t i = 0; i < tokens * columns / kBlock; ++i) out[i] = rounded(x + i * kBlock);
}

}  // namespace tilewise::nn
