// Weights too small to be normal numbers, which Intel's processors multiply a hundred times slower than others.
#pragma once

#include <cstdint>

#include "cpu/block.h"

namespace tilewise::cpu {

/// Which float32 numbers below 2^-126 are zero: results alone, or what is read from memory and results.
enum class Flushed : std::uint8_t { results, all };

/// While it lives, these numbers are zero to this thread. It stands around what makes weights, and around sums that
/// begin with far keys: under a bias that falls with distance weights have every size, and each multiply-add that a
/// subnormal one takes part in waits for microcode (Sapphire Rapids, d 64, plain attention's rate: alibi(8) 0.60
/// forward and 0.60 backward, sandwich(12, 128) 0.17 and 0.25; with this 0.95, 0.9, 0.91, 0.89). Inputs may be as small
/// as they like: products of theirs alone stay outside.
template <Flushed kWhich>
class FlushedSubnormals {
 public:
#if defined(__x86_64__)
  TILEWISE_INLINE FlushedSubnormals() {
    asm volatile("stmxcsr %0" : "=m"(before_));
    set(before_ | kFlushToZero | (kWhich == Flushed::all ? kSubnormalsAreZero : 0));
  }
  TILEWISE_INLINE ~FlushedSubnormals() { set(before_); }

 private:
  static constexpr std::uint32_t kFlushToZero = 1u << 15, kSubnormalsAreZero = 1u << 6;

  // What is in memory is not read before this, nor written after it.
  static TILEWISE_INLINE void set(std::uint32_t mode) { asm volatile("ldmxcsr %0" : : "m"(mode) : "memory"); }

  std::uint32_t before_;

 public:
#else
  // Arm's cores take no longer for subnormal numbers.
  TILEWISE_INLINE FlushedSubnormals() {}
  TILEWISE_INLINE ~FlushedSubnormals() {}
#endif
  FlushedSubnormals(const FlushedSubnormals&) = delete;
  FlushedSubnormals& operator=(const FlushedSubnormals&) = delete;
};

}  // namespace tilewise::cpu
