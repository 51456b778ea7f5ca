// The backward kernels: programs and launch.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "cuda/device/arguments.h"
#include "cuda/launch/forward.h"
#include "cuda/launch/hopper_backward.h"
#include "cuda/plan/backward_plan.h"

namespace tilewise::cuda {

/// A program of three kernels, "prepare", "backward" and "finish", each of which takes BackwardArguments; "backward"
/// also the variant's bytes. `text` is made with its slope.
jit::Program backward_program(const Variant& variant, const variant::CudaText& text, const ForwardShape& shape,
                              const jit::Architecture& architecture);

/// The backward kernels, compiled and loaded. Const and shared between threads.
class BackwardKernels {
 public:
  /// The kernels for compute capability 9.0 where the GPU is one and they take the shape (hopper_backward_refusal),
  /// else the portable ones. Throws as ForwardKernel, and Error(unsupported) as validate_backward.
  BackwardKernels(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context, const Variant& variant,
                  const ForwardShape& shape);

  /// Those with a plan of the caller's: the portable ones, or those for 9.0, whose plan fits the shape and the GPU.
  BackwardKernels(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context, const Variant& variant,
                  const ForwardShape& shape, const BackwardPlan& plan);
  BackwardKernels(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context, const Variant& variant,
                  const ForwardShape& shape, const HopperBackwardPlan& plan);

  /// Queues all three. d_q is summed up by atomics, so its last bits differ from run to run. Nothing is checked here
  /// but that the extent tells the tensors' rows where the kernels ask for them: Error(invalid_argument).
  void launch(const BackwardArguments& arguments, const std::vector<std::byte>& bound, const ForwardExtent& extent,
              jit::StreamHandle stream) const;

  /// Floats of the workspace: reference and delta each, and the sums of d_q. Enough for all kernels.
  static std::int64_t row_floats(std::int64_t b, std::int64_t h_q, std::int64_t s_q) {
    return b * h_q * ((s_q + 63) / 64 * 64);
  }
  static std::int64_t d_q_floats(std::int64_t b, std::int64_t h_q, std::int64_t s_q, int d_qk) {
    return row_floats(b, h_q, s_q) * ((d_qk + 63) / 64 * 64);
  }

  /// Of the tiles that lists are made for.
  TileSizes tile_sizes() const { return tile_sizes_; }

  /// Which kernels, and on a GPU of 9.0 why the portable ones where it is those.
  const std::string& explanation() const { return explanation_; }

  const variant::ArgumentLayout& layout() const { return text_.layout; }

 private:
  struct Portable {
    std::shared_ptr<const jit::Module> module;
    jit::Kernel prepare, backward, finish;
  };
  void make(jit::Compiler& compiler, const Variant& variant, const BackwardPlan& plan);
  void make(jit::Compiler& compiler, const Variant& variant, const HopperBackwardPlan& plan);

  std::shared_ptr<const jit::Context> context_;
  ForwardShape shape_;
  variant::CudaText text_;
  TileSizes tile_sizes_;
  std::string explanation_;
  std::optional<Portable> portable_;               // or
  std::unique_ptr<HopperBackwardKernels> hopper_;  // these
};

}  // namespace tilewise::cuda
