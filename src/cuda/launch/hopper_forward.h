// Launching the forward kernel for compute capability 9.0.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

#include "cuda/device/sm90_call.h"
#include "cuda/launch/device_memory.h"
#include "cuda/launch/extent.h"
#include "cuda/plan/hopper_plan.h"
#include "jit/module.h"
#include "variant/cuda_text.h"

namespace tilewise::cuda {

/// What this very GPU has, rather than what its architecture's table says.
Multiprocessor limits_of(const jit::DeviceInfo& device);

/// Why the kernels for 9.0 are not for this GPU and driver; empty where they are.
std::string why_not_hopper(const jit::Context& context);

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

/// The kernel, compiled and loaded. Const and shared between threads.
class HopperForwardKernel {
 public:
  /// Throws as jit::load_program, and DriverError. The plan fits the shape and the GPU.
  HopperForwardKernel(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context, const Variant& variant,
                      const variant::CudaText& text, const ForwardShape& shape, const HopperForwardPlan& plan);

  /// As ForwardKernel::launch. Throws Error(invalid_argument) where the extent does not tell the tensors' rows.
  void launch(const ForwardArguments& arguments, const std::vector<std::byte>& bound, const ForwardExtent& extent,
              jit::StreamHandle stream) const;

  const jit::Kernel& kernel() const { return kernel_; }

 private:
  std::shared_ptr<const jit::Context> context_;
  ForwardShape shape_;
  HopperForwardPlan plan_;
  jit::Kernel kernel_;
  WorkCounters counters_;
};

}  // namespace tilewise::cuda
