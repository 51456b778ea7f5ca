// Reading and writing single elements of any dtype: for references, tables and tests, where clarity comes before speed.
#pragma once

#include <cstdint>

#include "tilewise/tensor.h"

namespace tilewise {

/// float64, float32, float16, bfloat16: whose elements are numbers without a scale.
bool is_floating(DType dtype);

/// int64, int32, int8, uint8, bool.
bool is_integer(DType dtype);

/// int8, float8_e4m3: k and v, and of the latter also q, come with scales.
bool is_scaled(DType dtype);

/// The address of the element at `index`, one number for each of the tensor's axes; neither is checked.
template <class Pointer, class... Index>
Pointer element_at(const BasicTensor<Pointer>& tensor, Index... index) {
  std::int64_t offset = 0;
  int axis = 0;
  ((offset += static_cast<std::int64_t>(index) * tensor.strides[axis++]), ...);
  using Byte = std::conditional_t<std::is_same_v<Pointer, void*>, char, const char>;
  return static_cast<Byte*>(tensor.data) + offset * size_of(tensor.dtype);
}

/// The value stored at `element`, exactly. Throws Error(invalid_argument) unless the dtype is floating or float8_e4m3.
double load_real(const void* element, DType dtype);

/// Stores `value` rounded once to nearest, ties to even (overflow gives infinity, or in float8_e4m3 the largest
/// number). Throws as load_real.
void store_real(void* element, DType dtype, double value);

/// The value stored at `element`; a bool reads as 0 or 1, any nonzero byte being true.
/// Throws Error(invalid_argument) unless the dtype is an integer one or bool.
std::int64_t load_int(const void* element, DType dtype);

/// Stores `value`. Throws Error(invalid_argument) where the dtype does not hold it (a bool holds 0 and 1), or as
/// load_int.
void store_int(void* element, DType dtype, std::int64_t value);

}  // namespace tilewise
