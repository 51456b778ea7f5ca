// What the vector kernels share: the walk over rows and tokens, in which each row of weights is unpacked once for
// several tokens. In an unnamed namespace, since every instruction set compiles its own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "nn/quantised.h"

namespace tilewise::nn {
namespace {

/// Calls RowOf<kind, tokens>::run(row, blocks, bytes of a block, x, y, y_stride) for kMostTokens tokens at a time, and
/// for those that remain one by one.
template <template <WeightKind, int> class RowOf, WeightKind kKind, int kMostTokens>
void multiply_kind(const QuantisedMatrix& weights, std::int64_t first, std::int64_t last, const ActivationBlock* x,
                   std::int64_t tokens, float* y, std::int64_t y_stride) {
  constexpr std::int64_t kBytes = kKind == WeightKind::q4_0 ? 18 : kKind == WeightKind::q4_1 ? 20 : 34;
  const std::int64_t blocks = weights.columns / kBlock;
  for (std::int64_t row = first; row < last; ++row) {
    const std::byte* stored = weights.blocks + row * blocks * kBytes;
    std::int64_t t = 0;
    for (; t + kMostTokens <= tokens; t += kMostTokens) {
      RowOf<kKind, kMostTokens>::run(stored, blocks, kBytes, x + t * blocks, y + t * y_stride + row, y_stride);
    }
    for (; t < tokens; ++t)
      RowOf<kKind, 1>::run(stored, blocks, kBytes, x + t * blocks, y + t * y_stride + row, y_stride);
  }
}

template <template <WeightKind, int> class RowOf, int kMostTokens>
void multiply_each_kind(const QuantisedMatrix& weights, std::int64_t first, std::int64_t last, const ActivationBlock* x,
                        std::int64_t tokens, float* y, std::int64_t y_stride) {
  const auto of = [&]<WeightKind kKind>() {
    multiply_kind<RowOf, kKind, kMostTokens>(weights, first, last, x, tokens, y, y_stride);
  };
  switch (weights.kind) {
    case WeightKind::q4_0: return of.template operator()<WeightKind::q4_0>();
    case WeightKind::q4_1: return of.template operator()<WeightKind::q4_1>();
    case WeightKind::q8_0: return of.template operator()<WeightKind::q8_0>();
  }
}

}  // namespace
}  // namespace tilewise::nn
