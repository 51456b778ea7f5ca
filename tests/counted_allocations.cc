// Counts what the binary that it is linked into allocates.
#include "tests/counted_allocations.h"

#include <cstdlib>
#include <new>

using tilewise::allocations;
using tilewise::failing_allocation;

std::atomic<std::int64_t> tilewise::allocations{0};
std::atomic<std::int64_t> tilewise::failing_allocation{-1};

// Replaced for the whole binary, with the form that does not throw, since sanitizers replace that one by their own. Not
// inlined: the compiler would see malloc and delete, or new and free, and warn.
__attribute__((noinline)) void* operator new(std::size_t bytes) {
  if (allocations.fetch_add(1, std::memory_order_relaxed) == failing_allocation) throw std::bad_alloc();
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
__attribute__((noinline)) void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(bytes == 0 ? 1 : bytes);
}
__attribute__((noinline)) void operator delete(void* memory) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
