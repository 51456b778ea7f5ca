// The decoding kernels: program and launch.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "cuda/launch/forward.h"
#include "cuda/plan/decode_plan.h"

namespace tilewise::cuda {

/// A program of two kernels, "decode" and "merge", which take DecodeArguments and the variant's bytes.
jit::Program decode_program(const Variant& variant, const variant::CudaText& text, const ForwardShape& shape,
                            const DecodePlan& plan, const jit::Architecture& architecture);

/// Decoding, compiled and loaded. Const and shared between threads.
class DecodeKernels {
 public:
  /// Throws as jit::load_program; DriverError.
  DecodeKernels(jit::Compiler& compiler, const std::shared_ptr<const jit::Context>& context, const Variant& variant,
                const ForwardShape& shape, const DecodePlan& plan);

  /// Floats that partial results of calls take that are no larger than this: of o, and of lse.
  struct PartialFloats {
    std::int64_t o = 0, lse = 0;
  };
  PartialFloats partial_floats(const ForwardExtent& extent) const;

  /// Queues the kernels. Lists, where there are any, have one row for each sequence, whatever the head. Nothing is
  /// checked here.
  void launch(const ForwardArguments& arguments, float* partial_o, float* partial_lse,
              const std::vector<std::byte>& bound, const ForwardExtent& extent, jit::StreamHandle stream) const;

  /// What lists of tiles are made for: one row of them.
  static TileSizes tile(std::int64_t s_q) { return {s_q, DecodePlan::kKeys}; }

  std::string text() const { return plan_.text(); }

 private:
  std::int64_t units(const ForwardExtent& extent) const;

  ForwardShape shape_;
  DecodePlan plan_;
  std::int64_t slots_;  // blocks that run at a time
  variant::CudaText text_;
  std::shared_ptr<const jit::Module> module_;
  jit::Kernel decode_, merge_;
};

}  // namespace tilewise::cuda
