// Launching the forward kernel.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cuda/device/arguments.h"
#include "cuda/launch/device_memory.h"
#include "cuda/launch/extent.h"
#include "cuda/launch/hopper_forward.h"
#include "cuda/plan/forward_plan.h"
#include "cuda/plan/tile_lists.h"
#include "jit/module.h"
#include "tilewise/problem.h"
#include "variant/cuda_text.h"

namespace tilewise::cuda {

/// A forward kernel, compiled and loaded. Const and shared between threads.
class ForwardKernel {
 public:
  /// The kernel for compute capability 9.0 where the GPU is one and the kernel takes the shape (hopper_refusal), else
  /// the portable one. Throws Error(unsupported) for a shape that no kernel takes; as jit::load_program; DriverError.
  ForwardKernel(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context, const Variant& variant,
                const ForwardShape& shape);

  /// The portable kernel with a plan of the caller's.
  ForwardKernel(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context, const Variant& variant,
                const ForwardShape& shape, const ForwardPlan& plan);

  /// The kernel for 9.0 with a plan of the caller's, which fits the shape and the GPU.
  ForwardKernel(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context, const Variant& variant,
                const ForwardShape& shape, const HopperForwardPlan& plan);

  /// Queues the kernel. `bound` is what pack_arguments gave for layout(). All pointers are the GPU's; nothing of them
  /// is checked here.
  void launch(const ForwardArguments& arguments, const std::vector<std::byte>& bound, const ForwardExtent& extent,
              jit::StreamHandle stream) const;

  /// Of the tiles that lists are made for.
  TileSizes tile_sizes() const { return tile_sizes_; }

  /// Which kernel with which plan, and on a GPU of 9.0 why the portable one where it is that.
  const std::string& explanation() const { return explanation_; }

  const ForwardShape& shape() const { return shape_; }
  const variant::ArgumentLayout& layout() const { return text_.layout; }

 private:
  void make(jit::Compiler& compiler, const Variant& variant, const ForwardPlan& plan);
  void make(jit::Compiler& compiler, const Variant& variant, const HopperForwardPlan& plan);

  std::shared_ptr<const jit::Context> context_;
  ForwardShape shape_;
  variant::CudaText text_;
  TileSizes tile_sizes_;
  std::string explanation_;
  ForwardPlan portable_plan_;
  std::optional<jit::Kernel> portable_;          // or
  std::unique_ptr<HopperForwardKernel> hopper_;  // this one
};

/// A launch's extent, where the tensors are just as large as the problem's sequences need.
ForwardExtent extent_of(const Problem& problem, bool is_packed);

/// Lengths and offsets as the kernel takes them: [b].
std::vector<SequenceShape> sequence_shapes(const Problem& problem);

/// Lists on the GPU.
class DeviceTileLists {
 public:
  /// Copies; waits for it.
  DeviceTileLists(const std::shared_ptr<const jit::Context>& context, const HostTileLists& lists);

  /// What a kernel is given; holds as long as this object.
  TileLists view() const;

 private:
  DeviceMemory first_, count_, tiles_, order_;
  long long sequence_rows_, head_rows_;
};

}  // namespace tilewise::cuda
