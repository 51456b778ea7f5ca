#include "nn/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/fail.h"

namespace tilewise::nn {
namespace {

using Kind = RotaryScaling::Kind;

constexpr double kTurn = 2 * std::numbers::pi;

double of_float(double value) { return static_cast<double>(static_cast<float>(value)); }

void check(const RotaryScaling& scaling, std::int64_t half) {
  if (!(scaling.factor > 0) || !std::isfinite(scaling.factor))
    fail_argument("rotary scaling factor is {}; expected a positive number", scaling.factor);
  const bool needs_context = scaling.kind != Kind::none && scaling.kind != Kind::linear;
  if (needs_context && !(scaling.trained_context >= 1))
    fail_argument("rotary scaling's trained context is {}; expected at least 1", scaling.trained_context);
  if (scaling.kind == Kind::llama3 && !(scaling.low_turns > 0 && scaling.high_turns > scaling.low_turns)) {
    fail_argument("rotary scaling's turns are {} and {}; expected 0 < low < high", scaling.low_turns,
                  scaling.high_turns);
  }
  if (scaling.kind == Kind::yarn && !(scaling.slow_turns > 0 && scaling.fast_turns > scaling.slow_turns)) {
    fail_argument("rotary scaling's turns are {} and {}; expected 0 < slow < fast", scaling.slow_turns,
                  scaling.fast_turns);
  }
  if (scaling.kind != Kind::longrope) return;
  if (static_cast<std::int64_t>(scaling.factors.size()) != half)
    fail_argument("rotary scaling has {} factors; expected {}, half of the rotated elements", scaling.factors.size(),
                  half);
  for (const double factor : scaling.factors) {
    if (!(factor > 0)) fail_argument("a rotary scaling factor is {}; expected positive numbers", factor);
  }
}

/// Between long waves, which are stretched, and short ones, which are not, by turns within the trained context.
double llama3(double frequency, const RotaryScaling& scaling) {
  const double turns = scaling.trained_context * frequency / kTurn;
  const double kept = std::clamp((turns - scaling.low_turns) / (scaling.high_turns - scaling.low_turns), 0.0, 1.0);
  return kept * frequency + (1 - kept) * frequency / scaling.factor;
}

/// The index of the frequency that turns that often within the trained context.
double index_of(double turns, std::int64_t d, double base, const RotaryScaling& scaling) {
  return static_cast<double>(d) * std::log(scaling.trained_context / (turns * kTurn)) / (2 * std::log(base));
}

double yarn(double frequency, std::int64_t i, std::int64_t d, double base, const RotaryScaling& scaling) {
  const double most = static_cast<double>(d - 1);
  const double first = std::max(0.0, std::floor(index_of(scaling.fast_turns, d, base, scaling)));
  double last = std::min(most, std::ceil(index_of(scaling.slow_turns, d, base, scaling)));
  if (last == first) last += 0.001;  // as the paper's code
  const double stretched = std::clamp((static_cast<double>(i) - first) / (last - first), 0.0, 1.0);
  return (1 - stretched) * frequency + stretched * frequency / scaling.factor;
}

double magnitude_of(const RotaryScaling& scaling) {
  if (scaling.kind != Kind::yarn && scaling.kind != Kind::longrope) return 1;
  if (scaling.magnitude > 0) return scaling.magnitude;
  if (scaling.kind == Kind::yarn) return yarn_magnitude(scaling.factor);
  if (scaling.factor <= 1) return 1;
  return std::sqrt(1 + std::log(scaling.factor) / std::log(scaling.trained_context));
}

}  // namespace

double yarn_magnitude(double factor) { return factor <= 1 ? 1 : 0.1 * std::log(factor) + 1; }

Rotary make_rotary(Pairing pairing, std::int64_t d, double base, const RotaryScaling& scaling) {
  if (d < 2 || d % 2 != 0) fail_argument("rotary embedding of {} elements; expected an even number, at least 2", d);
  if (!(base > 1) || !std::isfinite(base)) fail_argument("rotary base is {}; expected a number above 1", base);
  check(scaling, d / 2);
  Rotary rotary{pairing, {}, magnitude_of(scaling)};
  for (std::int64_t i = 0; i < d / 2; ++i) {
    double frequency = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(d));
    switch (scaling.kind) {
      case Kind::none: break;
      case Kind::linear: frequency /= scaling.factor; break;
      case Kind::llama3: frequency = llama3(frequency, scaling); break;
      case Kind::yarn: frequency = yarn(frequency, i, d, base, scaling); break;
      case Kind::longrope: frequency /= scaling.factors[static_cast<std::size_t>(i)]; break;
    }
    rotary.frequencies.push_back(of_float(frequency));
  }
  return rotary;
}

void divide_frequencies(Rotary& rotary, const std::vector<float>& factors) {
  if (factors.size() != rotary.frequencies.size()) {
    fail_argument("{} factors of rotary frequencies; expected {}, half of the rotated elements", factors.size(),
                  rotary.frequencies.size());
  }
  for (std::size_t i = 0; i < factors.size(); ++i) {
    if (!(factors[i] > 0))
      fail_argument("factor {} of rotary frequencies is {}; expected positive numbers", i, factors[i]);
    rotary.frequencies[i] = of_float(rotary.frequencies[i] / static_cast<double>(factors[i]));
  }
}

void rotary_angles(const Rotary& rotary, double position, float* cosines, float* sines) {
  for (std::size_t i = 0; i < rotary.frequencies.size(); ++i) {
    const double angle = position * rotary.frequencies[i];
    cosines[i] = static_cast<float>(rotary.magnitude * std::cos(angle));
    sines[i] = static_cast<float>(rotary.magnitude * std::sin(angle));
  }
}

void rotate(const Rotary& rotary, const float* cosines, const float* sines, float* rows, std::int64_t count,
            std::int64_t stride) {
  const std::int64_t half = rotary.d() / 2;
  for (float* row = rows; count > 0; --count, row += stride) {
    if (rotary.pairing == Pairing::halves) {
      float *a = row, *b = row + half;
      for (std::int64_t i = 0; i < half; ++i) {
        const float x = a[i], y = b[i];
        a[i] = x * cosines[i] - y * sines[i];
        b[i] = y * cosines[i] + x * sines[i];
      }
    } else {
      for (std::int64_t i = 0; i < half; ++i) {
        const float x = row[2 * i], y = row[2 * i + 1];
        row[2 * i] = x * cosines[i] - y * sines[i];
        row[2 * i + 1] = y * cosines[i] + x * sines[i];
      }
    }
  }
}

void sinusoidal_position(std::int64_t position, std::int64_t width, float* row) {
  for (std::int64_t i = 0; i < width; ++i) {
    const double exponent = static_cast<double>(i - i % 2) / static_cast<double>(width);
    const double angle = static_cast<double>(position) / std::pow(10000.0, exponent);
    row[i] = static_cast<float>(i % 2 == 0 ? std::sin(angle) : std::cos(angle));
  }
}

}  // namespace tilewise::nn
