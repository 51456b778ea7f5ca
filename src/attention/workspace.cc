#include "tilewise/workspace.h"

#include <cstdlib>

#include "attention/call_state.h"
#include "core/fail.h"

namespace tilewise {

void Workspace::Free::operator()(std::byte* memory) const { std::free(memory); }

Workspace::Workspace(std::int64_t bytes) : states_(std::make_unique<attention::CallStates>()) {
  if (bytes < 0) fail_argument("bytes is {}; expected 0 or more", bytes);
  if (bytes == 0) return;
  const std::int64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  owned_.reset(static_cast<std::byte*>(
      std::aligned_alloc(static_cast<std::size_t>(kAlignment), static_cast<std::size_t>(rounded))));
  if (owned_ == nullptr) fail(ErrorCode::out_of_memory, "a workspace of {} bytes could not be had", bytes);
  memory_ = {owned_.get(), static_cast<std::size_t>(bytes)};
}

Workspace::Workspace(std::span<std::byte> memory)
    : memory_(memory), states_(std::make_unique<attention::CallStates>()) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  if (address % kAlignment != 0) {
    fail_argument("memory begins at {:#x}; expected a multiple of {}", address, kAlignment);
  }
}

Workspace::Workspace(Workspace&&) noexcept = default;
Workspace& Workspace::operator=(Workspace&&) noexcept = default;
Workspace::~Workspace() = default;

}  // namespace tilewise
