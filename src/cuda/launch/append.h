// Appending to a paged cache: program and launch.
#pragma once

#include "cuda/launch/forward.h"
#include "jit/compiler.h"

namespace tilewise::cuda {

/// A program of one kernel, "append", that takes AppendArguments.
jit::Program append_program(DType dtype, int d_qk, int d_v, const jit::Architecture& architecture);

/// The kernel, compiled and loaded. Const and shared between threads.
class AppendKernel {
 public:
  /// Throws as jit::load_program; DriverError.
  AppendKernel(jit::Compiler& compiler, const std::shared_ptr<const jit::Context>& context, DType dtype, int d_qk,
               int d_v);

  /// Queues it for `b` sequences of at most `tokens` new tokens. Nothing is checked here.
  void launch(const AppendArguments& arguments, std::int64_t b, std::int64_t h_kv, std::int64_t tokens,
              jit::StreamHandle stream) const;

 private:
  jit::Kernel kernel_;
};

}  // namespace tilewise::cuda
