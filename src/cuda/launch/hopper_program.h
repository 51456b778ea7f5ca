// The programs of the kernels for compute capability 9.0.
#pragma once

#include <vector>

#include "cuda/plan/hopper_plan.h"
#include "jit/program.h"
#include "tilewise/variant.h"
#include "variant/cuda_text.h"

namespace tilewise::cuda {

/// The header "sm90/wgmma_shapes.h": struct Product<Element, columns>, one for each number of columns of a result.
/// Instructions name every register, 4 to 128 of them, so they are written here rather than by hand.
jit::Header wgmma_shapes(DType dtype, std::vector<int> columns);

/// The variant as these kernels have it.
variant::CudaText hopper_text(const Variant& variant, const ForwardShape& shape, bool backward);

/// What its score functions ask of an entry, by that text.
ScoreWork score_work(const Variant& variant, const variant::CudaText& text);

/// A program of one kernel, "forward", that takes sm90::ForwardCall and the variant's bytes. Of float8_e4m3 another one
/// is queued before it, "transpose_values", for all key blocks, key heads and sequences, 256 threads each; it takes
/// sm90::ForwardCall.
jit::Program hopper_forward_program(const Variant& variant, const variant::CudaText& text, const ForwardShape& shape,
                                    const HopperForwardPlan& plan, const jit::Architecture& architecture);

/// Whether blocks of the backward kernel count when they have added to sums of d_q (device/sm90/added.h). Where scores
/// are changed the warps that would are at work, or the kernel is so much longer that it does not matter.
bool counts_added(const Variant& variant, const ForwardShape& shape);

/// A program of three kernels, "prepare", "backward" and "finish", each of which takes sm90::BackwardCall; the first
/// two also the variant's bytes. `text` is the one of backward passes.
jit::Program hopper_backward_program(const Variant& variant, const variant::CudaText& text, const ForwardShape& shape,
                                     const HopperBackwardPlan& plan, const jit::Architecture& architecture);

}  // namespace tilewise::cuda
