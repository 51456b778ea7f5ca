// Whether two tensors share memory.
#pragma once

#include "tilewise/tensor.h"

namespace tilewise {

/// Whether a byte of an element of one tensor belongs to one of the other. Both have passed check_elements.
///
/// Slices of one buffer, whose rows alternate, are told from overlap. Layouts that would take long to decide, whose
/// larger strides do not step over most of what smaller ones reach, count as sharing.
bool share_memory(const ConstTensor& a, const ConstTensor& b);

}  // namespace tilewise
