#include "cuda/launch/families.h"

#include <algorithm>
#include <cstdlib>
#include <span>
#include <string_view>

#include "core/fail.h"
#include "cuda/launch/forward_program.h"
#include "cuda/launch/hopper_backward.h"
#include "cuda/launch/hopper_program.h"
#include "cuda/launch/kernel_text.h"

namespace tilewise::cuda {
namespace {

/// A family in one direction. All three throw Error(unsupported) with its reason for what it does not take.
template <class Runner>
struct Family {
  const char* name;
  std::unique_ptr<const Runner> (*make)(const Making& making);
  jit::Program (*program)(const Making& making);  // of what `make` makes
  ListTile (*tile)(const Making& making);         // likewise
};

/// The shape, where the GPU is one that mma.sync on bfloat16 and cp.async run on.
const ForwardShape& expect_portable(const Making& making) {
  const jit::DeviceInfo& device = making.context->device();
  if (device.compute_capability_major < 8) {
    fail(ErrorCode::unsupported, "{} has compute capability {}.{}; GPUs from 8.0 (Ampere) on are taken", device.name,
         device.compute_capability_major, device.compute_capability_minor);
  }
  return making.shape;
}

jit::Architecture architecture(const Making& making) { return making.context->device().architecture(); }

constexpr Family<ForwardRunner> kForward[] = {
    {"sm_90a",
     [](const Making& m) -> std::unique_ptr<const ForwardRunner> {
       return std::make_unique<HopperForwardKernel>(m.compiler, m.context, m.variant, m.shape);
     },
     [](const Making& m) {
       return hopper_forward_program(m.variant, hopper_text(m.variant, m.shape, false), m.shape,
                                     HopperForwardKernel::plan_of(*m.context, m.variant, m.shape), architecture(m));
     },
     [](const Making& m) { return HopperForwardKernel::plan_of(*m.context, m.variant, m.shape).tile(); }},
    {"portable",
     [](const Making& m) -> std::unique_ptr<const ForwardRunner> {
       return std::make_unique<ForwardKernel>(m.compiler, m.context, m.variant, expect_portable(m));
     },
     [](const Making& m) {
       return forward_program(m.variant, kernel_text(m.variant, m.shape.dtype, false), m.shape,
                              ForwardKernel::plan_of(*m.context, m.variant, expect_portable(m)), architecture(m));
     },
     [](const Making& m) { return ForwardKernel::plan_of(*m.context, m.variant, expect_portable(m)).tile(); }},
};

constexpr Family<BackwardRunner> kBackward[] = {
    {"sm_90a",
     [](const Making& m) -> std::unique_ptr<const BackwardRunner> {
       return std::make_unique<HopperBackwardKernels>(m.compiler, m.context, m.variant, m.shape);
     },
     [](const Making& m) {
       return hopper_backward_program(m.variant, hopper_text(m.variant, m.shape, true), m.shape,
                                      HopperBackwardKernels::plan_of(*m.context, m.variant, m.shape), architecture(m));
     },
     [](const Making& m) {
       const HopperBackwardPlan plan = HopperBackwardKernels::plan_of(*m.context, m.variant, m.shape);
       return ListTile{HopperBackwardPlan::kQueries, plan.tile_keys()};
     }},
    {"portable",
     [](const Making& m) -> std::unique_ptr<const BackwardRunner> {
       return std::make_unique<BackwardKernels>(m.compiler, m.context, m.variant, expect_portable(m));
     },
     [](const Making& m) {
       return backward_program(m.variant, kernel_text(m.variant, m.shape.dtype, true), m.shape,
                               BackwardKernels::plan_of(*m.context, m.variant, expect_portable(m)), architecture(m));
     },
     [](const Making& m) {
       const BackwardPlan plan = BackwardKernels::plan_of(*m.context, m.variant, expect_portable(m));
       return ListTile{plan.queries, plan.keys};
     }},
};

/// What `use` gives for the first family that does not refuse.
template <class Runner, class Use>
auto first_of(std::span<const Family<Runner>> families, const char* what, std::vector<std::string>& refusals, Use use) {
  std::vector<std::string> reasons;
  const char* const wanted = std::getenv("TILEWISE_GPU_FAMILY");
  for (const Family<Runner>& family : families) {
    if (wanted != nullptr && *wanted != '\0' && std::string_view(wanted) != family.name) {
      reasons.push_back(fmt::format("{}: TILEWISE_GPU_FAMILY asks for {}", family.name, wanted));
      continue;
    }
    try {
      auto result = use(family);
      refusals.insert(refusals.end(), reasons.begin(), reasons.end());
      return result;
    } catch (const Error& error) {
      if (error.code() != ErrorCode::unsupported) throw;
      reasons.push_back(fmt::format("{}: {}", family.name, error.what()));
    }
  }
  fail(ErrorCode::unsupported, "no {} kernel takes this shape ({})", what, fmt::join(reasons, "; "));
}

template <class Runner>
std::unique_ptr<const Runner> make(const Making& making, std::span<const Family<Runner>> families, const char* what,
                                   std::vector<std::string>& refusals) {
  return first_of<Runner>(families, what, refusals, [&](const Family<Runner>& family) { return family.make(making); });
}

template <class Runner>
ListTile tile(const Making& making, std::span<const Family<Runner>> families, const char* what,
              std::vector<std::string>& refusals) {
  return first_of<Runner>(families, what, refusals, [&](const Family<Runner>& family) { return family.tile(making); });
}

}  // namespace

std::unique_ptr<const ForwardRunner> make_forward(const Making& making, std::vector<std::string>& refusals) {
  return make<ForwardRunner>(making, kForward, "forward", refusals);
}

std::unique_ptr<const BackwardRunner> make_backward(const Making& making, std::vector<std::string>& refusals) {
  return make<BackwardRunner>(making, kBackward, "backward", refusals);
}

jit::Program forward_program(const Making& making) {
  std::vector<std::string> refusals;
  return first_of<ForwardRunner>(kForward, "forward", refusals,
                                 [&](const auto& family) { return family.program(making); });
}

jit::Program backward_program(const Making& making) {
  std::vector<std::string> refusals;
  return first_of<BackwardRunner>(kBackward, "backward", refusals,
                                  [&](const auto& family) { return family.program(making); });
}

ListTile forward_tile(const Making& making) {
  std::vector<std::string> refusals;
  return tile<ForwardRunner>(making, kForward, "forward", refusals);
}

ListTile backward_tile(const Making& making) {
  std::vector<std::string> refusals;
  return tile<BackwardRunner>(making, kBackward, "backward", refusals);
}

std::vector<std::string> forward_refusals(const Making& making) {
  std::vector<std::string> refusals;
  tile<ForwardRunner>(making, kForward, "forward", refusals);
  return refusals;
}

std::vector<std::string> backward_refusals(const Making& making) {
  std::vector<std::string> refusals;
  tile<BackwardRunner>(making, kBackward, "backward", refusals);
  return refusals;
}

}  // namespace tilewise::cuda
