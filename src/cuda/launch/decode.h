// The decoding kernels: program and launch.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "cuda/device/sm90_call.h"
#include "cuda/launch/forward.h"
#include "cuda/plan/decode_plan.h"

namespace tilewise::cuda {

/// A program of two kernels, "decode" and "merge", which take DecodeArguments and the variant's bytes; of Hopper's
/// plans "decode" takes sm90::LatentCall instead.
jit::Program decode_program(const Variant& variant, const variant::CudaText& text, const ForwardShape& shape,
                            const DecodePlan& plan, const jit::Architecture& architecture);

/// Whether plans for the GPU may use what compute capability 9.0 alone has (TILEWISE_GPU_FAMILY=portable forbids it).
bool decodes_by_wgmma(const jit::Context& context);

/// Decoding, compiled and loaded. Const and shared between threads.
class DecodeKernels {
 public:
  /// Throws as jit::load_program; DriverError.
  DecodeKernels(jit::Compiler& compiler, const std::shared_ptr<const jit::Context>& context, const Variant& variant,
                const ForwardShape& shape, const DecodePlan& plan);

  /// Rows of partial results, of o and of lse, that calls take which are no larger than this.
  static std::int64_t partial_rows(const DecodePlan& plan, const jit::DeviceInfo& device, const ForwardExtent& extent);

  /// Queues the kernels. Lists, where there are any, have one row for each sequence, whatever the head. `alike` is
  /// every sequence where arguments.sequences is null. Nothing is checked here.
  void launch(const ForwardArguments& arguments, const SequenceShape& alike, float* partial_o, float* partial_lse,
              const std::vector<std::byte>& bound, const ForwardExtent& extent, jit::StreamHandle stream) const;

  /// What lists of tiles are made for: one row of them.
  ListTile tile(std::int64_t s_q) const { return {s_q, plan_.keys}; }
  const variant::ArgumentLayout& layout() const { return text_.layout; }

  std::string text() const { return plan_.text(); }

 private:
  /// Whether kernels had better begin when those in front of them have ended: those of a graph whose blocks have a
  /// multiprocessor for themselves (docs/kernels/portable.md).
  bool is_better_apart(jit::StreamHandle stream) const;

  /// Arguments as a Hopper plan's kernel takes them, with what its copy engine is told.
  sm90::LatentCall latent_call(const DecodeArguments& arguments, const ForwardExtent& extent) const;

  std::shared_ptr<const jit::Context> context_;
  ForwardShape shape_;
  DecodePlan plan_;
  std::int64_t slots_;  // blocks that run at a time
  bool begins_early_;   // kernels do, before those in front of them have ended
  variant::CudaText text_;
  std::shared_ptr<const jit::Module> module_;
  jit::Kernel decode_, merge_;
};

}  // namespace tilewise::cuda
