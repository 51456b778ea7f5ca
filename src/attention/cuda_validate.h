// What of a call's arguments lies on a GPU, checked as if the host had given it.
#pragma once

#include <cstddef>
#include <vector>

#include "jit/context.h"
#include "tilewise/attention.h"

namespace tilewise::attention {

/// Sequences, block table, tables and seed, brought to the host.
class GpuContents {
 public:
  /// Waits for the stream. Throws DriverError, as while a CUDA graph is captured. The context is current.
  GpuContents(const jit::Context& context, const ForwardInputs& inputs, jit::StreamHandle stream);

  /// Throws Error(invalid_argument) as a call on the processor would: on lengths and positions that do not fit, pages
  /// that do not exist, values outside a declared range, kept entries of a hole where the mask depends on positions
  /// alone, and reads of tables outside.
  void check(const Variant& variant, const PlanShape& shape) const;

 private:
  ConstTensor to_host(const jit::Context& context, const ConstTensor& tensor);

  ForwardInputs inputs_;
  std::vector<std::vector<std::byte>> memory_;
};

}  // namespace tilewise::attention
