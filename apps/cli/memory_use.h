// Memory of this process and of the machine, as the operating system counts it.
#pragma once

#include <cstdint>

namespace tilewise::cli {

/// Bytes that new allocations can have now: what the system calls available, and what is left to this process's group.
std::int64_t available_bytes();

/// How far resident memory rises above where it stood at construction. Pages that were there already, such as freed
/// memory in use again, do not count: expect_fresh_allocations() keeps freed memory out of the way.
class ResidentGrowth {
 public:
  ResidentGrowth();
  std::int64_t peak_bytes() const;

 private:
  std::int64_t start_;
};

/// From now on, allocations above 64 KiB take memory of their own from the system and give it back when freed.
void expect_fresh_allocations();

}  // namespace tilewise::cli
