#include "nn/norm.h"

#include <cmath>
#include <cstddef>

namespace tilewise::nn {
namespace {

constexpr std::size_t kParts = 16;

/// The sum of f(x[i]).
template <class Function>
float sum_of(const float* x, std::size_t count, Function f) {
  float part[kParts] = {};
  std::size_t i = 0;
  for (; i + kParts <= count; i += kParts) {
    for (std::size_t p = 0; p < kParts; ++p) part[p] += f(x[i + p]);
  }
  for (std::size_t p = 0; i + p < count; ++p) part[p] += f(x[i + p]);
  for (std::size_t half = kParts / 2; half > 0; half /= 2) {
    for (std::size_t p = 0; p < half; ++p) part[p] += part[p + half];
  }
  return part[0];
}

}  // namespace

void normalise(const Norm& norm, const float* x, float* y) {
  const std::size_t width = norm.weight.size();
  const auto count = static_cast<float>(width);
  const float mean = norm.kind == NormKind::rms ? 0.0F : sum_of(x, width, [](float v) { return v; }) / count;
  const float square = sum_of(x, width, [mean](float v) { return (v - mean) * (v - mean); }) / count;
  const float factor = 1.0F / std::sqrt(square + norm.epsilon);
  for (std::size_t i = 0; i < width; ++i) y[i] = (x[i] - mean) * factor * norm.weight[i];
  if (norm.bias.empty()) return;
  for (std::size_t i = 0; i < width; ++i) y[i] += norm.bias[i];
}

}  // namespace tilewise::nn
