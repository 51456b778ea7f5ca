// Products of 4- to 8-bit weights with 16-bit activations: one definition, the same bits on every instruction set, for
// one row of activations as for many. docs/decisions/quantised_products.md has the reasons.
//
// Weights lie in panels (nn/panels.h). Activations are rounded to blocks of 32 int16 x with a float32 scale: scale =
// largest magnitude / 32767, x = nearest(value * (32767 / largest magnitude)), ties to even. A product y of a row of
// weights and one of activations is, in float32:
//
//   y = 0
//   for each block b of 32 columns, in order:
//     for each group g of the block's columns that shares a scale, in order:
//       dot = the sum over the group of (w - zero) * x, an integer below 2^28
//       y = fma(float(dot), w_scale[g] * x_scale, y)
//     where the kind has a minimum:
//       y = fma(w_minimum, x_scale * float(the sum of x), y)
//
// A group is a block but for q6_k, where it is 16 columns. For nested kinds w_scale and w_minimum are the float16 of
// the head times the group's integer, q4_k's and q5_k's minimum negated; both products are exact. Which NaN a result
// is, is not defined.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/isa.h"
#include "nn/panels.h"

namespace tilewise::nn {

/// 32 activations, rounded. Of each four columns the middle two have changed places, since the bytes of weights are
/// widened to those in even and those in odd columns: value i is that of column in_column(i), and vice versa.
struct ActivationBlock {
  std::int16_t values[kBlock];
  float scale;         // NaN where an activation was not finite
  float sum;           // scale * total
  std::int32_t total;  // the sum of the values
  std::int32_t first;  // the sum of the first 16

  static constexpr std::int64_t in_column(std::int64_t i) { return i % 4 == 1 || i % 4 == 2 ? i ^ 3 : i; }
};

/// What an instruction set's file supplies.
///
/// Rounded rows lie in bunches of `bunch` tokens, the rest in bunches of the powers of two that make it up, falling.
/// Within a bunch of n, block b of its token i is element b * n + i; a bunch follows another without a gap. So tokens
/// from a multiple of `bunch` on start at that many times columns / 32 elements.
struct QuantisedKernels {
  Isa isa;
  std::int64_t bunch;

  /// Rounds rows of activations.
  void (*round)(const float* x, std::int64_t x_stride,  // [tokens, columns], rows x_stride elements apart
                std::int64_t tokens, std::int64_t columns,
                ActivationBlock* out);  // [tokens * columns / 32], in bunches

  /// y[i, j] for the rows j of panels [first, last) and all tokens i.
  void (*multiply)(const PanelMatrix& weights, std::int64_t first, std::int64_t last,
                   const ActivationBlock* x,  // [tokens * columns / 32], in bunches
                   std::int64_t tokens,
                   float* y,  // [tokens, weights.rows], rows y_stride elements apart
                   std::int64_t y_stride);
};

/// Those that this processor runs, the best first.
std::vector<const QuantisedKernels*> available_quantised_kernels();

/// The best of them that TILEWISE_ISA allows (core/isa.h); settled at the first call.
const QuantisedKernels& chosen_quantised_kernels();

}  // namespace tilewise::nn
