// Memory on a GPU.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "jit/context.h"

namespace tilewise::cuda {

/// An allocation, freed with its owner. Movable.
class DeviceMemory {
 public:
  DeviceMemory() = default;

  /// Throws DriverError: out_of_memory.
  DeviceMemory(std::shared_ptr<const jit::Context> context, std::size_t bytes);
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept;
  DeviceMemory& operator=(DeviceMemory&& other) noexcept;

  /// A copy of these values. Waits for it.
  template <class T>
  static DeviceMemory of(std::shared_ptr<const jit::Context> context, const std::vector<T>& values) {
    DeviceMemory memory(std::move(context), values.size() * sizeof(T));
    memory.copy_from(std::as_bytes(std::span(values)));
    return memory;
  }

  /// Copies to its beginning; waits for it. The span is no longer than the allocation.
  void copy_from(std::span<const std::byte> bytes);

  /// Copies from its beginning, when what is queued on the default stream is done.
  template <class T>
  std::vector<T> values(std::size_t count) const {
    std::vector<T> copies(count);
    copy_to(std::as_writable_bytes(std::span(copies)));
    return copies;
  }
  void copy_to(std::span<std::byte> bytes) const;

  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(pointer_);  // an address on the GPU: not to be followed here
  }
  jit::DevicePointer pointer() const { return pointer_; }

 private:
  std::shared_ptr<const jit::Context> context_;
  jit::DevicePointer pointer_ = 0;
};

}  // namespace tilewise::cuda
