// Which weights dropout keeps (docs/decisions/dropout.md), as src/core/dropout.h decides it.
#pragma once

#include "arguments.h"

namespace tilewise::cuda {

/// Philox4x32-10: the four random words of a counter (Salmon et al., SC 2011).
__device__ inline uint4 philox(uint4 counter, unsigned long long seed) {
  unsigned key0 = unsigned(seed), key1 = unsigned(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const unsigned high0 = __umulhi(0xD2511F53u, counter.x), low0 = 0xD2511F53u * counter.x;
    const unsigned high1 = __umulhi(0xCD9E8D57u, counter.z), low1 = 0xCD9E8D57u * counter.z;
    counter = make_uint4(high1 ^ counter.y ^ key0, low1, high0 ^ counter.w ^ key1, low0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

/// The random words of a row's keys [16 block, 16 block + 16).
__device__ inline uint4 dropout_words(const DropoutArguments& dropout, int block, int query_index, int head_index) {
  const long long* there = dropout.seed_and_offset;
  const unsigned long long seed = there != nullptr ? static_cast<unsigned long long>(__ldg(there)) : dropout.seed;
  const unsigned offset = there != nullptr ? static_cast<unsigned>(__ldg(there + 1)) : dropout.offset;
  return philox(make_uint4(block, query_index, head_index, offset), seed);
}

/// The random bytes of a row's keys [16 block, 16 block + 16) that a lane's fragment holds: its t-th pair of columns in
/// each half of the block. Bits 0-7 and 8-15 are columns 2t and 2t + 1, 16-23 and 24-31 columns 2t + 8 and 2t + 9.
__device__ inline unsigned dropout_bytes(const DropoutArguments& dropout, int block, int query_index, int head_index,
                                         int t) {
  const uint4 words = dropout_words(dropout, block, query_index, head_index);
  const unsigned near = t < 2 ? words.x : words.y, far = t < 2 ? words.z : words.w;
  const int shift = t % 2 * 16;
  return (near >> shift & 0xffffu) | (far >> shift & 0xffffu) << 16;
}

}  // namespace tilewise::cuda
