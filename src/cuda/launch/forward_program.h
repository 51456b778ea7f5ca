// The forward kernel's program for a variant, a shape class and a plan.
#pragma once

#include "cuda/plan/forward_plan.h"
#include "jit/program.h"
#include "tilewise/variant.h"
#include "variant/cuda_text.h"

namespace tilewise::cuda {

/// A program of one kernel, "forward", that takes ForwardArguments and the variant's bytes (pack_arguments).
jit::Program forward_program(const Variant& variant, const variant::CudaText& text, const ForwardShape& shape,
                             const ForwardPlan& plan, const jit::Architecture& architecture);

}  // namespace tilewise::cuda
