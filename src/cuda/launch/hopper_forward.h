// Launching the forward kernel for compute capability 9.0.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "cuda/device/sm90_call.h"
#include "cuda/launch/device_memory.h"
#include "cuda/launch/forward.h"
#include "cuda/plan/hopper_plan.h"
#include "jit/module.h"
#include "variant/cuda_text.h"

namespace tilewise::cuda {

/// Throws Error(unsupported) where the kernels for 9.0 are not for this GPU or driver, or where `refusal`, the plan's,
/// is not empty.
void expect_hopper(const jit::Context& context, const std::string& refusal);

/// Throws Error(invalid_argument) where the extent does not tell the tensors' rows.
void expect_rows(const ForwardExtent& extent);

/// Counters of launches that may be under way at the same time: a launch takes the next one, and leaves it 0.
class WorkCounters {
 public:
  explicit WorkCounters(std::shared_ptr<const jit::Context> context);
  unsigned* next() const;

 private:
  // A GPU runs at most 128 kernels at a time.
  static constexpr unsigned kCount = 1024;
  DeviceMemory memory_;
  mutable std::atomic<unsigned> next_{0};
};

/// The family for compute capability 9.0.
class HopperForwardKernel final : public ForwardRunner {
 public:
  /// The first candidate. Throws Error(unsupported) for a GPU, a driver or a shape that the kernel is not for.
  static HopperForwardPlan plan_of(const jit::Context& context, const Variant& variant, const ForwardShape& shape);

  /// Throws as plan_of and jit::load_program; DriverError.
  HopperForwardKernel(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context, const Variant& variant,
                      const ForwardShape& shape);

  /// Likewise with a plan of the caller's, which fits the shape and the GPU.
  HopperForwardKernel(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context, const Variant& variant,
                      const ForwardShape& shape, const HopperForwardPlan& plan);

  /// Throws Error(invalid_argument) where the extent does not tell the tensors' rows.
  void launch(const ForwardArguments& arguments, const std::vector<std::byte>& bound, const ForwardExtent& extent,
              jit::StreamHandle stream) const override;
  ListTile tile() const override { return plan_.tile(); }
  const variant::ArgumentLayout& layout() const override { return text_.layout; }
  std::string text() const override { return plan_.text(); }

 private:
  sm90::TensorMap of_transposed_values(const ForwardArguments& arguments, const ForwardExtent& extent) const;

  std::shared_ptr<const jit::Context> context_;
  ForwardShape shape_;
  HopperForwardPlan plan_;
  variant::CudaText text_;
  std::shared_ptr<const jit::Module> module_;
  jit::Kernel kernel_;
  std::optional<jit::Kernel> transpose_values_;  // where q, k and v are float8_e4m3
  WorkCounters counters_;
};

}  // namespace tilewise::cuda
