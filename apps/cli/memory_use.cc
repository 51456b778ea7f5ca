#include "memory_use.h"

#include <malloc.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace tilewise::cli {
namespace {

constexpr std::int64_t kUnknown = std::numeric_limits<std::int64_t>::max();

/// The kilobytes that a line "name:   123 kB" of /proc tells, in bytes.
std::int64_t proc_bytes(const char* path, const std::string& name) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    std::int64_t kilobytes = 0;
    if (word == name + ":" && file >> kilobytes) return kilobytes * 1024;
  }
  return kUnknown;
}

std::int64_t number_in(const char* path) {
  std::ifstream file(path);
  std::int64_t number = 0;
  return file >> number ? number : kUnknown;  // "max" and absent files are no limit
}

}  // namespace

std::int64_t available_bytes() {
  const std::int64_t limit = number_in("/sys/fs/cgroup/memory.max"), used = number_in("/sys/fs/cgroup/memory.current");
  const std::int64_t left = limit == kUnknown || used == kUnknown ? kUnknown : std::max<std::int64_t>(limit - used, 0);
  return std::min(left, proc_bytes("/proc/meminfo", "MemAvailable"));
}

ResidentGrowth::ResidentGrowth() {
  std::ofstream("/proc/self/clear_refs") << 5;  // the peak starts anew from what is resident now
  start_ = proc_bytes("/proc/self/status", "VmRSS");
}

std::int64_t ResidentGrowth::peak_bytes() const {
  return std::max<std::int64_t>(proc_bytes("/proc/self/status", "VmHWM") - start_, 0);
}

void expect_fresh_allocations() { mallopt(M_MMAP_THRESHOLD, 64 * 1024); }

}  // namespace tilewise::cli
