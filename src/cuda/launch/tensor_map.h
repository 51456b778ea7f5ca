// Descriptions of tensors for the copy engine of compute capability 9.0.
#pragma once

#include <cstdint>

#include "cuda/device/sm90_call.h"
#include "jit/context.h"
#include "tilewise/tensor.h"

namespace tilewise::cuda {

/// A tensor of [b, heads, rows, columns] of elements of 16 bits, or of float8_e4m3, on the GPU.
struct MappedTensor {
  DType dtype = DType::bfloat16;
  TensorView view;  // data and strides at multiples of 16 bytes
  std::int64_t b = 1, heads = 1, rows = 1;
  int columns = 64;
};

/// A map whose box is 128 bytes of each of `box_rows` rows, swizzled by 128 bytes; device/sm90/tma.h reads it. Throws
/// DriverError.
sm90::TensorMap tensor_map(const jit::Context& context, const MappedTensor& tensor, int box_rows);

}  // namespace tilewise::cuda
