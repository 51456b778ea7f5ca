// Products of float32 by the kept BLAS. docs/decisions/float_products.md has the reasons.
#pragma once

#include <cstdint>

namespace tilewise::nn {

/// y = x w^T + bias on the calling thread. Strides are in elements, between rows; none may reach 2^31.
void multiply_floats(const float* x, std::int64_t x_stride,  // [tokens, columns]
                     const float* w, std::int64_t w_stride,  // [rows, columns]
                     const float* bias,                      // [rows], or null
                     std::int64_t tokens, std::int64_t rows, std::int64_t columns, float* y,
                     std::int64_t y_stride);  // [tokens, rows]

}  // namespace tilewise::nn
