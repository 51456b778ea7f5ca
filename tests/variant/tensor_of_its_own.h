// Tensors for tests of arguments' checks.
#pragma once

#include <deque>
#include <initializer_list>
#include <vector>

#include "tilewise/tensor.h"

namespace tilewise::variant {

/// A tensor of zeros that shares memory with no other, nor would if it began at its end: tests move them there. Kept
/// until the end of the tests.
inline Tensor tensor_of_its_own(std::initializer_list<std::int64_t> extents, DType dtype) {
  static std::deque<std::vector<double>> memory;  // 8 bytes an element are enough for any dtype
  Tensor tensor(nullptr, dtype, extents);
  tensor.data = memory.emplace_back(static_cast<std::size_t>(tensor.elements()) + 4096).data();
  return tensor;
}

}  // namespace tilewise::variant
