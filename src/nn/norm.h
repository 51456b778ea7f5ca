// Norms of a row, before, after or inside a block's residual.
//
// Ba, Kiros, Hinton, "Layer Normalization" (2016); Zhang, Sennrich, "Root Mean Square Layer Normalization" (2019).
#pragma once

#include <cstdint>
#include <vector>

namespace tilewise::nn {

enum class NormKind : std::uint8_t {
  rms,    ///< y = x / sqrt(mean(x^2) + epsilon) * weight
  layer,  ///< y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * weight + bias
};

struct Norm {
  NormKind kind = NormKind::rms;
  float epsilon = 1e-5F;
  std::vector<float> weight{};  // [width]
  std::vector<float> bias{};    // [width], or empty
};

/// y = the norm of a row; y may be x. Sums run in 16 parts, whatever the instruction set.
void normalise(const Norm& norm, const float* x, float* y);  // [width] each

}  // namespace tilewise::nn
