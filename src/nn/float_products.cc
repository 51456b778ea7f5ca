#include "nn/float_products.h"

#include <cblas.h>

#include <algorithm>

namespace tilewise::nn {

void multiply_floats(const float* x, std::int64_t x_stride, const float* w, std::int64_t w_stride, const float* bias,
                     std::int64_t tokens, std::int64_t rows, std::int64_t columns, float* y, std::int64_t y_stride) {
  // OpenBLAS adds to y, which it would first set to zero.
  const float kept = bias == nullptr ? 0.0F : 1.0F;
  for (std::int64_t t = 0; t < tokens && bias != nullptr; ++t) std::copy(bias, bias + rows, y + t * y_stride);
  // Its own threads would compete with the executor's, which are all at work already, and results would depend on them.
  if (openblas_get_num_threads() != 1) openblas_set_num_threads(1);
  const auto stride = [](std::int64_t elements) { return static_cast<blasint>(std::max<std::int64_t>(elements, 1)); };
  const blasint lda = stride(x_stride), ldb = stride(w_stride), ldc = stride(y_stride);
  const auto m = static_cast<blasint>(tokens), n = static_cast<blasint>(rows), k = static_cast<blasint>(columns);
  if (tokens == 1) {
    cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, 1, w, ldb, x, 1, kept, y, 1);
  } else {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, x, lda, w, ldb, kept, y, ldc);
  }
}

}  // namespace tilewise::nn
