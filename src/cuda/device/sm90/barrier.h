// Barriers by which a producer and its consumers hand tiles to each other, and warpgroups' registers.
#pragma once

namespace tilewise::cuda::sm90 {

/// A barrier in shared memory, 8 bytes at a multiple of 8. Its phases complete one after the other: each when the
/// expected number of arrivals has come, and all bytes that were announced.
struct Barrier {
  unsigned address;

  __device__ void create(int arrivals) const {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address), "r"(arrivals) : "memory");
  }
  __device__ void arrive() const {
    asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(address) : "memory");
  }
  /// The predicate lies inside of the instruction: a branch around it would sink below work that does not depend on it.
  __device__ void arrive_if(bool chosen) const {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.u32 p, %1, 0;\n@p mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];\n}" ::"r"(
            address),
        "r"(unsigned(chosen))
        : "memory");
  }
  /// Likewise at the same barrier of block `rank` of the cluster.
  __device__ void arrive_at_if(bool chosen, unsigned rank) const {
    asm volatile(
        "{\n.reg .pred p;\n.reg .b32 there;\nsetp.ne.u32 p, %1, 0;\n"
        "mapa.shared::cluster.u32 there, %0, %2;\n"
        "@p mbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(address),
        "r"(unsigned(chosen)), "r"(rank)
        : "memory");
  }
  __device__ void arrive_expecting(int bytes) const {
    asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(address), "r"(bytes)
                 : "memory");
  }
  /// Whether the phase of that parity (the first one's is 0) has completed.
  __device__ bool has_completed(unsigned parity) const {
    int completed;
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.test_wait.parity.acquire.cta.shared::cta.b64 p, [%1], %2;\n"
        "selp.s32 %0, 1, 0, p;\n}"
        : "=r"(completed)
        : "r"(address), "r"(parity)
        : "memory");
    return completed != 0;
  }
  /// Until it has.
  __device__ void wait(unsigned parity) const {
    asm volatile(
        "{\n.reg .pred p;\n"
        "again:\nmbarrier.try_wait.parity.acquire.cta.shared::cta.b64 p, [%0], %1;\n@!p bra again;\n}" ::"r"(address),
        "r"(parity)
        : "memory");
  }
};

/// Waits for all threads of the cluster's blocks that have not ended.
__device__ inline void meet_cluster() {
  __syncwarp();
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/// Makes barriers visible to the copy engine; after create(), before the block's first __syncthreads().
__device__ inline void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

/// How many tiles have gone through a ring of kStages: one number tells the stage of the next, and the parity of the
/// phase that its barriers are in.
template <int kStages>
struct Turn {
  static_assert((kStages & (kStages - 1)) == 0, "so that both are bits of the number");
  unsigned count = 0;

  __device__ unsigned stage() const { return count % kStages; }
  __device__ unsigned parity() const { return count / kStages & 1; }
  __device__ Turn plus(unsigned tiles) const { return {count + tiles}; }
};

/// Waits for all `threads` that name the barrier: 1 to 15, as 0 is __syncthreads().
__device__ inline void meet(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

/// Tells those who meet there that this warpgroup has come, and goes on.
__device__ inline void tell(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

/// What this thread has written to shared memory becomes visible to the copy engine and to the tensor cores.
__device__ inline void publish_writes() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// The same number, of which the compiler does not know that: what follows from it is not kept in registers, of which a
/// producer has few, from one iteration to the next.
__device__ inline unsigned made_anew(unsigned x) {
  asm volatile("" : "+r"(x));
  return x;
}

/// threadIdx.x, read where it is needed rather than kept.
__device__ inline int thread_read_anew() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

/// The compiler forgets what it knows of memory, and keeps none of it in registers.
__device__ inline void forget() { asm volatile("" ::: "memory"); }

/// A number that is the same for all threads of a warp, which the compiler does not see by itself: branches on it are
/// the whole warp's. Products in a branch that may be some threads' alone wait for each other (the assembler's C7520).
__device__ inline int uniform(int x) { return __shfl_sync(~0u, x, 0); }
__device__ inline float uniform_real(float x) { return __shfl_sync(~0u, x, 0); }

/// How a block of warpgroups begins, whose shared memory is at `base`: a thread creates its barriers. The number of
/// this thread's warpgroup.
template <class CreateBarriers>
__device__ inline int begin_block(unsigned base, const CreateBarriers& create_barriers) {
  const int warpgroup = uniform(threadIdx.x / 128);
  if (threadIdx.x == 0) {
    if (base % 1024 != 0) __trap();  // what swizzling rests on
    create_barriers();
  }
  __syncthreads();
  return warpgroup;
}

/// Gives up or takes on registers, for all warps of a warpgroup: then each thread has kRegisters.
template <int kRegisters>
__device__ inline void shrink_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void grow_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace tilewise::cuda::sm90
