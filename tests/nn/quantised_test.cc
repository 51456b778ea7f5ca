// Quantised products: every instruction set gives the definition's bits, and the definition is close to the
// mathematics.
#include "nn/quantised.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "nn/panel_memory.h"
#include "tests/nn/some_weights.h"

namespace tilewise::nn {
namespace {

struct Case {
  WeightKind kind;
  std::int64_t rows, columns, tokens;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << to_string(c.kind) << " [" << c.rows << ", " << c.columns << "], " << c.tokens << " tokens";
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const WeightKind kind : kQuantisedKinds) {
    for (const std::int64_t columns : {0, 32, 64, 96, 256, 576, 1536}) {
      if (columns % block_size(kind).elements != 0) continue;
      for (const std::int64_t tokens : {0, 1, 2, 3, 4, 5, 8, 9, 12, 27}) {
        all.push_back({kind, tokens == 3 ? 16 : tokens == 9 ? 33 : 7, columns, tokens});
      }
    }
  }
  return all;
}

std::vector<float> some_activations(const Case& c, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(c.tokens * c.columns));
  for (float& value : x) value = normal(random);
  return x;
}

/// Where a block of activations has a column: 0, 2, 1, 3 of each four.
int place(int column) { return column - column % 4 + (column % 4 == 1 ? 2 : column % 4 == 2 ? 1 : column % 4); }

/// A block of activations, by the definition.
ActivationBlock rounded(const float* x) {
  ActivationBlock block{};
  float largest = 0;
  bool finite = true;
  for (int i = 0; i < 32; ++i) {
    finite = finite && std::isfinite(x[i]);
    largest = std::max(largest, std::abs(x[i]));
  }
  if (!finite) block.scale = block.sum = NAN;
  if (!finite || !std::isfinite(32767 / largest)) return block;
  for (int i = 0; i < 32; ++i) {
    const float value = std::nearbyint(x[i] * (32767 / largest));
    block.values[place(i)] = static_cast<std::int16_t>(value);
    block.total += static_cast<int>(value);
    if (i < 16) block.first += static_cast<int>(value);
  }
  block.scale = largest / 32767;
  block.sum = block.scale * static_cast<float>(block.total);
  return block;
}

/// [tokens, columns / 32]
std::vector<ActivationBlock> rounded(const std::vector<float>& x) {
  std::vector<ActivationBlock> blocks;
  for (std::size_t i = 0; i < x.size(); i += 32) blocks.push_back(rounded(x.data() + i));
  return blocks;
}

/// [rows, columns / 32]
std::vector<ReadBlock> read_blocks(const Case& c, const std::vector<std::byte>& stored) {
  std::vector<ReadBlock> blocks;
  for (std::int64_t b = 0; b < c.rows * c.columns / 32; ++b) blocks.push_back(read_block(c.kind, stored.data(), b));
  return blocks;
}

/// The definition: w [columns / 32], x [columns / 32].
float defined(const Case& c, const ReadBlock* w, const ActivationBlock* x) {
  const int group = c.kind == WeightKind::q6_k ? 16 : 32;
  float y = 0;
  for (std::int64_t b = 0; b < c.columns / 32; ++b) {
    for (int g = 0; g < 32; g += group) {
      int dot = 0;
      for (int i = g; i < g + group; ++i) dot += w[b].integers[i] * x[b].values[place(i)];
      y = std::fma(static_cast<float>(dot), w[b].scales[g] * x[b].scale, y);
    }
    if (has_minimum(c.kind)) y = std::fma(w[b].minimum, x[b].sum, y);
  }
  return y;
}

/// y [tokens, rows + 3], of which the last three are left as they were; in two calls.
std::vector<float> product(const QuantisedKernels& kernels, const Case& c, const std::vector<std::byte>& stored,
                           const std::vector<float>& x) {
  const PanelMatrix weights = to_panels({c.kind, c.rows, c.columns, stored.data()}, default_executor());
  std::vector<ActivationBlock> blocks(x.size() / kBlock);
  kernels.round(x.data(), c.columns, c.tokens, c.columns, blocks.data());
  std::vector<float> y(static_cast<std::size_t>(c.tokens * (c.rows + 3)), -7.0F);
  kernels.multiply(weights, 0, 1, blocks.data(), c.tokens, y.data(), c.rows + 3);
  kernels.multiply(weights, 1, weights.panels(), blocks.data(), c.tokens, y.data(), c.rows + 3);
  return y;
}

/// The same bits, or both NaN.
bool same(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

void expect_definition(const Case& c, const std::vector<std::byte>& stored, const std::vector<float>& x) {
  const std::vector<ReadBlock> w = read_blocks(c, stored);
  const std::vector<ActivationBlock> blocks = rounded(x);
  for (const QuantisedKernels* kernels : available_quantised_kernels()) {
    const std::vector<float> y = product(*kernels, c, stored, x);
    for (std::int64_t t = 0; t < c.tokens; ++t) {
      for (std::int64_t row = 0; row < c.rows + 3; ++row) {
        const float expected =
            row < c.rows ? defined(c, w.data() + row * c.columns / 32, blocks.data() + t * c.columns / 32) : -7.0F;
        const float actual = y[static_cast<std::size_t>(t * (c.rows + 3) + row)];
        ASSERT_TRUE(same(actual, expected)) << to_string(kernels->isa) << ", " << c << ", token " << t << ", row "
                                            << row << ": " << actual << " rather than " << expected;
      }
    }
  }
}

TEST(QuantisedProducts, AreTheDefinitionsBitsOnEveryInstructionSetAndForAnyNumberOfTokens) {
  std::mt19937 random(1);
  for (const Case& c : cases()) {
    const std::vector<std::byte> stored = some_weights(c.kind, c.rows * c.columns, random);
    ASSERT_NO_FATAL_FAILURE(expect_definition(c, stored, some_activations(c, random)));
  }
}

// Scales that are infinite, NaN or subnormal among them.
TEST(QuantisedProducts, OfAnyBitsAreTheDefinitions) {
  std::mt19937 random(4);
  for (int round = 0; round < 20; ++round) {
    for (const WeightKind kind : kQuantisedKinds) {
      const Case c{kind, 40, 256, 3};
      const std::vector<std::byte> stored = random_blocks(kind, c.rows * c.columns, random);
      ASSERT_NO_FATAL_FAILURE(expect_definition(c, stored, some_activations(c, random)));
    }
  }
}

// The largest sums that there are, of either sign.
TEST(QuantisedProducts, HoldTheLargestIntegers) {
  std::mt19937 random(5);
  for (const WeightKind kind : kQuantisedKinds) {
    const Case c{kind, 16, 256, 13};
    for (const int byte : {0x00, 0x7F, 0x80, 0xFF}) {
      std::vector<std::byte> stored(static_cast<std::size_t>(stored_bytes(kind, c.rows * c.columns)), std::byte(byte));
      for (std::size_t b = 0; b < stored.size(); b += static_cast<std::size_t>(block_size(kind).bytes)) {
        set_factors(kind, stored.data() + b, Float16{0.5}, Float16{0.25});
      }
      for (const float value : {1.0F, -1.0F}) {
        std::vector<float> x(static_cast<std::size_t>(c.tokens * c.columns), value);
        ASSERT_NO_FATAL_FAILURE(expect_definition(c, stored, x));
      }
    }
  }
}

// The oracle: float64 sums of dequantised weights and of activations as they were before rounding.
TEST(QuantisedProducts, AreWithinTheRoundingOfActivations) {
  std::mt19937 random(2);
  for (const Case& c : cases()) {
    const std::vector<std::byte> stored = some_weights(c.kind, c.rows * c.columns, random);
    const std::vector<float> x = some_activations(c, random);
    const std::vector<ReadBlock> parts = read_blocks(c, stored);
    const std::vector<ActivationBlock> blocks = rounded(x);
    std::vector<float> w(static_cast<std::size_t>(c.rows * c.columns));
    io::dequantize(storage_of(c.kind), stored.data(), c.rows * c.columns, w.data());
    const std::vector<float> y = product(*available_quantised_kernels().front(), c, stored, x);
    for (std::int64_t t = 0; t < c.tokens; ++t) {
      for (std::int64_t row = 0; row < c.rows; ++row) {
        double exact = 0, steps = 0, magnitude = 0;
        for (std::int64_t i = 0; i < c.columns; ++i) {
          const double weight = w[static_cast<std::size_t>(row * c.columns + i)];
          const double value = x[static_cast<std::size_t>(t * c.columns + i)];
          const double step = blocks[static_cast<std::size_t>((t * c.columns + i) / kBlock)].scale;
          const double minimum = parts[static_cast<std::size_t>((row * c.columns + i) / kBlock)].minimum;
          exact += weight * value;
          // Half a step, and what float32 adds to it: x * inverse is up to 2^15, and rounded twice.
          steps += std::abs(weight) * step * 0.505;
          // A weight is computed as its integer's part and its minimum's, which may cancel.
          magnitude += (std::abs(weight) + 2 * std::abs(minimum)) * (std::abs(value) + step);
        }
        // One sum over all groups and minima, in float32; a handful of roundings come before and after.
        const double bound = steps + magnitude * static_cast<double>(2 * c.columns / kBlock + 16) * 0x1p-24;
        ASSERT_NEAR(y[static_cast<std::size_t>(t * (c.rows + 3) + row)], exact, bound) << c;
      }
    }
  }
}

TEST(QuantisedProducts, RoundActivationsAsDefinedInBunches) {
  std::mt19937 random(6);
  // Halves of steps are ties: 32767 makes the step 1.
  std::vector<float> x;
  for (int i = 0; i < 27 * 96; ++i) {
    x.push_back(i % 32 == 0 ? 32767.0F : static_cast<float>(static_cast<int>(random() % 131068) - 65534) / 2);
  }
  for (const QuantisedKernels* kernels : available_quantised_kernels()) {
    for (const std::int64_t tokens : {1, 5, 7, 12, 27}) {
      std::vector<ActivationBlock> out(static_cast<std::size_t>(tokens * 3));
      kernels->round(x.data(), 96, tokens, 96, out.data());
      std::int64_t first = 0;
      while (first < tokens) {
        std::int64_t bunch = kernels->bunch;
        if (tokens - first < bunch) bunch = std::int64_t(std::bit_floor(std::uint64_t(tokens - first)));
        for (std::int64_t i = 0; i < bunch; ++i) {
          for (std::int64_t b = 0; b < 3; ++b) {
            const ActivationBlock expected = rounded(x.data() + (first + i) * 96 + b * 32);
            const ActivationBlock& block = out[static_cast<std::size_t>(first * 3 + b * bunch + i)];
            ASSERT_EQ(std::memcmp(&block, &expected, sizeof(block)), 0)
                << to_string(kernels->isa) << ", token " << first + i << " of " << tokens << ", block " << b;
          }
        }
        first += bunch;
      }
    }
  }
}

TEST(QuantisedProducts, ActivationsThatAreNotFiniteGiveNan) {
  std::mt19937 random(3);
  const Case c{WeightKind::q4_1, 7, 64, 1};
  const std::vector<std::byte> stored = some_weights(c.kind, c.rows * c.columns, random);
  for (const float value : {INFINITY, -INFINITY, NAN}) {
    std::vector<float> x(64, 1.0F);
    x[40] = value;
    for (const QuantisedKernels* kernels : available_quantised_kernels()) {
      const auto y = product(*kernels, c, stored, x);
      for (std::size_t row = 0; row < 7; ++row) EXPECT_TRUE(std::isnan(y[row]));
    }
  }
}

TEST(QuantisedProducts, ZerosAndSubnormalActivationsAreZero) {
  std::vector<float> x(32, 0.0F);
  std::vector<ActivationBlock> block(1);
  for (const QuantisedKernels* kernels : available_quantised_kernels()) {
    for (const float value : {0.0F, 1e-40F}) {
      x[3] = value;
      kernels->round(x.data(), 32, 1, 32, block.data());
      EXPECT_EQ(block[0].scale, 0.0F);
      EXPECT_EQ(block[0].sum, 0.0F);
      for (const std::int16_t quant : block[0].values) EXPECT_EQ(quant, 0);
    }
  }
}

TEST(Panels, HoldTheFilesValues) {
  std::mt19937 random(7);
  for (const WeightKind kind : kQuantisedKinds) {
    const std::int64_t rows = 37, columns = 512;
    const std::vector<std::byte> stored = some_weights(kind, rows * columns, random);
    std::vector<float> expected(static_cast<std::size_t>(rows * columns)), read(static_cast<std::size_t>(columns));
    io::dequantize(storage_of(kind), stored.data(), rows * columns, expected.data());
    const PanelMatrix panels = to_panels({kind, rows, columns, stored.data()}, default_executor());
    for (std::int64_t row = 0; row < rows; ++row) {
      dequantise(panels, row / kPanelRows, row % kPanelRows, 1, read.data());
      for (std::int64_t i = 0; i < columns; ++i) {
        ASSERT_TRUE(same(read[std::size_t(i)], expected[std::size_t(row * columns + i)])) << to_string(kind);
      }
    }
  }
}

// Loading must not cost more memory than the file: what 6-bit scales take as bytes is all that is added.
TEST(Panels, AreAboutAsLargeAsTheFile) {
  for (const WeightKind kind : kQuantisedKinds) {
    const PanelMatrix matrix{.kind = kind, .rows = 1024, .columns = 1024};
    const double ratio = static_cast<double>(matrix.panels() * matrix.panel_bytes()) /
                         static_cast<double>(stored_bytes(kind, 1024 * 1024));
    EXPECT_LE(ratio, 1.03) << to_string(kind);
  }
}

// Matrices share stretches of memory, and may be larger than one; each has its own part of it, for as long as it lives.
TEST(Panels, LieApartInMemory) {
  std::vector<std::shared_ptr<std::byte>> parts;
  std::vector<std::int64_t> sizes;
  for (const std::int64_t bytes : {0, 1, 64, 1000, 20 << 20, 50 << 20, 100 << 20, 7, 4096}) {
    parts.push_back(allocate_panels(bytes));
    sizes.push_back(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(parts.back().get()) % 64, 0);
    if (bytes > 0) parts.back().get()[0] = parts.back().get()[bytes - 1] = std::byte(parts.size());
  }
  parts.erase(parts.begin() + 4), sizes.erase(sizes.begin() + 4);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (sizes[i] == 0) continue;
    const auto mark = std::byte(i < 4 ? i + 1 : i + 2);
    EXPECT_EQ(parts[i].get()[0], mark);
    EXPECT_EQ(parts[i].get()[sizes[i] - 1], mark);
  }
}

}  // namespace
}  // namespace tilewise::nn
