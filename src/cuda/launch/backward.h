// The backward kernels: programs and launch.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "core/round_up.h"
#include "cuda/device/arguments.h"
#include "cuda/launch/forward.h"
#include "cuda/plan/backward_plan.h"
#include "jit/kernel_chain.h"

namespace tilewise::cuda {

/// A program of three kernels, "prepare", "backward" and "finish", each of which takes BackwardArguments; the first two
/// also the variant's bytes. `text` is made with its slope.
jit::Program backward_program(const Variant& variant, const variant::CudaText& text, const ForwardShape& shape,
                              const BackwardPlan& plan, const jit::Architecture& architecture);

/// Compiled backward kernels of any family, loaded. Const and shared between threads.
class BackwardRunner {
 public:
  virtual ~BackwardRunner() = default;

  /// Queues them, where that can be by way of `chain`. `bound` is what pack_arguments gave for layout(). Of the
  /// arguments, `key_tiles` and `d_q_part` are set here; `d_q_parts` asks for as many parts of d_q, or, as 0, for none.
  /// Nothing is checked here.
  virtual void launch(const BackwardArguments& arguments, const std::vector<std::byte>& bound,
                      const ForwardExtent& extent, jit::KernelChain& chain, jit::StreamHandle stream) const = 0;

  /// Floats of the workspace: reference and delta each, and the sums of d_q; enough for every family, the one for 9.0
  /// having whole tiles of 64 queries and of 64 columns, the portable one of up to 128 queries.
  static std::int64_t row_floats(std::int64_t b, std::int64_t h_q, std::int64_t s_q) {
    return b * h_q * round_up(s_q, 64);
  }
  /// Rows that sums of d_q have room for in a head: QuerySums::room of device/query_sums.h.
  static std::int64_t d_q_rows(std::int64_t s_q) { return round_up(s_q, 128); }
  static std::int64_t d_q_floats(std::int64_t b, std::int64_t h_q, std::int64_t s_q, std::int64_t d_qk) {
    return b * h_q * d_q_rows(s_q) * round_up(d_qk, 64);
  }

  /// Ints of the workspace that passes of the family for 9.0 count by, one for 64 queries.
  static std::int64_t turn_ints(std::int64_t b, std::int64_t h_q, std::int64_t s_q) {
    return row_floats(b, h_q, s_q) / 64;
  }

  /// What lists of tiles are made for, with a row for each key tile.
  virtual ListTile tile() const = 0;
  virtual const variant::ArgumentLayout& layout() const = 0;
  virtual std::string text() const = 0;
};

/// The portable family: from compute capability 8.0 on.
class BackwardKernels final : public BackwardRunner {
 public:
  /// Throws Error(unsupported) as backward_candidates; as jit::load_program; DriverError.
  BackwardKernels(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context, const Variant& variant,
                  const ForwardShape& shape);

  /// Likewise with a plan of the caller's.
  BackwardKernels(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context, const Variant& variant,
                  const ForwardShape& shape, const BackwardPlan& plan);

  /// As ForwardKernel::plan_of.
  static BackwardPlan plan_of(const jit::Context& context, const Variant& variant, const ForwardShape& shape);

  /// Queues all three. Without parts d_q is summed up by atomics, so its last bits differ from run to run; parts are
  /// for kernels whose shape is deterministic. Nothing is checked here.
  void launch(const BackwardArguments& arguments, const std::vector<std::byte>& bound, const ForwardExtent& extent,
              jit::KernelChain& chain, jit::StreamHandle stream) const override;
  ListTile tile() const override { return {plan_.queries, plan_.keys}; }

  const variant::ArgumentLayout& layout() const override { return text_.layout; }
  std::string text() const override { return plan_.text(); }

 private:
  ForwardShape shape_;
  BackwardPlan plan_;
  variant::CudaText text_;
  std::shared_ptr<const jit::Module> module_;
  jit::Kernel prepare_, backward_, finish_;
  bool begins_early_;  // kernels behind the first do, before those in front of them have ended
};

}  // namespace tilewise::cuda
