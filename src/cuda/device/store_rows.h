// Rows of products, from the registers of a warp straight to global memory.
#pragma once

#include "element.h"

namespace tilewise::cuda {

/// Transposes a 4 x 4 matrix whose row is in a lane of four: afterwards lane t has what was in place t of each.
__device__ inline void transpose_quad(unsigned (&x)[4]) {
  const int t = threadIdx.x % 4;
  // Rows and columns that differ in their low bit, then in their high bit, change places.
  const bool odd = t & 1, high = t & 2;
  unsigned near = __shfl_xor_sync(~0u, odd ? x[0] : x[1], 1), far = __shfl_xor_sync(~0u, odd ? x[2] : x[3], 1);
  x[0] = odd ? near : x[0], x[1] = odd ? x[1] : near, x[2] = odd ? far : x[2], x[3] = odd ? x[3] : far;
  near = __shfl_xor_sync(~0u, high ? x[0] : x[2], 2), far = __shfl_xor_sync(~0u, high ? x[1] : x[3], 2);
  x[0] = high ? near : x[0], x[2] = high ? x[2] : near, x[1] = high ? far : x[1], x[3] = high ? x[3] : far;
}

/// By one instruction, of which the compiler otherwise makes four in places.
__device__ inline void store_16_bytes(void* to, const unsigned (&x)[4]) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3])
               : "memory");
}

/// Two numbers side by side, rounded.
template <bool kAligned, class Element>
__device__ inline void store_two(Element* to, float2 x) {
  if constexpr (kAligned && sizeof(Element) == 2) {
    *reinterpret_cast<unsigned*>(to) = packed(Element{}, x.x, x.y);
  } else if constexpr (kAligned) {
    *reinterpret_cast<float2*>(to) = x;
  } else {
    to[0] = element_of(Element{}, x.x), to[1] = element_of(Element{}, x.y);
  }
}

/// Writes up to four blocks of 8 columns of a row side by side, by the four lanes of a row, all of a warp at once. The
/// row begins at `to`; numbers(j) are a lane's two of block j: columns 2t and 2t + 1. Of 16 bits each lane writes 16
/// bytes, so that a row's are 64 in one piece: by pairs, half of each 32 bytes would be written twice.
template <bool kAligned, class Element, class Numbers>
__device__ inline void store_blocks(Element* to, int blocks, bool exists, const Numbers& numbers) {
  const int t = threadIdx.x % 4;
  if constexpr (kAligned && sizeof(Element) == 2) {
    unsigned pairs[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float2 x = numbers(j < blocks ? j : 0);
      pairs[j] = packed(Element{}, x.x, x.y);
    }
    transpose_quad(pairs);
    if (exists && t < blocks) store_16_bytes(to + 8 * t, pairs);
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (exists && j < blocks) store_two<kAligned>(to + 8 * j + 2 * t, numbers(j));
    }
  }
}

/// Likewise a row of kColumns, a multiple of 8.
template <bool kAligned, int kColumns, class Element, class Numbers>
__device__ inline void store_row(Element* to, bool exists, const Numbers& numbers) {
  static_assert(kColumns % 8 == 0);
  constexpr int kBlocks = kColumns / 8;
#pragma unroll
  for (int first = 0; first < kBlocks; first += 4) {
    store_blocks<kAligned>(to + 8 * first, kBlocks - first < 4 ? kBlocks - first : 4, exists,
                           [&](int j) { return numbers(first + j); });
  }
}

}  // namespace tilewise::cuda
