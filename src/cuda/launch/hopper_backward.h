// Launching the backward kernels for compute capability 9.0.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "cuda/device/sm90_call.h"
#include "cuda/launch/backward.h"
#include "cuda/launch/hopper_forward.h"

namespace tilewise::cuda {

/// The family for compute capability 9.0.
class HopperBackwardKernels final : public BackwardRunner {
 public:
  /// The first candidate. Throws Error(unsupported) for a GPU, a driver or a shape that the kernels are not for.
  static HopperBackwardPlan plan_of(const jit::Context& context, const Variant& variant, const ForwardShape& shape);

  /// Throws as plan_of and jit::load_program; DriverError.
  HopperBackwardKernels(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context, const Variant& variant,
                        const ForwardShape& shape);

  /// Likewise with a plan of the caller's, which fits the shape and the GPU.
  HopperBackwardKernels(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context, const Variant& variant,
                        const ForwardShape& shape, const HopperBackwardPlan& plan);

  /// Where the shape is not deterministic, d_q is summed up by atomics, so its last bits differ from run to run. Throws
  /// Error(invalid_argument) where the extent does not tell the tensors' rows.
  void launch(const BackwardArguments& arguments, const std::vector<std::byte>& bound, const ForwardExtent& extent,
              jit::KernelChain& chain, jit::StreamHandle stream) const override;
  ListTile tile() const override { return {HopperBackwardPlan::kQueries, plan_.tile_keys()}; }
  const variant::ArgumentLayout& layout() const override { return text_.layout; }
  std::string text() const override { return plan_.text(); }

 private:
  sm90::BackwardCall call_of(const BackwardArguments& arguments, const ForwardExtent& extent) const;

  std::shared_ptr<const jit::Context> context_;
  ForwardShape shape_;
  HopperBackwardPlan plan_;
  variant::CudaText text_;
  std::shared_ptr<const jit::Module> module_;
  jit::Kernel prepare_, backward_, finish_;
  bool begins_early_;                     // kernels do, before those in front of them have ended
  bool counts_added_;                     // sums of d_q are rounded beside the last blocks, as the kernel has it
  std::optional<WorkCounters> counters_;  // of a deterministic pass
};

}  // namespace tilewise::cuda
