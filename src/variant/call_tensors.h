// The tensors of a call, each by itself and beside the others: ranks, extents, dtypes, memory. Each check throws
// Error(invalid_argument) that begins with the argument's name.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "tilewise/arguments.h"

namespace tilewise::variant {

/// Extents of a tensor, without memory of their own.
struct Extents {
  std::array<std::int64_t, kMaxRank> values{};
  std::size_t rank = 0;

  operator std::span<const std::int64_t>() const {  // NOLINT(google-explicit-constructor)
    return {values.data(), rank};
  }
};

/// An axis of a tensor in either storage, counted from its end: 0 is d, 1 the rows, 2 the heads, 3 the batch.
inline std::int64_t axis_from_end(const ConstTensor& tensor, int axis) {
  return tensor.extents[static_cast<std::size_t>(tensor.rank - 1 - axis)];
}

inline Extents extents_of(const ConstTensor& tensor) { return {tensor.extents, static_cast<std::size_t>(tensor.rank)}; }

/// The extents of `tensor` with another last axis, or, for lse, without it.
Extents with_last_axis(const ConstTensor& tensor, std::int64_t last);
Extents without_last_axis(const ConstTensor& tensor);

/// Every column of sequences on a GPU, by name.
inline constexpr std::pair<const char*, std::optional<ConstTensor> DeviceSequences::*> kSequenceColumns[] = {
    {"device_sequences.s_q", &DeviceSequences::s_q},
    {"device_sequences.s_kv", &DeviceSequences::s_kv},
    {"device_sequences.query_offset", &DeviceSequences::query_offset},
    {"device_sequences.key_offset", &DeviceSequences::key_offset},
    {"device_sequences.key_start", &DeviceSequences::key_start},
    {"device_sequences.first_query_token", &DeviceSequences::first_query_token},
    {"device_sequences.first_key_token", &DeviceSequences::first_key_token}};

/// Expects tensors that one call can take together: q, k, v, scales and the block table.
void check_shapes(const ForwardInputs& inputs);

/// Expects float32 or float64.
void check_lse_dtype(std::string_view name, const ConstTensor& tensor);

/// A floating tensor of the given extents that the call reads.
void check_given(std::string_view name, const ConstTensor& tensor, const Extents& expected, std::string_view meaning);

/// One that it writes.
void check_output(std::string_view name, const ConstTensor& tensor, const Extents& expected, std::string_view meaning);

/// A tensor [extent] of numbers on the GPU, if it is given.
void check_column(const char* name, const std::optional<ConstTensor>& column, std::int64_t extent, DType dtype);

}  // namespace tilewise::variant
