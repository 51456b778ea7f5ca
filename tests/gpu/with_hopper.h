// The fixture of tests that need a GPU of compute capability 9.0.
#pragma once

#include "tests/gpu/attention_case.h"
#include "tests/gpu/with_gpu.h"

namespace tilewise::cuda::testing {

class WithHopper : public jit::WithGpu {
 protected:
  void SetUp() override {
    WithGpu::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    if (!is_hopper(*context_)) GTEST_SKIP() << "the GPU is not of compute capability 9.0";
  }
};

}  // namespace tilewise::cuda::testing
