// Checks of tensors that callers hand in. Each throws Error(invalid_argument) that begins with the argument's name.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "tilewise/tensor.h"

namespace tilewise {

/// "[2, 8, 128, 64]".
std::string extents_text(const ConstTensor& tensor);

/// Whether elements can be counted and lie within 2^62 bytes of the first, so that no arithmetic on extents (of 0 or
/// more) and strides overflows.
bool is_addressable(const ConstTensor& tensor);

/// Expects extents of 0 or more, elements that are addressable, and memory wherever there are any.
void check_elements(std::string_view name, const ConstTensor& tensor);

/// check_elements, and neighbours along the last axis one element apart, where there are any.
void check_memory(std::string_view name, const ConstTensor& tensor);

/// Expects float64, float32, float16 or bfloat16.
void check_floating(std::string_view name, const ConstTensor& tensor);

/// Expects these extents; `meaning` says what they are, such as "as q".
void check_extents(std::string_view name, const ConstTensor& tensor, std::span<const std::int64_t> expected,
                   std::string_view meaning);

/// Expects that no two elements share memory, so that writing one leaves the others alone: ordered by their size, each
/// stride must step over all that the smaller ones reach.
void check_distinct_elements(std::string_view name, const ConstTensor& tensor);

}  // namespace tilewise
