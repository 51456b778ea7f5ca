// Memory that calls of attention work in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

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

  Workspace(Workspace&& other) noexcept;
  Workspace& operator=(Workspace&& other) noexcept;
  ~Workspace();

  static constexpr std::int64_t kAlignment = 64;

  std::int64_t bytes() const { return static_cast<std::int64_t>(memory_.size()); }
  std::byte* data() const { return memory_.data(); }

  /// For the library's own use.
  attention::CallStates& states() { return *states_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte, Free> owned_;
  std::span<std::byte> memory_;
  std::unique_ptr<attention::CallStates> states_;
};

}  // namespace tilewise
