// Whether a call's memory is where a kernel can reach it.
#pragma once

#include <string_view>

#include "jit/context.h"
#include "tilewise/tensor.h"

namespace tilewise::cuda {

/// Throws Error(invalid_argument) unless the tensor lies on the context's GPU, or in managed memory, at a multiple of
/// its elements' size. Tensors without elements pass. The context is current.
void expect_on_gpu(const jit::Context& context, std::string_view name, const ConstTensor& tensor);

/// Whether 16 bytes can be moved at once from the beginning of every row of the tensor.
bool is_aligned(const ConstTensor& tensor);

}  // namespace tilewise::cuda
