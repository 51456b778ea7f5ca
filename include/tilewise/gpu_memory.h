// Memory on a GPU, for programs that have no CUDA toolkit of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "tilewise/device.h"

namespace tilewise {

/// An allocation on a GPU, freed with its owner. Its address goes into tensors as any pointer; the host does not follow
/// it. Programs that allocate by CUDA itself or by PyTorch need none of this: their memory is as good.
class GpuMemory {
 public:
  /// Throws Error(device), Error(out_of_memory), and Error(invalid_argument) for the processor or fewer than 0 bytes.
  GpuMemory(std::int64_t bytes, const Device& device);

  std::byte* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }

  /// Copies to its beginning, or from it, and waits for that. Calls on other streams than the default one are waited
  /// for by synchronize() alone. Throws Error(invalid_argument) where the span is longer than the memory;
  /// Error(device).
  void upload(std::span<const std::byte> from) const;
  void download(std::span<std::byte> to) const;

 private:
  std::shared_ptr<const void> owned_;
  Device device_;
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

/// Waits for all calls that were queued on a GPU's stream; null is the default stream. Throws Error(device) where one
/// of them failed; does nothing for the processor.
void synchronize(const Device& device, void* stream = nullptr);

/// Whether a CUDA graph captures what is queued on that stream at present, so that the memory that it works in must
/// live as long as the graph. False for the default stream, which no graph can capture. Throws Error(device).
bool is_captured(void* stream);

}  // namespace tilewise
