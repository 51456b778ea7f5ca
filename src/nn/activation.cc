#include "nn/activation.h"

#include <algorithm>

#include "core/isa.h"
#include "variant/lanes/strip.h"

namespace tilewise::nn {
namespace {

// Elements at a time: what passes over them leave stays in the first-level cache.
constexpr std::int64_t kStrip = 1024;

/// to[i] = the operation O of a real, of from[i].
template <class O>
void apply(float* from, float* to, std::int64_t count) {
  static const variant::StripOperations& operations = variant::strip_operations(chosen_isa());
  const variant::Strip operand{from, 0, 1};
  operations.operation[variant::number_of<O>][1]({1, count, {to, 0, 1}, &operand});
}

void silu(float* x, float* t, std::int64_t count) {
  apply<variant::Sigmoid>(x, t, count);
  for (std::int64_t i = 0; i < count; ++i) x[i] *= t[i];
}

void gelu(float* x, float* t, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) t[i] = 0.707106781F * x[i];
  apply<variant::ErrorFunction>(t, t, count);
  for (std::int64_t i = 0; i < count; ++i) x[i] = 0.5F * x[i] * (1.0F + t[i]);
}

void gelu_tanh(float* x, float* t, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) t[i] = 0.797884561F * (x[i] + 0.044715F * x[i] * x[i] * x[i]);
  apply<variant::HyperbolicTangent>(t, t, count);
  for (std::int64_t i = 0; i < count; ++i) x[i] = 0.5F * x[i] * (1.0F + t[i]);
}

void relu(float* x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) x[i] = x[i] < 0 ? 0 : x[i];  // NaN stays
}

void activate_strip(Activation f, float* x, float* t, std::int64_t count) {
  switch (f) {
    case Activation::silu: return silu(x, t, count);
    case Activation::gelu: return gelu(x, t, count);
    case Activation::gelu_tanh: return gelu_tanh(x, t, count);
    case Activation::relu: return relu(x, count);
  }
}

}  // namespace

void activate(Activation f, float* x, std::int64_t count) {
  alignas(64) float t[kStrip];
  for (std::int64_t i = 0; i < count; i += kStrip) activate_strip(f, x + i, t, std::min(kStrip, count - i));
}

void activate_gated(Activation f, float* gate, const float* up, std::int64_t count, float* y) {
  alignas(64) float t[kStrip];
  for (std::int64_t i = 0; i < count; i += kStrip) {
    const std::int64_t n = std::min(kStrip, count - i);
    activate_strip(f, gate + i, t, n);
    for (std::int64_t j = i; j < i + n; ++j) y[j] = gate[j] * up[j];
  }
}

}  // namespace tilewise::nn
