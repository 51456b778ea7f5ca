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

/// What the variant's rearranged text asks of a plan.
ScoreKind score_kind(const Variant& variant);

/// The header "variant.h": the variant's text, and struct KernelVariant, which device/scores.h describes.
jit::Header variant_header(const Variant& variant, const variant::CudaText& text);

/// The same for a rearranged text, as device/sm90/lane_scores.h describes it.
jit::Header rearranged_header(const Variant& variant, const variant::CudaText& text);

}  // namespace tilewise::cuda
