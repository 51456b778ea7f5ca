#include "variant/operations/lane_math.h"

#include <cmath>

namespace tilewise::variant {

void scalar_pow(const float* x, const float* exponent, float* result, std::size_t lanes) {
  for (std::size_t i = 0; i < lanes; ++i) result[i] = std::pow(x[i], exponent[i]);
}

void scalar_sin(const float* x, float* result, std::size_t lanes) {
  for (std::size_t i = 0; i < lanes; ++i) result[i] = std::sin(x[i]);
}

void scalar_cos(const float* x, float* result, std::size_t lanes) {
  for (std::size_t i = 0; i < lanes; ++i) result[i] = std::cos(x[i]);
}

}  // namespace tilewise::variant
