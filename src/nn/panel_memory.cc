#include "nn/panel_memory.h"

#include <algorithm>
#include <mutex>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "core/fail.h"
#include "core/round_up.h"

namespace tilewise::nn {
namespace {

constexpr std::int64_t kLargePage = std::int64_t{2} << 20;
constexpr std::int64_t kStretch = 32 * kLargePage;
constexpr std::int64_t kAlignment = 64;

class Stretch {
 public:
  explicit Stretch(std::int64_t bytes) : bytes_(round_up(bytes, kLargePage)) {
    const std::align_val_t alignment{kLargePage};
    memory_ = static_cast<std::byte*>(::operator new(static_cast<std::size_t>(bytes_), alignment, std::nothrow));
    if (memory_ == nullptr) fail(ErrorCode::out_of_memory, "{} bytes for weights were not to be had", bytes_);
#if defined(__linux__)
    // A request: where it is refused, pages are small, and all else is the same.
    static_cast<void>(madvise(memory_, static_cast<std::size_t>(bytes_), MADV_HUGEPAGE));
#endif
  }
  ~Stretch() { ::operator delete (memory_, std::align_val_t{kLargePage}); }
  Stretch(const Stretch&) = delete;
  Stretch& operator=(const Stretch&) = delete;

  /// Null where too little is left.
  std::byte* take(std::int64_t bytes) {
    if (bytes > bytes_ - used_) return nullptr;
    std::byte* taken = memory_ + used_;
    used_ = std::min(round_up(used_ + bytes, kAlignment), bytes_);
    return taken;
  }

 private:
  std::int64_t bytes_, used_ = 0;
  std::byte* memory_ = nullptr;
};

}  // namespace

std::shared_ptr<std::byte> allocate_panels(std::int64_t bytes) {
  static std::mutex mutex;
  static std::weak_ptr<Stretch> latest;
  const std::lock_guard lock(mutex);
  std::shared_ptr<Stretch> stretch = latest.lock();
  std::byte* memory = stretch ? stretch->take(bytes) : nullptr;
  if (memory == nullptr) {
    stretch = std::make_shared<Stretch>(std::max(bytes, kStretch));
    latest = stretch;
    memory = stretch->take(bytes);
  }
  return {std::move(stretch), memory};
}

}  // namespace tilewise::nn
