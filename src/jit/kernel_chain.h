// Kernels one behind the other, queued by one call of the driver.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "jit/module.h"

namespace tilewise::jit {

/// A kernel with what Kernel::launch takes.
struct ChainLink {
  const Kernel* kernel;
  LaunchShape shape;  // whose stream is the chain's
  void** arguments;
};

/// A graph of kernels, each of which waits for the one in front of it, or begins early and waits by itself: made by the
/// first call; later ones set grids and arguments anew, also while earlier ones run. Three launches took the host 12 us
/// on an H200's machine (driver of CUDA 13.0), the graph 1.9, setting its kernels 1.2. For one thread at a time.
class KernelChain {
 public:
  KernelChain() = default;
  ~KernelChain();
  KernelChain(const KernelChain&) = delete;
  KernelChain& operator=(const KernelChain&) = delete;

  /// Queues the kernels in this order and returns. One by one where that is all that can be done: by drivers before
  /// CUDA 12.0 (12.3 where kernels begin early), on a stream that is being captured, and where the first one begins
  /// early. Throws as Kernel::launch.
  void launch(std::span<const ChainLink> links, StreamHandle stream);

 private:
  bool set(std::span<const ChainLink> links) const;
  void make(std::span<const ChainLink> links);
  GraphNodeHandle add(const Driver& driver, const ChainLink& link, GraphNodeHandle before) const;
  void clear();

  /// A kernel of the graph, whose module stays loaded, and what of its launch cannot be set anew.
  struct Link {
    Kernel kernel;
    std::array<unsigned, 3> cluster;
    bool begins_early;
    GraphNodeHandle node = nullptr;
  };
  std::vector<Link> links_;
  GraphHandle graph_ = nullptr;
  ExecutableGraphHandle executable_ = nullptr;
};

}  // namespace tilewise::jit
