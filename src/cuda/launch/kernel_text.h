// Texts that kernels are made of: the device folder, embedded, and a variant with what kernels expect of one.
#pragma once

#include <string>
#include <vector>

#include "cuda/plan/hopper_plan.h"
#include "jit/program.h"
#include "variant/cuda_text.h"

namespace tilewise::cuda {

/// The headers of src/cuda/device, by their names.
const std::vector<jit::Header>& device_headers();

/// What device/element.h calls a dtype that kernels take.
const char* element_name(DType dtype);

/// Whether the variant has score functions.
bool changes_scores(const Variant& variant);

/// What portable kernels for a dtype keep of a variant for a tile.
KeptFields kept_fields(const Variant& variant, DType dtype);

/// What gradients there are of it, in a pass that has them; else none.
GradientSlots gradient_slots(const Variant& variant, const ForwardShape& shape);

/// The text that forward and backward kernels for a dtype read: rearranged for 16 bits, for float32 as recorded.
variant::CudaText kernel_text(const Variant& variant, DType dtype, bool with_slope);

/// The header "variant.h": the variant's text, and struct KernelVariant, which device/scores.h describes.
jit::Header variant_header(const Variant& variant, const variant::CudaText& text);

/// The same for a rearranged text, as device/lane_scores.h describes it. `recorded`: what its Recorded stands for.
jit::Header rearranged_header(const Variant& variant, const variant::CudaText& text,
                              const char* recorded = "KernelVariant");

/// The same for a text with slopes, and the gradients of tables and parameters, which a recorded text makes:
/// KernelVariant::Recorded has them.
jit::Header gradients_header(const Variant& variant, const variant::CudaText& text);

}  // namespace tilewise::cuda
