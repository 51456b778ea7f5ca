#include "cuda/launch/device_memory.h"

#include <algorithm>
#include <utility>

namespace tilewise::cuda {

DeviceMemory::DeviceMemory(std::shared_ptr<const jit::Context> context, std::size_t bytes)
    : context_(std::move(context)) {
  const jit::CurrentContext current(*context_);
  // A driver refuses to allocate nothing.
  const std::size_t size = std::max<std::size_t>(bytes, 16);
  context_->driver().check(context_->driver().api().memory_allocate(&pointer_, size), "to allocate memory");
}

DeviceMemory::~DeviceMemory() {
  if (pointer_ == 0) return;
  // A destructor has nobody to tell: at the process's end, say, the driver may be gone already, and the memory with it.
  const jit::DriverApi& api = context_->driver().api();
  jit::ContextHandle previous = nullptr;
  if (api.context_push(context_->handle()) != 0) return;
  api.memory_free(pointer_);
  api.context_pop(&previous);
}

DeviceMemory::DeviceMemory(DeviceMemory&& other) noexcept
    : context_(std::move(other.context_)), pointer_(std::exchange(other.pointer_, 0)) {}

DeviceMemory& DeviceMemory::operator=(DeviceMemory&& other) noexcept {
  std::swap(context_, other.context_);
  std::swap(pointer_, other.pointer_);
  return *this;
}

void DeviceMemory::copy_from(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const jit::CurrentContext current(*context_);
  context_->driver().check(context_->driver().api().copy_to_device(pointer_, bytes.data(), bytes.size()),
                           "to copy to the GPU");
}

void DeviceMemory::copy_to(std::span<std::byte> bytes) const {
  if (bytes.empty()) return;
  const jit::CurrentContext current(*context_);
  context_->driver().check(context_->driver().api().copy_to_host(bytes.data(), pointer_, bytes.size()),
                           "to copy from the GPU");
}

}  // namespace tilewise::cuda
