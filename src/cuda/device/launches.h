// Kernels of a call that begin before those in front of them have ended.
#pragma once

namespace tilewise::cuda {

/// Until the kernels in front of this one have ended, where a launch lets it begin before: ahead of all that they
/// write.
__device__ inline void wait_for_kernels_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// The next kernel's blocks may take what room there is, once all blocks of this one have come here or ended.
__device__ inline void let_next_kernel_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace tilewise::cuda
