// Rows of one head of a sequence within a call's tensors.
#pragma once

#include <cstdint>
#include <optional>

#include "core/element.h"
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

/// Keys or values of a sequence and key head from the first that exists. `scales` are of int8.
inline cpu::RowSource source_of(const ConstTensor& tensor, const std::optional<ConstTensor>& scales,
                                const variant::Call& call, std::int64_t sequence, std::int64_t kv_head) {
  cpu::RowSource source;
  if (!call.keys_paged) {
    const Side side = key_side(call, sequence);
    source.rows = rows_of(tensor, side, kv_head);
    if (!scales) return source;
    source.scales = static_cast<const float*>(first_row(*scales, side, kv_head));
    source.scale_stride = row_stride(*scales, side);
    return source;
  }
  source.rows = {element_at(tensor, 0, kv_head), tensor.strides[2], tensor.dtype};
  source.block_table = call.pages_of(sequence);
  source.page_tokens = call.page_tokens;
  source.page_stride = tensor.strides[0];
  source.first_slot = call.problem.sequences[static_cast<std::size_t>(sequence)].key_start;
  if (!scales) return source;
  source.scales = static_cast<const float*>(element_at(*scales, 0, kv_head));
  source.scale_stride = scales->strides[2];
  source.scale_page_stride = scales->strides[0];
  return source;
}

}  // namespace tilewise::attention
