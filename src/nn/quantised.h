// Products of 4- and 8-bit weights with 8-bit activations: one definition, the same bits on every instruction set, for
// one row of activations as for many. docs/decisions/quantised_products.md has the reasons.
//
// Weights lie in blocks of 32 as files store them (ggml's layouts, see io/storage.h): integers w and a float16 scale,
// with q4_1 a float16 minimum. Activations are rounded to blocks of 32 int8 x with a float32 scale: scale = largest
// magnitude / 127, x = nearest(value / scale), ties to even. A product y of a row of weights and one of activations is,
// in float32:
//
//   part[l] = 0 for l in [0, 16), low[p] = 0 for p in [0, 2)
//   for each block b in order, with p = b % 2:
//     for l in [0, 8):  dot = the sum of w[i] * x[i] over i in [4 l, 4 l + 4), an integer
//                       part[8 p + l] = fma(float(dot), w_scale * x_scale, part[8 p + l])
//     q4_1 only:        low[p] = fma(w_minimum, x_scale * float(the sum of x[i]), low[p])
//   eight[l] = part[l] + part[l + 8];  four[l] = eight[l] + eight[l + 4];  two[l] = four[l] + four[l + 2]
//   y = (two[0] + two[1]) + (low[0] + low[1])
//
// where w is q - 8 for q4_0, q for q4_1 and q8_0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/isa.h"

namespace tilewise::nn {

inline constexpr std::int64_t kBlock = 32;

enum class WeightKind : std::uint8_t { q4_0, q4_1, q8_0 };

/// Bytes of a block of 32 weights: 18, 20, 34.
std::int64_t block_bytes(WeightKind kind);

/// A matrix of weights as a file holds it; unaligned.
struct QuantisedMatrix {
  WeightKind kind = WeightKind::q4_0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;           // a multiple of 32
  const std::byte* blocks = nullptr;  // [rows, columns / 32] of block_bytes(kind)
};

/// 32 activations, rounded.
struct ActivationBlock {
  std::int8_t values[kBlock];
  float scale;  // NaN where an activation was not finite
  float sum;    // scale * the sum of the values
};

/// What an instruction set's file supplies: y[i, j] for rows j in [first, last) of the matrix and all tokens i.
struct QuantisedKernels {
  Isa isa;
  void (*multiply)(const QuantisedMatrix& weights, std::int64_t first, std::int64_t last,
                   const ActivationBlock* x,  // [tokens, columns / 32]
                   std::int64_t tokens,
                   float* y,  // [tokens, rows], rows y_stride elements apart
                   std::int64_t y_stride);
};

/// Those that this processor runs, the best first.
std::vector<const QuantisedKernels*> available_quantised_kernels();

/// Rounds rows of activations.
void quantise_activations(const float* x, std::int64_t tokens, std::int64_t columns,  // x [tokens, columns]
                          ActivationBlock* out);                                      // [tokens, columns / 32]

}  // namespace tilewise::nn
