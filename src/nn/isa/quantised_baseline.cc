// The definition (nn/quantised.h), as it stands: for every processor, and to read first.
#include <cmath>
#include <cstring>

#include "core/half.h"
#include "nn/isa/compiled.h"

namespace tilewise::nn {
namespace {

/// A block's integers and factors.
struct Weights {
  int values[kBlock];
  float scale;
  float minimum;  // q4_1 only, else 0
};

float half_at(const unsigned char* from) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, from, sizeof(bits));
  return static_cast<float>(Float16::from_bits(bits));
}

Weights read(WeightKind kind, const std::byte* stored) {
  const auto* block = reinterpret_cast<const unsigned char*>(stored);
  Weights weights{};
  weights.scale = half_at(block);
  if (kind == WeightKind::q4_1) weights.minimum = half_at(block + 2);
  const unsigned char* quants = block + (kind == WeightKind::q4_1 ? 4 : 2);
  const int zero = kind == WeightKind::q4_0 ? 8 : 0;
  for (int i = 0; i < 32; ++i) {
    if (kind == WeightKind::q8_0) {
      weights.values[i] = static_cast<std::int8_t>(quants[i]);
    } else {
      weights.values[i] = (i < 16 ? quants[i] & 15 : quants[i - 16] >> 4) - zero;
    }
  }
  return weights;
}

float product(const QuantisedMatrix& weights, std::int64_t row, const ActivationBlock* x) {
  const std::int64_t blocks = weights.columns / kBlock, bytes = block_bytes(weights.kind);
  float part[16] = {}, low[2] = {};
  for (std::int64_t b = 0; b < blocks; ++b) {
    const Weights w = read(weights.kind, weights.blocks + (row * blocks + b) * bytes);
    const std::int64_t p = b % 2;
    for (int l = 0; l < 8; ++l) {
      int dot = 0;
      for (int i = 4 * l; i < 4 * l + 4; ++i) dot += w.values[i] * x[b].values[i];
      part[8 * p + l] = std::fma(static_cast<float>(dot), w.scale * x[b].scale, part[8 * p + l]);
    }
    if (weights.kind == WeightKind::q4_1) low[p] = std::fma(w.minimum, x[b].sum, low[p]);
  }
  for (int half = 8; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) part[l] += part[l + half];
  }
  return part[0] + (low[0] + low[1]);
}

void multiply(const QuantisedMatrix& weights, std::int64_t first, std::int64_t last, const ActivationBlock* x,
              std::int64_t tokens, float* y, std::int64_t y_stride) {
  for (std::int64_t i = 0; i < tokens; ++i) {
    for (std::int64_t row = first; row < last; ++row) {
      y[i * y_stride + row] = product(weights, row, x + i * (weights.columns / kBlock));
    }
  }
}

}  // namespace

const QuantisedKernels& quantised_baseline() {
  static constexpr QuantisedKernels kKernels{Isa::baseline, multiply};
  return kKernels;
}

}  // namespace tilewise::nn
