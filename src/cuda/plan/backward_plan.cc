#include "cuda/plan/backward_plan.h"

#include "core/fail.h"

namespace tilewise::cuda {

std::int64_t BackwardPlan::shared_bytes(const ForwardShape& shape) const {
  const auto row_bytes = [](int columns) { return std::int64_t{columns + 63} / 64 * 128; };  // whole lines
  const std::int64_t both = row_bytes(shape.d_qk) + row_bytes(shape.d_v);
  return kKeys * both + kKeys * row_bytes(kQueries) + 2 * (kQueries * both + 2 * kQueries * 4);
}

void validate_backward(const ForwardShape& shape) {
  validate(shape);
  if (shape.d_qk > 128 || shape.d_v > 128) {
    fail(ErrorCode::unsupported, "d_qk is {} and d_v is {}; the GPU's backward kernel takes up to 128 of both",
         shape.d_qk, shape.d_v);
  }
}

}  // namespace tilewise::cuda
