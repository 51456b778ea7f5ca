#include "cuda/launch/ahead.h"

#include <algorithm>

#include "core/fail.h"
#include "cuda/launch/backward.h"
#include "cuda/launch/decode.h"
#include "cuda/launch/forward_program.h"
#include "cuda/launch/gradient_sums.h"
#include "cuda/launch/hopper_program.h"
#include "cuda/launch/kernel_text.h"
#include "cuda/launch/sequences.h"
#include "cuda/launch/tile_lister.h"

namespace tilewise::cuda {
namespace {

bool is_hopper(const jit::Architecture& architecture) { return architecture.name() == "sm_90a"; }

/// Adds the forward kernels of every family.
void add_forward(const Variant& variant, const ForwardShape& shape, const jit::Architecture& architecture,
                 std::vector<jit::Program>& programs) {
  const Multiprocessor limits = Multiprocessor::of(architecture);
  if (shape.dtype == DType::float8_e4m3) {
    const std::string refusal =
        !is_hopper(architecture) ? "it is for sm_90a (Hopper)" : hopper_float8_refusal(shape, changes_scores(variant));
    if (!refusal.empty()) fail(ErrorCode::unsupported, "no forward kernel takes this shape (sm_90a: {})", refusal);
    programs.push_back(hopper_forward_program(variant, hopper_text(variant, shape, false), shape,
                                              hopper_float8_candidates(shape, limits).front(), architecture));
    return;
  }
  programs.push_back(forward_program(variant, kernel_text(variant, shape.dtype, false), shape,
                                     choose_forward(shape, limits, kept_fields(variant, shape.dtype)), architecture));
  if (!is_hopper(architecture) || !hopper_refusal(shape).empty()) return;
  const bool has_scores = changes_scores(variant);
  const variant::CudaText text = hopper_text(variant, shape, false);
  std::vector<HopperForwardPlan> plans;  // most often one
  const auto add = [&](const ForwardShape& kernel) {
    const auto candidates = hopper_forward_candidates(kernel, score_work(variant, text), limits);
    if (candidates.empty() || std::ranges::find(plans, candidates.front()) != plans.end()) return;
    plans.push_back(candidates.front());
    programs.push_back(hopper_forward_program(variant, text, kernel, plans.back(), architecture));
  };
  for (const int short_keys : {0, 512, 1024}) {
    ForwardShape kernel = shape;
    kernel.short_keys = short_keys;
    add(kernel);
  }
  if (takes_small_parts(shape, has_scores)) {
    ForwardShape kernel = shape;
    kernel.has_small_parts = true;
    add(kernel);
  }
}

/// Likewise backward.
void add_backward(const Variant& variant, const ForwardShape& shape, const jit::Architecture& architecture,
                  std::vector<jit::Program>& programs) {
  const Multiprocessor limits = Multiprocessor::of(architecture);
  const BackwardPlan plan = choose_backward(shape, changes_scores(variant), limits, kept_fields(variant, shape.dtype));
  programs.push_back(backward_program(variant, kernel_text(variant, shape.dtype, true), shape, plan, architecture));
  if (!is_hopper(architecture) || !hopper_backward_refusal(shape).empty()) return;
  const auto candidates =
      hopper_backward_candidates(shape, changes_scores(variant), limits, gradient_slots(variant, shape));
  if (candidates.empty()) return;
  const variant::CudaText text = hopper_text(variant, shape, true);
  for (const bool has_long_rows : {false, true}) {
    if (has_long_rows && (!shape.has_lists || shape.is_deterministic)) continue;
    ForwardShape kernel = shape;
    kernel.has_long_rows = has_long_rows;
    programs.push_back(hopper_backward_program(variant, text, kernel, candidates.front(), architecture));
  }
}

}  // namespace

std::vector<jit::Program> programs_ahead(const Variant& variant, const tiles::Mask& mask, const AheadShape& shape,
                                         const jit::Architecture& architecture) {
  if (architecture.number < 80)
    fail(ErrorCode::unsupported, "{} is older than sm_80 (Ampere), from which on GPUs are taken", architecture.name());
  std::vector<jit::Program> programs{sequences_program(architecture)};
  const ForwardShape& kernel = shape.kernel;
  if (kernel.has_lists)
    programs.push_back(tile_program(variant, variant::cuda_text(variant), mask.removes, architecture));
  if (!needs_wide_decode(kernel)) add_forward(variant, kernel, architecture, programs);
  if (shape.decodes && !mask.follows_head && kernel.dtype != DType::float8_e4m3) {
    std::optional<DecodePlan> last;
    for (const bool has_many_units : {false, true}) {
      const auto plan = choose_decode(kernel, Multiprocessor::of(architecture), shape.rows, is_hopper(architecture),
                                      changes_scores(variant), has_many_units);
      if (!plan || plan == last) continue;
      programs.push_back(decode_program(variant, variant::cuda_text(variant), kernel, *plan, architecture));
      last = plan;
    }
  }
  if (!shape.has_backward) return programs;
  add_backward(variant, kernel, architecture, programs);
  if (!shape.differentiates_variant) return programs;
  programs.push_back(gradient_program(architecture));
  ForwardShape with_gradients = kernel;
  with_gradients.has_gradients = true;
  add_backward(variant, with_gradients, architecture, programs);
  return programs;
}

}  // namespace tilewise::cuda
