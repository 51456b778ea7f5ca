// Launching the backward kernels for compute capability 9.0.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "cuda/launch/hopper_forward.h"

namespace tilewise::cuda {

/// The kernels, compiled and loaded. Const and shared between threads.
class HopperBackwardKernels {
 public:
  /// Throws as jit::load_program. The plan fits the shape and the GPU; `text` is made with its slope.
  HopperBackwardKernels(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context, const Variant& variant,
                        const variant::CudaText& text, const ForwardShape& shape, const HopperBackwardPlan& plan);

  /// As BackwardKernels::launch.
  void launch(const BackwardArguments& arguments, const std::vector<std::byte>& bound, const ForwardExtent& extent,
              jit::StreamHandle stream) const;

 private:
  std::shared_ptr<const jit::Context> context_;
  ForwardShape shape_;
  HopperBackwardPlan plan_;
  std::shared_ptr<const jit::Module> module_;
  jit::Kernel prepare_, backward_, finish_;
};

}  // namespace tilewise::cuda
