// What an MLP applies to its hidden layer.
//
// Hendrycks, Gimpel, "Gaussian Error Linear Units" (2016); Shazeer, "GLU Variants Improve Transformer" (2020).
#pragma once

#include <cstdint>

namespace tilewise::nn {

enum class Activation : std::uint8_t {
  silu,       ///< x / (1 + exp(-x))
  gelu,       ///< x / 2 (1 + erf(x / sqrt(2)))
  gelu_tanh,  ///< x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
  relu,       ///< max(x, 0)
};

/// x[i] = f(x[i]), by the vector functions of the best instruction set that may be used (core/isa.h), whose errors are
/// a few units in the last place of float32.
void activate(Activation f, float* x, std::int64_t count);

/// y[i] = f(gate[i]) * up[i]; y may be `up`. `gate` is overwritten.
void activate_gated(Activation f, float* gate, const float* up, std::int64_t count, float* y);

}  // namespace tilewise::nn
