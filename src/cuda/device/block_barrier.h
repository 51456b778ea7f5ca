// Barriers at which a block's warps arrive at one time and for which they wait at another.
#pragma once

namespace tilewise::cuda {

/// A barrier in shared memory, 8 bytes at a multiple of 8. Its phases complete one after the other, each when the
/// expected number of arrivals has come. Unlike __syncthreads() it keeps nobody waiting who is done with his part: a
/// warp goes on with other work between its own arrival and its wait.
struct BlockBarrier {
  unsigned address;

  __device__ void create(int arrivals) const {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(address), "r"(arrivals) : "memory");
  }
  __device__ void arrive() const {
    asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(address) : "memory");
  }
  /// One arrival of a warp, for what all of its lanes have written and read.
  __device__ void arrive_as_warp() const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) arrive();
  }
  /// An arrival of the thread, when all copies that it has started have ended; it goes on at once.
  __device__ void arrive_after_copies() const {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(address) : "memory");
  }
  /// Until the phase of that parity (the first one's is 0) has completed. The one before the first has.
  __device__ void wait(int parity) const {
    unsigned is_complete;
    do {
#if __CUDA_ARCH__ >= 900
      asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                   : "=r"(is_complete)
                   : "r"(address), "r"(parity)
                   : "memory");
#else
      asm volatile("{\n.reg .pred p;\nmbarrier.test_wait.parity.shared.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                   : "=r"(is_complete)
                   : "r"(address), "r"(parity)
                   : "memory");
#endif
    } while (is_complete == 0);
  }
};

}  // namespace tilewise::cuda
