// Gradients of an attention problem: by standard attention and by the kernels.
#pragma once

#include "tests/gpu/attention_case.h"

namespace tilewise::cuda::testing {

/// Runs the case's backward pass for random d_o and d_lse and compares as expect_right does, with 3 in place of 2.
/// Weights come from the lse of standard attention in float64, rounded to float32, as do the outputs, rounded to the
/// dtype.
void expect_right_gradients(const std::shared_ptr<const jit::Context>& context, jit::Compiler& compiler,
                            const Case& given);

}  // namespace tilewise::cuda::testing
