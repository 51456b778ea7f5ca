// Memory that calls of attention work in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "tilewise/device.h"

namespace tilewise {

namespace attention {
class CallStates;  // what calls keep between one another: lists that only grow
}

/// Memory for one call at a time, of any plan that it is large enough for. What a call leaves in it means nothing to
/// the next one. Calls that overlap in time need a workspace each.
class Workspace {
 public:
  /// Memory of its own; Plan::workspace_bytes() says how much a plan needs. Throws Error(out_of_memory).
  explicit Workspace(std::int64_t bytes = 0);

  /// The caller's memory, aligned to kAlignment, which must outlive this. Throws Error(invalid_argument) where it is
  /// not aligned.
  explicit Workspace(std::span<std::byte> memory);

  /// Memory of its own on a device, and the stream that calls in it are queued on (docs/decisions/gpu_calls.md). A
  /// GPU's `stream` is its CUstream or cudaStream_t, null for the default stream; the processor has none. Throws
  /// Error(out_of_memory), Error(device), and Error(invalid_argument) for a stream of the processor.
  Workspace(std::int64_t bytes, const Device& device, void* stream = nullptr);

  /// Likewise with the caller's memory, which lies on that device.
  Workspace(std::span<std::byte> memory, const Device& device, void* stream = nullptr);

  Workspace(Workspace&& other) noexcept;
  Workspace& operator=(Workspace&& other) noexcept;
  ~Workspace();

  /// Works in other memory of the caller's from now on, which lies on the same device: for memory that an allocator
  /// gives to each call anew. Throws Error(invalid_argument) where it is not aligned.
  void use(std::span<std::byte> memory);

  static constexpr std::int64_t kAlignment = 64;

  std::int64_t bytes() const { return static_cast<std::int64_t>(memory_.size()); }
  std::byte* data() const { return memory_.data(); }

  /// Where the memory lies, and the stream that calls are queued on.
  const Device& device() const { return device_; }
  void* stream() const { return stream_; }

  /// For the library's own use.
  attention::CallStates& states() { return *states_; }

 private:
  std::shared_ptr<const void> owned_;
  std::span<std::byte> memory_;
  Device device_;
  void* stream_;
  std::unique_ptr<attention::CallStates> states_;
};

}  // namespace tilewise
