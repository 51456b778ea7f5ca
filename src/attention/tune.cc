#include "tilewise/tune.h"

#include <algorithm>

#include "core/fail.h"
#include "jit/choices.h"

namespace tilewise {
namespace {

constexpr const char* kKernels[] = {"forward", "backward", "decoding"};

/// The kernel that a choice's name says it is for.
const char* kernel_of(const std::string& what) {
  for (const char* kernel : kKernels) {
    if (what.find(fmt::format(", {}, ", kernel)) != std::string::npos) return kernel;
  }
  return "";
}

std::vector<TunedPlan> measure(const TuneCase& given, const jit::Choice& choice) {
  std::vector<TunedPlan> plans;
  for (const std::string& candidate : choice.candidates) {
    const jit::ChoiceTrial trial(choice.what, candidate);
    TunedPlan plan{.kernel = kernel_of(choice.what), .what = choice.what, .plan = candidate};
    plan.seconds = given.measure(plan.kernel);
    plan.is_default = plans.empty();
    plans.push_back(std::move(plan));
  }
  std::ranges::min_element(plans, {}, &TunedPlan::seconds)->is_chosen = true;
  return plans;
}

/// What making the plan asks for. Lists of tiles are made with room for calls of other forms (rows that are not
/// aligned, pages), whose choices are left alone: only the first of each kernel is what the calls run.
std::vector<jit::Choice> choices_of(const TuneCase& given) {
  for (const std::string& kernel : given.kernels) {
    if (std::ranges::find(kKernels, kernel) == std::end(kKernels))
      fail_argument("kernels has {}; expected forward, backward or decoding", kernel);
  }
  const jit::ChoiceTrial trial;
  given.plan();
  std::vector<jit::Choice> choices;
  for (const std::string& kernel : given.kernels) {
    const auto first = std::ranges::find_if(
        trial.asked(), [&](const jit::Choice& choice) { return kernel_of(choice.what) == kernel; });
    if (first != trial.asked().end()) choices.push_back(*first);
  }
  return choices;
}

}  // namespace

std::vector<TunedPlan> tune(const TuneCase& given, bool keep) {
  const std::vector<jit::Choice> choices = choices_of(given);
  if (choices.empty())
    fail(ErrorCode::unsupported, "the plan has nothing to choose; expected one for a GPU, Device::cuda()");
  std::vector<TunedPlan> all;
  std::string problem;
  for (const jit::Choice& choice : choices) {
    for (TunedPlan& plan : measure(given, choice)) {
      if (plan.is_chosen && keep) problem = jit::Choices::instance().keep(plan.what, plan.plan);
      all.push_back(std::move(plan));
    }
  }
  if (!problem.empty()) fail(ErrorCode::io, "the choice is not kept beyond this process: {}", problem);
  return all;
}

}  // namespace tilewise
