// What kernels use of CUDA, for this processor: the threads of a block are fibers of one thread, which change places
// where they wait for each other. Shared memory lies below 4 GB, so that an address in it is one.
#pragma once

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <stdexcept>
#include <vector>

#include "intrinsics.h"

#define __shared__ static
#define __CUDA_ARCH__ 900

namespace simt {

/// A copy that has been started: the latest that it may happen is when it is waited for, and then it does.
struct Copy {
  unsigned to;
  const void* from;
  int bytes, existing;  // the rest becomes zero
};

struct Fiber {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(1 << 17);
  bool has_ended = false;
  std::uint64_t exchanges = 0;               // with its warp
  std::uint64_t meetings = 0;                // of the block
  std::deque<std::vector<Copy>> copies{{}};  // groups of them; the last one is open
};

/// What a lane shows the others of its warp.
struct Shown {
  std::uint64_t words[4];
};

struct Dimensions {
  int x, y, z;
};

inline std::vector<Fiber> fibers;
inline int current;  // the fiber that runs
inline ucontext_t scheduler;
inline bool has_progress;  // since the round of all fibers began
inline std::uint64_t arrivals;
inline std::vector<Shown> shown[2];  // [threads], of even and of odd exchanges

inline void pass_on() { swapcontext(&fibers[current].context, &scheduler); }

template <class Condition>
void wait_until(Condition condition) {
  while (!condition()) pass_on();
  has_progress = true;
}

/// Shows `mine` and waits for all lanes of the warp; the result is theirs. No lane gets to the exchange after the next
/// before all have read.
inline const Shown* exchange(const Shown& mine) {
  const std::uint64_t number = fibers[current].exchanges++;
  std::vector<Shown>& all = shown[number % 2];
  all[current] = mine;
  has_progress = true;
  const int first = current / 32 * 32;
  wait_until([&] {
    for (int lane = first; lane < first + 32; ++lane) {
      if (fibers[lane].exchanges <= number) return false;
    }
    return true;
  });
  return &all[first];
}

template <class T>
Shown shown_of(const T& value) {
  static_assert(sizeof(T) <= sizeof(Shown));
  Shown made{};
  std::memcpy(&made, &value, sizeof(T));
  return made;
}
template <class T>
T value_of(const Shown& from) {
  T value;
  std::memcpy(&value, &from, sizeof(T));
  return value;
}

constexpr std::size_t kSharedBytes = 1 << 18;

inline unsigned char* dynamic_shared() {
  static unsigned char* const memory = [] {
    void* made = mmap(nullptr, kSharedBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (made == MAP_FAILED) throw std::runtime_error("no memory below 4 GB");
    return static_cast<unsigned char*>(made);
  }();
  return memory;
}
template <class T>
T& shared(unsigned address) {
  return *reinterpret_cast<T*>(static_cast<std::uintptr_t>(address));
}

inline std::function<void()> body;
inline void run_body() {
  body();
  fibers[current].has_ended = true;
  has_progress = true;
  pass_on();
}

/// Whether a block came to its end: no fiber was left waiting for what never came.
inline bool run_block(int threads, const std::function<void()>& of_thread) {
  body = of_thread;
  arrivals = 0;
  fibers.clear();
  fibers.resize(threads);
  shown[0].assign(threads, {});
  shown[1].assign(threads, {});
  std::memset(dynamic_shared(), 0xff, kSharedBytes);  // NaN
  for (Fiber& fiber : fibers) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run_body, 0);
  }
  for (bool goes_on = true; goes_on;) {
    goes_on = has_progress = false;
    for (current = 0; current < threads; ++current) {
      if (fibers[current].has_ended) continue;
      goes_on = true;
      swapcontext(&scheduler, &fibers[current].context);
    }
    if (goes_on && !has_progress) return false;
  }
  return true;
}

/// A fiber's number, as threadIdx.x.
struct ThreadNumber {
  operator int() const { return current; }
};

}  // namespace simt

inline simt::Dimensions blockIdx, gridDim, blockDim;
struct ThreadIndex {
  simt::ThreadNumber x;
};
inline ThreadIndex threadIdx;

namespace simt {

/// All blocks of a launch, one after the other.
inline bool launch(Dimensions grid, int threads, const std::function<void()>& of_thread) {
  gridDim = grid, blockDim = {threads, 1, 1};
  for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z) {
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y) {
      for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
        if (!run_block(threads, of_thread)) return false;
      }
    }
  }
  return true;
}

template <class Arguments, class Bound>
bool launch(void (*kernel)(Arguments, Bound), Dimensions grid, int threads, const void* arguments, const void* bound) {
  return launch(grid, threads,
                [&] { kernel(*static_cast<const Arguments*>(arguments), *static_cast<const Bound*>(bound)); });
}
template <class Arguments>
bool launch(void (*kernel)(Arguments), Dimensions grid, int threads, const void* arguments, const void*) {
  return launch(grid, threads, [&] { kernel(*static_cast<const Arguments*>(arguments)); });
}

}  // namespace simt

inline void __syncthreads() {
  const std::uint64_t number = simt::fibers[simt::current].meetings++;
  ++simt::arrivals;
  simt::has_progress = true;
  simt::wait_until([&] { return simt::arrivals >= (number + 1) * static_cast<std::uint64_t>(blockDim.x); });
}
inline void __syncwarp() { simt::exchange({}); }
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  return simt::value_of<T>(simt::exchange(simt::shown_of(value))[lane]);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int bits) {
  return simt::value_of<T>(simt::exchange(simt::shown_of(value))[threadIdx.x % 32 ^ bits]);
}
inline unsigned __ballot_sync(unsigned, bool vote) {
  const simt::Shown* all = simt::exchange(simt::shown_of(vote));
  unsigned votes = 0;
  for (int lane = 0; lane < 32; ++lane) votes |= unsigned(simt::value_of<bool>(all[lane])) << lane;
  return votes;
}
inline bool __all_sync(unsigned lanes, bool vote) { return __ballot_sync(lanes, vote) == ~0u; }
inline unsigned __reduce_or_sync(unsigned lanes, unsigned value) {
  unsigned all = 0;
  for (int bit = 0; bit < 32; ++bit) all |= unsigned(__ballot_sync(lanes, (value >> bit & 1) != 0) != 0) << bit;
  return all;
}
inline bool __any_sync(unsigned lanes, bool vote) { return __ballot_sync(lanes, vote) != 0; }
/// Lanes that come to the same place by different ways are each alone there.
inline unsigned __activemask() { return 1u << threadIdx.x % 32; }
template <class T>
unsigned __match_all_sync(unsigned lanes, T, int* are_one) {
  *are_one = 0;
  return lanes;
}
inline std::uint64_t __cvta_generic_to_shared(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }
