// The plan that was measured to be the fastest on this GPU, of several.
#pragma once

#include <vector>

#include "core/fail.h"
#include "cuda/plan/forward_plan.h"
#include "jit/choices.h"
#include "jit/device.h"

namespace tilewise::cuda {

/// What a choice between plans is about: the GPU's name, the kernel's, and all of a shape that plans depend on.
std::string choice_name(const jit::DeviceInfo& device, const char* kernel, const ForwardShape& shape, bool has_scores);

/// The candidate that tune() has kept, else the first.
template <class Plan>
Plan chosen(const jit::DeviceInfo& device, const char* kernel, const ForwardShape& shape, bool has_scores,
            const std::vector<Plan>& candidates) {
  if (candidates.empty()) fail(ErrorCode::unsupported, "no {} plan fits this GPU", kernel);
  jit::Choice choice{choice_name(device, kernel, shape, has_scores), {}};
  for (const Plan& candidate : candidates) choice.candidates.push_back(candidate.text());
  return candidates[jit::Choices::instance().choose(choice)];
}

}  // namespace tilewise::cuda
