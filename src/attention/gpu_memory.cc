#include "tilewise/gpu_memory.h"

#include "core/fail.h"
#include "cuda/launch/device_memory.h"

namespace tilewise {
namespace {

void expect_room(std::int64_t bytes, std::size_t wanted) {
  if (static_cast<std::int64_t>(wanted) > bytes)
    fail_argument("the span has {} bytes; expected at most the memory's {}", wanted, bytes);
}

}  // namespace

GpuMemory::GpuMemory(std::int64_t bytes, const Device& device) : device_(device), bytes_(bytes) {
  if (!device.is_cuda()) fail_argument("device is {}; expected a GPU", device.text());
  if (bytes < 0) fail_argument("bytes is {}; expected 0 or more", bytes);
  auto memory =
      std::make_shared<cuda::DeviceMemory>(jit::shared_context(device.ordinal()), static_cast<std::size_t>(bytes));
  data_ = memory->as<std::byte>();
  owned_ = std::move(memory);
}

void GpuMemory::upload(std::span<const std::byte> from) const {
  expect_room(bytes_, from.size());
  if (from.empty()) return;
  const auto context = jit::shared_context(device_.ordinal());
  const jit::CurrentContext current(*context);
  context->driver().check(
      context->driver().api().copy_to_device(reinterpret_cast<jit::DevicePointer>(data_), from.data(), from.size()),
      "to copy to the GPU");
}

void GpuMemory::download(std::span<std::byte> to) const {
  expect_room(bytes_, to.size());
  if (to.empty()) return;
  const auto context = jit::shared_context(device_.ordinal());
  const jit::CurrentContext current(*context);
  context->driver().check(
      context->driver().api().copy_to_host(to.data(), reinterpret_cast<jit::DevicePointer>(data_), to.size()),
      "to copy from the GPU");
}

void synchronize(const Device& device, void* stream) {
  if (!device.is_cuda()) return;
  const auto context = jit::shared_context(device.ordinal());
  const jit::CurrentContext current(*context);
  context->driver().check(context->driver().api().stream_synchronize(static_cast<jit::StreamHandle>(stream)),
                          "to run what was queued");
}

bool is_captured(void* stream) {
  return stream != nullptr && jit::Driver::instance().is_captured(static_cast<jit::StreamHandle>(stream));
}

}  // namespace tilewise
