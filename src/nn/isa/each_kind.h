// The products of nn/quantised.h, written once over an engine: the register type of one instruction set. In an unnamed
// namespace, since every instruction set compiles its own.
//
// An engine takes kRows of a panel's 16 rows at a time and has
//   Floats, Sums                        kRows float32; kRows sums of products, being added up
//   kBunch                              tokens that share unpacked weights
//   zeros(), broadcast(f), multiply(a, b), fma(a, b, c), store(f, float*)
//   halves(const std::byte*)            float16 as float32
//   bytes<signed>(const std::byte*)     8-bit integers as float32
//   weights<bits, step>(quants, lane)   4 columns of rows from `lane` on, widened to 16 bits
//   add(sums, weights, x)               adds products with four values of x
//   total(sums)                         as int32
//   less<zero>(integers, total)         integers - zero * total
//   to_float(integers)
//   round(x, block)                     rounds 32 activations
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "nn/quantised.h"

namespace tilewise::nn {
namespace {

constexpr std::int64_t kCacheLine = 64;

/// Calls step(integral_constant<int, i>) for i in [kFirst, kLast), unrolled.
template <int kFirst, int kLast, class Step>
[[gnu::always_inline]] inline void unrolled(const Step& step) {
  [&]<int... kIndices>(std::integer_sequence<int, kIndices...>) __attribute__((always_inline)) {
    (step(std::integral_constant<int, kFirst + kIndices>{}), ...);
  }
  (std::make_integer_sequence<int, kLast - kFirst>{});
}

/// Scales and minima of the blocks of a panel, for an engine's rows from `lane` on.
template <class Engine, WeightKind kKind>
class Factors {
  static constexpr PanelShape kShape = panel_shape(kKind);
  using Floats = typename Engine::Floats;

 public:
  explicit Factors(int lane) : lane_(lane) {}

  [[gnu::always_inline]] void read_head(const std::byte* head) {
    head_scale_ = Engine::halves(head + 2 * lane_);
    if constexpr (kShape.minimum) head_minimum_ = Engine::halves(head + 2 * (kPanelRows + lane_));
  }

  [[gnu::always_inline]] Floats scale(const std::byte* block, int group) const {
    if constexpr (!kShape.nested) return Engine::halves(block + 2 * lane_);
    constexpr bool kSigned = kKind == WeightKind::q6_k;
    return Engine::multiply(head_scale_, Engine::template bytes<kSigned>(block + kPanelRows * group + lane_));
  }

  [[gnu::always_inline]] Floats minimum(const std::byte* block) const {
    if constexpr (!kShape.nested) return Engine::halves(block + 2 * (kPanelRows + lane_));
    const std::byte* minima = block + kPanelRows * (kBlock / kShape.group) + lane_;
    return Engine::multiply(Engine::negative(head_minimum_), Engine::template bytes<false>(minima));
  }

 private:
  int lane_;
  Floats head_scale_{}, head_minimum_{};
};

/// y[i, lane, ...] of kTokens tokens for an engine's rows from `lane` on, to y [kTokens, 16]. Meanwhile as much memory
/// is asked for from `ahead` on as the panel has, where that is not null.
template <class Engine, WeightKind kKind, int kTokens>
[[gnu::always_inline]] inline void multiply_lanes(const std::byte* panel, std::int64_t blocks, const ActivationBlock* x,
                                                  const std::byte* ahead, int lane, float (*y)[kPanelRows]) {
  constexpr PanelShape kShape = panel_shape(kKind);
  constexpr int kStepsOfGroup = kShape.group / 4, kGroups = static_cast<int>(kBlock) / kShape.group;
  using Floats = typename Engine::Floats;
  Floats sums[kTokens];
  for (int t = 0; t < kTokens; ++t) sums[t] = Engine::zeros();
  Factors<Engine, kKind> factors(lane);
  for (std::int64_t b = 0; b < blocks; ++b, x += kTokens) {
    if constexpr (kShape.nested) {
      if (b % kNest == 0) {
        factors.read_head(panel);
        panel += kShape.head_bytes();
      }
    }
    if (ahead != nullptr) {
      for (std::int64_t line = 0; line < kShape.block_bytes(); line += kCacheLine)
        __builtin_prefetch(ahead + line, 0, 2);
      ahead += kShape.block_bytes();
    }
    const std::byte* quants = panel + kShape.factor_bytes();
    unrolled<0, kGroups>([&](auto group) __attribute__((always_inline)) {
      typename Engine::Sums dots[kTokens]{};
      unrolled<0, kStepsOfGroup>([&](auto step) __attribute__((always_inline)) {
        constexpr int kStep = group * kStepsOfGroup + step;
        const auto w = Engine::template weights<kShape.bits, kStep>(quants, lane);
        for (int t = 0; t < kTokens; ++t) Engine::add(dots[t], w, x[t].values + 4 * kStep);
      });
      const Floats scale = factors.scale(panel, group);
      for (int t = 0; t < kTokens; ++t) {
        auto dot = Engine::total(dots[t]);
        if constexpr (kShape.zero != 0) {
          const std::int32_t second = x[t].total - x[t].first;
          const std::int32_t total = kGroups == 1 ? x[t].total : group == 0 ? x[t].first : second;
          dot = Engine::template less<kShape.zero>(dot, total);
        }
        sums[t] = Engine::fma(Engine::to_float(dot), Engine::multiply(scale, Engine::broadcast(x[t].scale)), sums[t]);
      }
    });
    if constexpr (kShape.minimum) {
      const Floats minimum = factors.minimum(panel);
      for (int t = 0; t < kTokens; ++t) sums[t] = Engine::fma(minimum, Engine::broadcast(x[t].sum), sums[t]);
    }
    panel += kShape.block_bytes();
  }
  for (int t = 0; t < kTokens; ++t) Engine::store(sums[t], y[t] + lane);
}

/// One panel and a bunch of kTokens tokens: y [kTokens, rows], rows y_stride elements apart.
template <class Engine, WeightKind kKind, int kTokens>
void multiply_bunch(const std::byte* panel, std::int64_t blocks, const ActivationBlock* x, const std::byte* ahead,
                    float* y, std::int64_t y_stride, std::int64_t rows) {
  float results[kTokens][kPanelRows];
  for (int lane = 0; lane < kPanelRows; lane += Engine::kRows) {
    multiply_lanes<Engine, kKind, kTokens>(panel, blocks, x, lane == 0 ? ahead : nullptr, lane, results);
  }
  for (int t = 0; t < kTokens; ++t) {
    if (rows == kPanelRows) {
      std::memcpy(y + t * y_stride, results[t], sizeof(results[t]));
    } else {
      std::copy(results[t], results[t] + rows, y + t * y_stride);
    }
  }
}

/// Calls body(integral_constant<int, n>, first token) for each bunch.
template <int kBunch, class Body>
void for_each_bunch(std::int64_t tokens, const Body& body) {
  std::int64_t t = 0;
  for (; t + kBunch <= tokens; t += kBunch) body(std::integral_constant<int, kBunch>{}, t);
  constexpr int kLargestPower = static_cast<int>(std::bit_floor(static_cast<unsigned>(kBunch - 1)));
  const auto rest = [&]<int kTokens>(const auto& self, std::integral_constant<int, kTokens> size) {
    if (t + kTokens <= tokens) {
      body(size, t);
      t += kTokens;
    }
    if constexpr (kTokens > 1) self(self, std::integral_constant<int, kTokens / 2>{});
  };
  rest(rest, std::integral_constant<int, kLargestPower>{});
}

template <class Engine, WeightKind kKind>
void multiply_kind(const PanelMatrix& weights, std::int64_t first, std::int64_t last, const ActivationBlock* x,
                   std::int64_t tokens, float* y, std::int64_t y_stride) {
  const std::int64_t blocks = weights.columns / kBlock;
  for (std::int64_t panel = first; panel < last; ++panel) {
    const std::int64_t row = panel * kPanelRows, rows = std::min(kPanelRows, weights.rows - row);
    // A panel takes a batch longer than it takes processors to see that they should fetch the next: 26.5 rather
    // than 24.1 ms for 16 tokens of SmolLM2-135M on a core of a Zen 4. One token is quicker without (3.65 and 4.05 ms).
    const std::byte* ahead = tokens > 1 && panel + 1 < last ? weights.panel(panel + 1) : nullptr;
    for_each_bunch<Engine::kBunch>(tokens, [&](auto size, std::int64_t t) {
      multiply_bunch<Engine, kKind, size>(weights.panel(panel), blocks, x + t * blocks, t == 0 ? ahead : nullptr,
                                          y + t * y_stride + row, y_stride, rows);
    });
  }
}

template <class Engine>
void multiply_each_kind(const PanelMatrix& weights, std::int64_t first, std::int64_t last, const ActivationBlock* x,
                        std::int64_t tokens, float* y, std::int64_t y_stride) {
  with_kind(weights.kind,
            [&]<WeightKind kKind>() { multiply_kind<Engine, kKind>(weights, first, last, x, tokens, y, y_stride); });
}

/// What a block of activations is scaled by.
struct Scales {
  std::int32_t largest_bits;  // the largest magnitude, as an integer: magnitudes are ordered as their bits are
  bool are_finite;
  float scale, inverse;

  static Scales of(std::int32_t largest_bits) {
    const auto largest = std::bit_cast<float>(largest_bits);
    const float inverse = kLargest / largest;
    return {largest_bits, largest_bits < kInfinity && inverse <= std::numeric_limits<float>::max(), largest / kLargest,
            inverse};
  }

  /// What is not finite must not come out as a number. Zeros, and numbers so small that their inverse overflows, are 0.
  void store_without_values(ActivationBlock& out) const {
    out = {};
    if (largest_bits >= kInfinity) out.scale = out.sum = std::numeric_limits<float>::quiet_NaN();
  }

  void store(std::int32_t first, std::int32_t second, ActivationBlock& out) const {
    out.scale = scale;
    out.first = first;
    out.total = first + second;
    out.sum = scale * static_cast<float>(out.total);
  }

  static constexpr float kLargest = 32767;
  static constexpr std::int32_t kInfinity = 0x7F80'0000;
};

/// A block in portable loops; adding 1.5 * 2^23 rounds to nearest, ties to even.
[[maybe_unused]] inline void round_block(const float* x, ActivationBlock& out) {
  std::int32_t bits[kBlock], largest_bits = 0;
  std::memcpy(bits, x, sizeof(bits));
  for (const std::int32_t b : bits) largest_bits = std::max(largest_bits, b & 0x7FFF'FFFF);
  const auto scales = Scales::of(largest_bits);
  if (!scales.are_finite) return scales.store_without_values(out);
  constexpr float kTurn = 0x1.8p23F;
  std::int32_t first = 0, second = 0;
  for (int i = 0; i < kBlock; ++i) {
    bits[i] = std::bit_cast<std::int32_t>(x[i] * scales.inverse + kTurn) - std::bit_cast<std::int32_t>(kTurn);
    out.values[ActivationBlock::in_column(i)] = static_cast<std::int16_t>(bits[i]);
  }
  for (int i = 0; i < 16; ++i) first += bits[i];
  for (int i = 16; i < 32; ++i) second += bits[i];
  scales.store(first, second, out);
}

template <class Engine>
void round_rows(const float* x, std::int64_t x_stride, std::int64_t tokens, std::int64_t columns,
                ActivationBlock* out) {
  const std::int64_t blocks = columns / kBlock;
  for_each_bunch<Engine::kBunch>(tokens, [&](auto size, std::int64_t t) {
    for (int i = 0; i < size; ++i) {
      for (std::int64_t b = 0; b < blocks; ++b) {
        Engine::round(x + (t + i) * x_stride + b * kBlock, out[t * blocks + b * size + i]);
      }
    }
  });
}

template <class Engine>
constexpr QuantisedKernels kernels_over(Isa isa) {
  return {isa, Engine::kBunch, round_rows<Engine>, multiply_each_kind<Engine>};
}

}  // namespace
}  // namespace tilewise::nn
