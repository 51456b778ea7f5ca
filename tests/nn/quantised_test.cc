// Quantised products: every instruction set gives the definition's bits, and the definition is close to the
// mathematics.
#include "nn/quantised.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "core/half.h"
#include "io/dequantize.h"

namespace tilewise::nn {
namespace {

struct Case {
  WeightKind kind;
  io::Storage storage;
  std::int64_t rows, columns, tokens;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const auto& [kind, storage] : {std::pair{WeightKind::q4_0, io::Storage::q4_0},
                                      {WeightKind::q4_1, io::Storage::q4_1},
                                      {WeightKind::q8_0, io::Storage::q8_0}}) {
    for (const std::int64_t columns : {0, 32, 64, 96, 576, 1536}) {
      for (const std::int64_t tokens : {0, 1, 2, 3, 4, 5, 8, 9, 19}) all.push_back({kind, storage, 7, columns, tokens});
    }
  }
  return all;
}

/// A random matrix whose scales are those of real weights; all integers occur, -128 of q8_0 too.
std::vector<std::byte> some_weights(const Case& c, std::mt19937& random) {
  const std::int64_t bytes = block_bytes(c.kind), blocks = c.rows * c.columns / kBlock;
  std::vector<std::byte> stored(static_cast<std::size_t>(blocks * bytes));
  std::normal_distribution<float> normal(0, 0.05F);
  for (std::byte& byte : stored) byte = static_cast<std::byte>(random());
  for (std::int64_t b = 0; b < blocks; ++b) {
    const Float16 halves[2] = {Float16{normal(random)}, Float16{normal(random)}};
    std::memcpy(stored.data() + b * bytes, halves, c.kind == WeightKind::q4_1 ? 4 : 2);
  }
  return stored;
}

std::vector<float> product(const QuantisedKernels& kernels, const QuantisedMatrix& weights,
                           const std::vector<ActivationBlock>& x, std::int64_t tokens) {
  std::vector<float> y(static_cast<std::size_t>(tokens * (weights.rows + 3)), -7.0F);
  kernels.multiply(weights, 0, 4, x.data(), tokens, y.data(), weights.rows + 3);
  kernels.multiply(weights, 4, weights.rows, x.data(), tokens, y.data(), weights.rows + 3);
  return y;
}

std::uint32_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }

TEST(QuantisedProducts, AreTheSameBitsOnEveryInstructionSetAndForAnyNumberOfTokens) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const auto all = available_quantised_kernels();
  const QuantisedKernels& definition = *all.back();
  ASSERT_EQ(definition.isa, Isa::baseline);
  for (const Case& c : cases()) {
    const std::vector<std::byte> stored = some_weights(c, random);
    const QuantisedMatrix weights{c.kind, c.rows, c.columns, stored.data()};
    std::vector<float> x(static_cast<std::size_t>(c.tokens * c.columns));
    for (float& value : x) value = normal(random);
    std::vector<ActivationBlock> rounded(x.size() / kBlock);
    quantise_activations(x.data(), c.tokens, c.columns, rounded.data());
    const std::vector<float> expected = product(definition, weights, rounded, c.tokens);
    for (const QuantisedKernels* kernels : all) {
      const std::vector<float> y = product(*kernels, weights, rounded, c.tokens);
      for (std::size_t i = 0; i < y.size(); ++i) {
        ASSERT_EQ(bits(y[i]), bits(expected[i]))
            << to_string(kernels->isa) << ", " << io::info(c.storage).name << " [" << c.rows << ", " << c.columns
            << "], " << c.tokens << " tokens, element " << i;
      }
      // One token alone, as in the batch.
      if (c.tokens == 0) continue;
      const std::vector<ActivationBlock> last(rounded.end() - c.columns / kBlock, rounded.end());
      const std::vector<float> alone = product(*kernels, weights, last, 1);
      const std::size_t row = static_cast<std::size_t>((c.tokens - 1) * (c.rows + 3));
      for (std::size_t i = 0; i < alone.size(); ++i) ASSERT_EQ(bits(alone[i]), bits(y[row + i]));
    }
  }
}

/// The magnitude of the minimum of the block that holds a weight; 0 but for q4_1.
double minimum(const Case& c, const std::vector<std::byte>& stored, std::int64_t row, std::int64_t column) {
  if (c.kind != WeightKind::q4_1) return 0;
  std::uint16_t half = 0;
  const std::int64_t block = (row * c.columns + column) / kBlock;
  std::memcpy(&half, stored.data() + block * block_bytes(c.kind) + 2, sizeof(half));
  return std::abs(static_cast<double>(Float16::from_bits(half)));
}

// The oracle: float64 sums of dequantised weights and of activations as they were before rounding.
TEST(QuantisedProducts, AreWithinTheRoundingOfActivations) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (const Case& c : cases()) {
    const std::vector<std::byte> stored = some_weights(c, random);
    const QuantisedMatrix weights{c.kind, c.rows, c.columns, stored.data()};
    std::vector<float> x(static_cast<std::size_t>(c.tokens * c.columns)),
        w(static_cast<std::size_t>(c.rows * c.columns));
    for (float& value : x) value = normal(random);
    io::dequantize(c.storage, stored.data(), c.rows * c.columns, w.data());
    std::vector<ActivationBlock> rounded(x.size() / kBlock);
    quantise_activations(x.data(), c.tokens, c.columns, rounded.data());
    const std::vector<float> y = product(*available_quantised_kernels().back(), weights, rounded, c.tokens);
    for (std::int64_t t = 0; t < c.tokens; ++t) {
      for (std::int64_t row = 0; row < c.rows; ++row) {
        double exact = 0, steps = 0, magnitude = 0;
        for (std::int64_t i = 0; i < c.columns; ++i) {
          const double weight = w[static_cast<std::size_t>(row * c.columns + i)];
          const double value = x[static_cast<std::size_t>(t * c.columns + i)];
          const double step = rounded[static_cast<std::size_t>((t * c.columns + i) / kBlock)].scale;
          exact += weight * value;
          // Half a step, and what float32 adds to it in x * inverse.
          steps += std::abs(weight) * step * 0.5001;
          // A q4_1 weight is computed as its integer's part and its minimum's, which may cancel.
          magnitude += (std::abs(weight) + 2 * minimum(c, stored, row, i)) * (std::abs(value) + step);
        }
        // Each part is a sum of half the blocks, in float32; a handful of roundings come before and after.
        const double bound = steps + magnitude * static_cast<double>(c.columns / kBlock + 16) * 0x1p-24;
        ASSERT_NEAR(y[static_cast<std::size_t>(t * (c.rows + 3) + row)], exact, bound);
      }
    }
  }
}

TEST(QuantisedProducts, ActivationsThatAreNotFiniteGiveNan) {
  std::mt19937 random(3);
  const Case c{WeightKind::q4_1, io::Storage::q4_1, 7, 64, 1};
  const std::vector<std::byte> stored = some_weights(c, random);
  for (const float value : {INFINITY, -INFINITY, NAN}) {
    std::vector<float> x(64, 1.0F);
    x[40] = value;
    std::vector<ActivationBlock> rounded(2);
    quantise_activations(x.data(), 1, 64, rounded.data());
    for (const QuantisedKernels* kernels : available_quantised_kernels()) {
      const auto y = product(*kernels, {c.kind, c.rows, c.columns, stored.data()}, rounded, 1);
      for (std::size_t row = 0; row < 7; ++row) EXPECT_TRUE(std::isnan(y[row]));
    }
  }
}

TEST(QuantisedProducts, ZerosAndSubnormalActivationsAreZero) {
  std::vector<float> x(32, 0.0F);
  std::vector<ActivationBlock> rounded(1);
  for (const float value : {0.0F, 1e-40F}) {
    x[3] = value;
    quantise_activations(x.data(), 1, 32, rounded.data());
    EXPECT_EQ(rounded[0].scale, 0.0F);
    EXPECT_EQ(rounded[0].sum, 0.0F);
    for (const std::int8_t quant : rounded[0].values) EXPECT_EQ(quant, 0);
  }
}

}  // namespace
}  // namespace tilewise::nn
