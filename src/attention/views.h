// Rows of one head of a sequence within a call's tensors.
#pragma once

#include <cstdint>

#include "cpu/kernels.h"
#include "tilewise/tensor.h"
#include "variant/call.h"

namespace tilewise::attention {

/// Where a sequence's rows lie on one side of a call.
struct Side {
  bool packed = false;
  std::int64_t sequence = 0, first_row = 0;
};

inline Side query_side(const variant::Call& call, std::int64_t sequence) {
  return {call.queries_packed, sequence,
          call.queries_packed ? call.problem.sequences[static_cast<std::size_t>(sequence)].first_query_token : 0};
}

/// The keys' side; its first row is the first that exists.
inline Side key_side(const variant::Call& call, std::int64_t sequence, bool from_key_start = true) {
  const Sequence& lengths = call.problem.sequences[static_cast<std::size_t>(sequence)];
  return {call.keys_packed, sequence,
          (call.keys_packed ? lengths.first_key_token : 0) + (from_key_start ? lengths.key_start : 0)};
}

/// Elements between neighbouring rows.
template <class Pointer>
std::int64_t row_stride(const BasicTensor<Pointer>& tensor, const Side& side) {
  return tensor.strides[side.packed ? 1 : 2];
}

/// Row 0 of a head, as Side has it. The tensor is [b, heads, rows, ...], or packed [heads, rows, ...].
template <class Pointer>
Pointer first_row(const BasicTensor<Pointer>& tensor, const Side& side, std::int64_t head) {
  if (tensor.data == nullptr) return nullptr;
  const std::int64_t elements =
      side.packed ? head * tensor.strides[0] + side.first_row * tensor.strides[1]
                  : side.sequence * tensor.strides[0] + head * tensor.strides[1] + side.first_row * tensor.strides[2];
  using Byte = std::conditional_t<std::is_same_v<Pointer, void*>, char, const char>;
  return static_cast<Byte*>(tensor.data) + elements * size_of(tensor.dtype);
}

inline cpu::Rows rows_of(const ConstTensor& tensor, const Side& side, std::int64_t head) {
  return {first_row(tensor, side, head), row_stride(tensor, side), tensor.dtype};
}

inline cpu::MutableRows rows_of(const Tensor& tensor, const Side& side, std::int64_t head) {
  return {first_row(tensor, side, head), row_stride(tensor, side), tensor.dtype};
}

}  // namespace tilewise::attention
