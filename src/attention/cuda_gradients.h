// Gradients of a variant's tables and parameters in a GPU's backward pass: their sums in a workspace.
#pragma once

#include <optional>
#include <vector>

#include "attention/arena.h"
#include "cuda/launch/gradient_sums.h"
#include "tilewise/attention.h"
#include "variant/call.h"

namespace tilewise::attention {

/// Sums of all gradients that calls of a plan may ask for: of real tables that the plan was told the extents of, and of
/// real parameters. Constant and shared between threads.
class CudaGradients {
 public:
  /// Throws Error(unsupported) for a variant with more tables or parameters than kernels take; as jit::load_program.
  CudaGradients(const Variant& variant, const PlanShape& shape, jit::Compiler& compiler,
                std::shared_ptr<const jit::Context> context);

  /// A call's sums, in a workspace.
  struct Memory {
    float* sums = nullptr;        // [all elements]
    unsigned* largest = nullptr;  // [all elements], of a deterministic plan
    long long* fixed = nullptr;   // [all elements], likewise
  };
  Memory memory_in(Arena& arena) const;

  /// Throws Error(invalid_argument) unless the plan has room for every gradient of a table that is asked for, and all
  /// lie on the GPU.
  void check(const variant::Call& call, const BackwardOutputs& outputs) const;

  /// Queues `launch(sums)`, which adds to the sums, once or, for a deterministic plan, twice; then the gradients.
  /// `launch(sums, is_last)`: where not, nothing but the sums is wanted.
  template <class Launch>
  void run(const Memory& memory, const BackwardOutputs& outputs, jit::StreamHandle stream, Launch launch) const {
    cuda::GradientSums sums = sums_in(memory, outputs);
    if (is_deterministic_) {
      writer_->clear(memory.largest, elements_, stream);
      sums.pass = cuda::GradientSums::kFindLargest;
      launch(sums, false);
      writer_->clear(memory.fixed, 2 * elements_, stream);
      sums.pass = cuda::GradientSums::kAddFixed;
    } else {
      writer_->clear(memory.sums, elements_, stream);
    }
    launch(sums, true);
    store(sums, outputs, stream);
  }

 private:
  cuda::GradientSums sums_in(const Memory& memory, const BackwardOutputs& outputs) const;
  void store(const cuda::GradientSums& sums, const BackwardOutputs& outputs, jit::StreamHandle stream) const;

  const Variant variant_;
  const std::vector<TableShape> tables_;
  const bool is_deterministic_;
  std::shared_ptr<const jit::Context> context_;
  std::vector<std::int64_t> first_;  // [tables + parameters], the number of the first element; -1: no gradient
  std::int64_t elements_ = 0;        // of all
  std::optional<cuda::GradientWriter> writer_;
};

}  // namespace tilewise::attention
