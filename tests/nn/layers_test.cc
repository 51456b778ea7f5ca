// Norms, activations and positions against their formulas in float64.
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <random>
#include <vector>

#include "nn/activation.h"
#include "tests/nn/small_model.h"
#include "tests/refusal.h"

namespace tilewise::nn {
namespace {

TEST(Norms, AreTheFormulas) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.5F, 2);
  for (const NormKind kind : {NormKind::rms, NormKind::layer}) {
    for (const std::size_t width : {1u, 7u, 16u, 33u, 576u}) {
      Norm norm{kind, 1e-5F, std::vector<float>(width), {}};
      std::vector<float> x(width), y(width);
      for (float& value : norm.weight) value = normal(random);
      for (float& value : x) value = normal(random);
      if (kind == NormKind::layer) norm.bias = x;
      const Row expected = Definition::normed(norm, {x.begin(), x.end()});
      normalise(norm, x.data(), y.data());
      for (std::size_t i = 0; i < width; ++i)
        EXPECT_NEAR(y[i], expected[i], 4e-6 * (1 + std::abs(expected[i]))) << width << ", element " << i;
      normalise(norm, x.data(), x.data());
      EXPECT_EQ(x, y) << "in place";
    }
  }
}

TEST(Norms, OfZerosAreFinite) {
  std::vector<float> x(8, 0.0F);
  normalise({NormKind::rms, 1e-5F, std::vector<float>(8, 1.0F), {}}, x.data(), x.data());
  for (const float value : x) EXPECT_EQ(value, 0.0F);
}

TEST(Activations, AreTheFormulas) {
  for (const Activation f : {Activation::silu, Activation::gelu, Activation::gelu_tanh, Activation::relu}) {
    std::vector<float> x;  // more than a strip of the implementation, and no whole number of vectors
    for (int i = -1301; i <= 1302; ++i) x.push_back(static_cast<float>(i) / 100.0F);
    std::vector<float> y = x;
    activate(f, y.data(), static_cast<std::int64_t>(y.size()));
    for (std::size_t i = 0; i < x.size(); ++i) {
      // Near -5 and below gelu's 1 + erf cancels: its error is that of 1, in float32.
      const double exact = Definition::activated(f, static_cast<double>(x[i]));
      EXPECT_NEAR(y[i], exact, 1e-6 * std::max(1.0, std::abs(static_cast<double>(x[i])))) << x[i];
    }
    std::vector<float> gate = x, up(x.size(), -3.0F), product(x.size());
    activate_gated(f, gate.data(), up.data(), static_cast<std::int64_t>(x.size()), product.data());
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_EQ(product[i], y[i] * -3.0F);
  }
}

TEST(Activations, KeepWhatIsNotFinite) {
  for (const Activation f : {Activation::silu, Activation::gelu, Activation::gelu_tanh, Activation::relu}) {
    std::vector<float> x{NAN, INFINITY, 0.0F};
    activate(f, x.data(), 3);
    EXPECT_TRUE(std::isnan(x[0]));
    EXPECT_EQ(x[1], INFINITY);
    EXPECT_EQ(x[2], 0.0F);
  }
}

/// Turns a number of pairs by hand.
TEST(Rotary, TurnsPairsByPositionTimesFrequency) {
  for (const Pairing pairing : {Pairing::neighbours, Pairing::halves}) {
    const Rotary rotary = make_rotary(pairing, 6, 1000, {});
    ASSERT_EQ(rotary.d(), 6);
    std::vector<float> cosines(3), sines(3);
    rotary_angles(rotary, 41, cosines.data(), sines.data());
    // Two heads of 8, of which 6 elements turn.
    std::vector<float> rows(16);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i) - 7.5F;
    const std::vector<float> before = rows;
    rotate(rotary, cosines.data(), sines.data(), rows.data(), 2, 8);
    for (std::size_t head = 0; head < 2; ++head) {
      for (std::size_t i = 0; i < 3; ++i) {
        const std::size_t a = 8 * head + (pairing == Pairing::halves ? i : 2 * i);
        const std::size_t b = pairing == Pairing::halves ? a + 3 : a + 1;
        const double angle = 41 * std::pow(1000.0, -static_cast<double>(i) / 3);
        const double x = static_cast<double>(before[a]), y = static_cast<double>(before[b]);
        EXPECT_NEAR(rows[a], x * std::cos(angle) - y * std::sin(angle), 2e-5);
        EXPECT_NEAR(rows[b], x * std::sin(angle) + y * std::cos(angle), 2e-5);
      }
      for (std::size_t i = 6; i < 8; ++i) EXPECT_EQ(rows[8 * head + i], before[8 * head + i]);
    }
  }
}

double frequency(const RotaryScaling& scaling, std::size_t i) {
  return make_rotary(Pairing::halves, 64, 10000, scaling).frequencies[i];
}
double unscaled(std::size_t i) { return std::pow(10000.0, -static_cast<double>(i) / 32); }

TEST(RotaryScalings, LinearDividesEveryFrequency) {
  for (std::size_t i = 0; i < 32; ++i)
    EXPECT_NEAR(frequency({.kind = RotaryScaling::Kind::linear, .factor = 4}, i), unscaled(i) / 4, 1e-7 * unscaled(i));
}

TEST(RotaryScalings, Llama3KeepsShortWavesStretchesLongOnesAndBlendsBetween) {
  const RotaryScaling scaling{.kind = RotaryScaling::Kind::llama3, .factor = 8, .trained_context = 8192};
  for (std::size_t i = 0; i < 32; ++i) {
    // As the model's paper has it, by wavelengths.
    const double wave = 2 * std::numbers::pi / unscaled(i);
    double expected = unscaled(i);
    if (wave > 8192.0 / 1) {
      expected /= 8;
    } else if (wave >= 8192.0 / 4) {
      const double smooth = (8192 / wave - 1) / (4 - 1);
      expected = (1 - smooth) * unscaled(i) / 8 + smooth * unscaled(i);
    }
    EXPECT_NEAR(frequency(scaling, i), expected, 1e-6 * expected) << i;
  }
  EXPECT_NEAR(frequency(scaling, 0), unscaled(0), 1e-7);
  EXPECT_NEAR(frequency(scaling, 31), unscaled(31) / 8, 1e-7 * unscaled(31));
}

TEST(RotaryScalings, YarnBlendsByTurnsAndScalesTheCosines) {
  const RotaryScaling scaling{.kind = RotaryScaling::Kind::yarn, .factor = 4, .trained_context = 4096};
  // Index of the frequency with that many turns in 4096 positions: 32 turns and one turn.
  const auto index = [](double turns) {
    return 64 * std::log(4096 / (turns * 2 * std::numbers::pi)) / (2 * std::log(10000.0));
  };
  const double first = std::floor(index(32)), last = std::ceil(index(1));
  for (std::size_t i = 0; i < 32; ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - first) / (last - first), 0.0, 1.0);
    const double expected = unscaled(i) / 4 * ramp + unscaled(i) * (1 - ramp);
    EXPECT_NEAR(frequency(scaling, i), expected, 1e-6 * expected) << i;
  }
  EXPECT_NEAR(make_rotary(Pairing::halves, 64, 10000, scaling).magnitude, 0.1 * std::log(4.0) + 1, 1e-12);
  RotaryScaling given = scaling;
  given.magnitude = 1.25;
  EXPECT_EQ(make_rotary(Pairing::halves, 64, 10000, given).magnitude, 1.25);
}

TEST(RotaryScalings, LongropeDividesEachFrequencyByItsOwnFactor) {
  RotaryScaling scaling{.kind = RotaryScaling::Kind::longrope, .factor = 32, .trained_context = 4096};
  for (int i = 0; i < 32; ++i) scaling.factors.push_back(1 + i);
  for (std::size_t i = 0; i < 32; ++i)
    EXPECT_NEAR(frequency(scaling, i), unscaled(i) / static_cast<double>(1 + i), 1e-7 * unscaled(i));
  EXPECT_NEAR(make_rotary(Pairing::halves, 64, 10000, scaling).magnitude,
              std::sqrt(1 + std::log(32.0) / std::log(4096.0)), 1e-12);
}

TEST(RotaryScalings, RefuseWhatMakesNoSense) {
  using Kind = RotaryScaling::Kind;
  const auto make = [](std::int64_t d, double base, const RotaryScaling& scaling) {
    return [=] { make_rotary(Pairing::halves, d, base, scaling); };
  };
  expect_refused(make(7, 10000, {}), {"of 7 elements"});
  expect_refused(make(8, 0, {}), {"rotary base is 0"});
  expect_refused(make(8, 10000, {.kind = Kind::linear, .factor = 0}), {"factor is 0"});
  expect_refused(make(8, 10000, {.kind = Kind::yarn, .factor = 2}), {"trained context"});
  expect_refused(make(8, 10000, {.kind = Kind::longrope, .trained_context = 64, .factors = {1, 2}}),
                 {"2 factors; expected 4"});
}

TEST(SinusoidalPositions, AreTheFormula) {
  std::vector<float> row(10);
  for (const std::int64_t position : {0, 1, 511}) {
    sinusoidal_position(position, 10, row.data());
    for (std::size_t i = 0; i < 10; ++i) {
      const double angle = static_cast<double>(position) / std::pow(10000.0, static_cast<double>(i / 2 * 2) / 10);
      EXPECT_NEAR(row[i], i % 2 == 0 ? std::sin(angle) : std::cos(angle), 1e-6);
    }
  }
}

}  // namespace
}  // namespace tilewise::nn
