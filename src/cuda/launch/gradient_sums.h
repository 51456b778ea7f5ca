// Gradients of tables and parameters on a GPU: sums that the backward kernels add to, and where they go.
#pragma once

#include <memory>

#include "cuda/device/arguments.h"
#include "jit/compiler.h"
#include "jit/module.h"
#include "tilewise/tensor.h"

namespace tilewise::cuda {

/// The program of one kernel, "store", that takes GradientStore.
jit::Program gradient_program(const jit::Architecture& architecture);

/// Clears sums before the kernels and stores them after. Const and shared between threads.
class GradientWriter {
 public:
  /// Throws as jit::load_program; DriverError.
  GradientWriter(jit::Compiler& compiler, const std::shared_ptr<const jit::Context>& context);

  /// Queues the clearing of `words` of 4 bytes.
  void clear(void* memory, std::int64_t words, jit::StreamHandle stream) const;

  /// Queues the storing of as many sums from `first` on, in row-major order, as the tensor has elements.
  void store(const GradientSums& sums, const float* first, const Tensor& to, jit::StreamHandle stream) const;

 private:
  std::shared_ptr<const jit::Context> context_;
  jit::Kernel kernel_;
};

}  // namespace tilewise::cuda
