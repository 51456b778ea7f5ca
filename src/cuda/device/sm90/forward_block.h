// A block of a forward kernel.
#pragma once

#include "launches.h"
#include "sm90/forward_produce.h"

namespace tilewise::cuda::sm90 {

/// A block: the producers' warpgroup, and kConsumers that compute, each a
/// Consumer. It takes pieces of work until none is left.
template <class Config, class Variant, class Consumer>
class ForwardBlock : ForwardShared<Config, Variant> {
  using Shared = ForwardShared<Config, Variant>;
  using Producers = ForwardProducers<Config, Variant>;

 public:
  using Shared::kSharedBytes, Shared::kThreads, Shared::kTileBytes;
  using Shared::Shared;

  __device__ void run() {
    if (threadIdx.x == 32)
      prefetch(this->call_.q), prefetch(this->call_.k), prefetch(this->call_.v), prefetch(this->call_.o);
    const int warpgroup = begin_block(this->base_, [&] { this->create_barriers(); });
    // The first piece of work is read meanwhile, where it lies with the plan.
    if (threadIdx.x != Producers::kWorkThread || this->arguments_.planned == 0) wait_for_kernels_before();
    let_next_kernel_begin();
    if (warpgroup == 0) {
      shrink_registers<Config::kProducerRegisters>();
      Producers(this->call_, this->variant_, this->shared_).run();
    } else {
      grow_registers<Config::kConsumerRegisters>();
      Consumer(this->call_, this->variant_, this->shared_).run(warpgroup - 1);
    }
  }
};

}  // namespace tilewise::cuda::sm90
