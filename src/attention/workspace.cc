#include "tilewise/workspace.h"

#include <sys/mman.h>

#include <cstdlib>

#include "attention/call_state.h"
#include "core/fail.h"
#include "core/or_out_of_memory.h"
#include "cuda/launch/device_memory.h"

namespace tilewise {

namespace {

constexpr auto kNotHad = "a workspace of {} bytes could not be had";

/// Memory of the processor, freed with its owner. Whole huge pages of it are asked for as such, as far as the system
/// grants them: a backward pass walks over megabytes, whose small pages outnumber the translation buffer's entries
/// (2.5% of its rate at d 64, 3% at d 128, on a Zen 4). So is the last one, of which only a part is needed, where all
/// of it adds less than a tenth (1.4 of 26.7 MB in small pages: 2% of a causal pass at d 128).
std::shared_ptr<std::byte> allocate(std::int64_t bytes) {
  constexpr std::size_t kHugePage = std::size_t{2} << 20;
  const auto needed = static_cast<std::size_t>(bytes);
  const std::size_t whole = needed / kHugePage * kHugePage;
  const std::size_t alignment = whole > 0 ? kHugePage : static_cast<std::size_t>(Workspace::kAlignment);
  const std::size_t rounded = (needed + alignment - 1) / alignment * alignment;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
  if (memory == nullptr) throw std::bad_alloc();
  // Advice: where it is not taken the memory serves as well.
  if (whole > 0) madvise(memory, rounded - needed < needed / 10 ? rounded : whole, MADV_HUGEPAGE);
  return {memory, [](std::byte* to_free) { std::free(to_free); }};
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
    const auto context = jit::shared_context(device.ordinal());
    auto memory = std::make_shared<cuda::DeviceMemory>(context, static_cast<std::size_t>(bytes));
    data = memory->as<std::byte>();
    owned_ = std::move(memory);
  } else {
    auto memory = or_out_of_memory([&] { return allocate(bytes); }, kNotHad, bytes);
    data = memory.get();
    owned_ = std::move(memory);
  }
  memory_ = {data, static_cast<std::size_t>(bytes)};
}

Workspace::Workspace(std::span<std::byte> memory, const Device& device, void* stream)
    : device_(device),
      stream_(stream),
      states_(or_out_of_memory([] { return std::make_unique<attention::CallStates>(); }, kNotHad, memory.size())) {
  use(memory);
  if (stream != nullptr && !device.is_cuda()) fail_argument("stream is given for the processor, which has none");
}

void Workspace::use(std::span<std::byte> memory) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  if (address % kAlignment != 0) {
    fail_argument("memory begins at {:#x}; expected a multiple of {}", address, kAlignment);
  }
  memory_ = memory;
  owned_.reset();
}

Workspace::Workspace(Workspace&&) noexcept = default;
Workspace& Workspace::operator=(Workspace&&) noexcept = default;
Workspace::~Workspace() = default;

}  // namespace tilewise
