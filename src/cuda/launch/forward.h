// Launching the forward kernel.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "cuda/device/arguments.h"
#include "cuda/plan/forward_plan.h"
#include "jit/module.h"
#include "variant/cuda_text.h"

namespace tilewise::cuda {

/// The most that a call has along each axis.
struct ForwardExtent {
  std::int64_t b = 1, h_q = 1;
  std::int64_t s_q = 0;  // of the longest sequence
  std::int64_t h_kv = 1;
  std::int64_t s_kv = 0;
  /// Rows of q's and of k's and v's storage in a head: of the longest sequence or, where packed, of all. -1: not known,
  /// which the kernels that copy by the copy engine refuse.
  std::int64_t q_rows = -1, kv_rows = -1;
};

/// What this very GPU has, rather than what its architecture's table says.
Multiprocessor limits_of(const jit::DeviceInfo& device);

/// A compiled forward kernel of any family, loaded. Const and shared between threads.
class ForwardRunner {
 public:
  virtual ~ForwardRunner() = default;

  /// Queues the kernel. `bound` is what pack_arguments gave for layout(). All pointers are the GPU's; nothing of them
  /// is checked here.
  virtual void launch(const ForwardArguments& arguments, const std::vector<std::byte>& bound,
                      const ForwardExtent& extent, jit::StreamHandle stream) const = 0;

  /// What lists of tiles are made for.
  virtual ListTile tile() const = 0;
  virtual const variant::ArgumentLayout& layout() const = 0;

  /// Whether blocks take lists in parts, so that partial results take memory.
  virtual bool takes_parts() const { return false; }

  /// Its plan, for people.
  virtual std::string text() const = 0;
};

/// The portable family: from compute capability 8.0 on.
class ForwardKernel final : public ForwardRunner {
 public:
  /// Throws Error(unsupported) for a shape that no kernel takes; as jit::load_program; DriverError.
  ForwardKernel(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context, const Variant& variant,
                const ForwardShape& shape);

  /// Likewise with a plan of the caller's.
  ForwardKernel(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context, const Variant& variant,
                const ForwardShape& shape, const ForwardPlan& plan);

  /// What it takes where the caller gives none: what tune() kept for this GPU, or the first candidate.
  static ForwardPlan plan_of(const jit::Context& context, const Variant& variant, const ForwardShape& shape);

  void launch(const ForwardArguments& arguments, const std::vector<std::byte>& bound, const ForwardExtent& extent,
              jit::StreamHandle stream) const override;
  ListTile tile() const override { return plan_.tile(); }
  const variant::ArgumentLayout& layout() const override { return text_.layout; }
  bool takes_parts() const override { return true; }
  std::string text() const override { return plan_.text(); }

  const ForwardPlan& plan() const { return plan_; }
  const ForwardShape& shape() const { return shape_; }
  const jit::Kernel& kernel() const { return kernel_; }

 private:
  ForwardShape shape_;
  ForwardPlan plan_;
  variant::CudaText text_;
  std::shared_ptr<const jit::Module> module_;
  jit::Kernel kernel_, merge_;
  bool begins_early_;  // kernels do, before those in front of them have ended
};

}  // namespace tilewise::cuda
