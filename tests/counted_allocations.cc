#include "tests/counted_allocations.h"

#include <malloc.h>

#include <cstdlib>
#include <new>

using tilewise::allocations;
using tilewise::failing_allocation;
using tilewise::live_bytes;
using tilewise::peak_bytes;

std::atomic<std::int64_t> tilewise::allocations{0};
std::atomic<std::int64_t> tilewise::failing_allocation{-1};
std::atomic<std::int64_t> tilewise::live_bytes{0};
std::atomic<std::int64_t> tilewise::peak_bytes{0};

namespace {

void* counted(std::size_t bytes) {
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) return nullptr;
  const std::int64_t live = live_bytes += static_cast<std::int64_t>(malloc_usable_size(memory));
  for (std::int64_t peak = peak_bytes; live > peak && !peak_bytes.compare_exchange_weak(peak, live);) {
  }
  return memory;
}

void release(void* memory) {
  if (memory != nullptr) live_bytes -= static_cast<std::int64_t>(malloc_usable_size(memory));
  std::free(memory);
}

}  // namespace

// Replaced for the whole binary, with the form that does not throw, since sanitizers replace that one by their own; the
// other forms come down to these. Not inlined: the compiler would see malloc and delete, or new and free, and warn.
__attribute__((noinline)) void* operator new(std::size_t bytes) {
  if (allocations.fetch_add(1, std::memory_order_relaxed) == failing_allocation) throw std::bad_alloc();
  if (void* memory = counted(bytes)) return memory;
  throw std::bad_alloc();
}
__attribute__((noinline)) void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return counted(bytes);
}
__attribute__((noinline)) void operator delete(void* memory) noexcept { release(memory); }
__attribute__((noinline)) void operator delete(void* memory, std::size_t) noexcept { release(memory); }
