// A block of a forward kernel.
#pragma once

#include "sm90/forward_produce.h"

namespace tilewise::cuda::sm90 {

/// A block: the producers' warpgroup, and kConsumers that compute, each a
/// Consumer. It takes pieces of work until none is left.
template <class Config, class Variant, class Consumer>
class ForwardBlock : ForwardShared<Config, Variant> {
  using Shared = ForwardShared<Config, Variant>;

 public:
  using Shared::kSharedBytes, Shared::kThreads, Shared::kTileBytes;
  using Shared::Shared;

  __device__ void run() {
    const int warpgroup = begin_block(this->base_, [&] { this->create_barriers(); });
    if (warpgroup == 0) {
      shrink_registers<Config::kProducerRegisters>();
      ForwardProducers<Config, Variant>(this->call_, this->variant_, this->shared_).run();
    } else {
      grow_registers<Config::kConsumerRegisters>();
      Consumer(this->call_, this->variant_, this->shared_).run(warpgroup - 1);
    }
  }
};

}  // namespace tilewise::cuda::sm90
