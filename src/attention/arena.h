// Parts of one block of memory, handed out one behind the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/round_up.h"
#include "tilewise/workspace.h"

namespace tilewise::attention {

/// Every part is aligned to Workspace::kAlignment. Without memory it only measures: the same code that takes its parts
/// then says how much it needs.
class Arena {
 public:
  Arena() = default;
  explicit Arena(std::span<std::byte> memory) : memory_(memory) {}

  template <class T>
  T* take(std::int64_t count) {
    const std::int64_t begin = used_;
    used_ += rounded(count * static_cast<std::int64_t>(sizeof(T)));
    return memory_.data() == nullptr ? nullptr : reinterpret_cast<T*>(memory_.data() + begin);
  }

  std::span<std::byte> take_bytes(std::int64_t count) {
    std::byte* begin = take<std::byte>(count);
    return {begin, begin == nullptr ? 0 : static_cast<std::size_t>(count)};
  }

  std::int64_t used() const { return used_; }

  static std::int64_t rounded(std::int64_t bytes) { return round_up(bytes, Workspace::kAlignment); }

 private:
  std::span<std::byte> memory_;
  std::int64_t used_ = 0;
};

}  // namespace tilewise::attention
