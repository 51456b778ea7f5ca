// Portable kernels on this processor: a program for the run-time compiler, compiled by this machine's, with fibers for
// threads and functions for PTX (simt.h, ptx.h). Some hundred entries of attention take about a second.
#pragma once

#include <array>
#include <string>

#include "jit/program.h"
#include "tests/cuda/emulated/host_library.h"

namespace tilewise::cuda::testing {

class EmulatedProgram {
 public:
  /// Throws std::runtime_error where it does not compile.
  explicit EmulatedProgram(const jit::Program& program);

  /// Runs a kernel, its blocks one after the other; `bound` is its second argument, where it has one. Pointers in the
  /// arguments are this process's. False where threads wait for each other for ever.
  bool launch(const std::string& kernel, std::array<int, 3> grid, int threads, const void* arguments,
              const void* bound) const;

 private:
  HostLibrary library_;
};

}  // namespace tilewise::cuda::testing
