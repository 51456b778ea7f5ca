// A call's sequences on their way to the GPU: as arguments of a launch, which waits for nothing and which a CUDA graph
// can capture, where a copy from the host's memory would do neither.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "cuda/device/arguments.h"
#include "jit/compiler.h"
#include "jit/module.h"
#include "tilewise/problem.h"

namespace tilewise::cuda {

/// Lengths and offsets as the kernels take them.
SequenceShape sequence_shape(const Sequence& sequence);
std::vector<SequenceShape> sequence_shapes(const Problem& problem);  // [b]

/// What all sequences of a problem are, if they are alike; of none there is nothing.
std::optional<SequenceShape> common_shape(const Problem& problem);

/// The program of two kernels: "write" takes SequenceBatch and where it goes, "gather" SequenceColumns likewise.
jit::Program sequences_program(const jit::Architecture& architecture);

/// The kernels, compiled and loaded. Const and shared between threads.
class SequenceWriter {
 public:
  /// Throws as jit::load_program; DriverError.
  SequenceWriter(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context);

  /// Queues the writing of the problem's sequences to `to`, [b] on the GPU.
  void write(const Problem& problem, SequenceShape* to, jit::StreamHandle stream) const;

  /// Likewise of sequences whose numbers lie on the GPU.
  void gather(const SequenceColumns& columns, SequenceShape* to, jit::StreamHandle stream) const;

 private:
  std::shared_ptr<const jit::Module> module_;
  jit::Kernel write_, gather_;
};

}  // namespace tilewise::cuda
