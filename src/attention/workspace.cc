#include "tilewise/workspace.h"

#include <cstdlib>

#include "attention/call_state.h"
#include "core/fail.h"
#include "cuda/launch/device_memory.h"

namespace tilewise {

namespace {

/// Memory of the processor, freed with its owner. Null where it could not be had.
std::shared_ptr<std::byte> allocate(std::int64_t bytes) {
  const std::int64_t rounded = (bytes + Workspace::kAlignment - 1) / Workspace::kAlignment * Workspace::kAlignment;
  return {static_cast<std::byte*>(
              std::aligned_alloc(static_cast<std::size_t>(Workspace::kAlignment), static_cast<std::size_t>(rounded))),
          [](std::byte* memory) { std::free(memory); }};
}

}  // namespace

Workspace::Workspace(std::int64_t bytes) : Workspace(bytes, Device::cpu()) {}
Workspace::Workspace(std::span<std::byte> memory) : Workspace(memory, Device::cpu()) {}

Workspace::Workspace(std::int64_t bytes, const Device& device, void* stream)
    : Workspace(std::span<std::byte>(), device, stream) {
  if (bytes < 0) fail_argument("bytes is {}; expected 0 or more", bytes);
  if (bytes == 0) return;
  std::byte* data = nullptr;
  if (device.is_cuda()) {
    const auto context = std::make_shared<const jit::Context>(jit::Driver::instance(), device.ordinal());
    auto memory = std::make_shared<cuda::DeviceMemory>(context, static_cast<std::size_t>(bytes));
    data = memory->as<std::byte>();
    owned_ = std::move(memory);
  } else {
    auto memory = allocate(bytes);
    if (memory == nullptr) fail(ErrorCode::out_of_memory, "a workspace of {} bytes could not be had", bytes);
    data = memory.get();
    owned_ = std::move(memory);
  }
  memory_ = {data, static_cast<std::size_t>(bytes)};
}

Workspace::Workspace(std::span<std::byte> memory, const Device& device, void* stream)
    : memory_(memory), device_(device), stream_(stream), states_(std::make_unique<attention::CallStates>()) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  if (address % kAlignment != 0) {
    fail_argument("memory begins at {:#x}; expected a multiple of {}", address, kAlignment);
  }
  if (stream != nullptr && !device.is_cuda()) fail_argument("stream is given for the processor, which has none");
}

Workspace::Workspace(Workspace&&) noexcept = default;
Workspace& Workspace::operator=(Workspace&&) noexcept = default;
Workspace::~Workspace() = default;

}  // namespace tilewise
