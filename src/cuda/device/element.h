// The elements that tensors hold: 16-bit ones, which tensor cores take, as bits, since NVRTC needs no other header for
// them; float32, which they take in pieces (mma_float32.h); and float8_e4m3, which those of 9.0 take.
#pragma once

namespace tilewise::cuda {

struct BFloat16 {
  unsigned short bits;
};
struct Float16 {
  unsigned short bits;
};
struct Float32 {
  float value;
};
struct Float8E4m3 {
  unsigned char bits;
};

/// Four elements in one register, the first in its lowest byte, each rounded to nearest even; beyond 448 they are 448.
__device__ inline unsigned packed(Float8E4m3, float x0, float x1, float x2, float x3) {
  unsigned four;
  asm("{\n.reg .b16 low, high;\ncvt.rn.satfinite.e4m3x2.f32 low, %2, %1;\n"
      "cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;\nmov.b32 %0, {low, high};\n}"
      : "=r"(four)
      : "f"(x0), "f"(x1), "f"(x2), "f"(x3));
  return four;
}

/// Two elements in one register, `low` first, each rounded to nearest even.
__device__ inline unsigned packed(BFloat16, float low, float high) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
__device__ inline unsigned packed(Float16, float low, float high) {
  unsigned pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

__device__ inline float value_of(BFloat16 x) { return __uint_as_float(unsigned(x.bits) << 16); }
__device__ inline float value_of(Float16 x) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(x.bits));
  return value;
}

__device__ inline float value_of(Float32 x) { return x.value; }

/// Rounded to nearest even.
template <class Element>
__device__ inline Element element_of(Element, float value) {
  return {static_cast<unsigned short>(packed(Element{}, value, 0.0f) & 0xffffu)};
}
__device__ inline Float32 element_of(Float32, float value) { return {value}; }

/// Four neighbouring elements in memory; `kAligned`: the first lies at a multiple of their bytes.
template <bool kAligned, class Element>
__device__ inline void load_four(const Element* from, float (&to)[4]) {
  if constexpr (kAligned && sizeof(Element) == 2) {
    const uint2 pairs = *reinterpret_cast<const uint2*>(from);
    const unsigned short bits[4] = {static_cast<unsigned short>(pairs.x), static_cast<unsigned short>(pairs.x >> 16),
                                    static_cast<unsigned short>(pairs.y), static_cast<unsigned short>(pairs.y >> 16)};
    for (int i = 0; i < 4; ++i) to[i] = value_of(Element{bits[i]});
  } else {
    for (int i = 0; i < 4; ++i) to[i] = value_of(from[i]);
  }
}
template <bool kAligned, class Element>
__device__ inline void store_four(Element* to, const float (&from)[4]) {
  if constexpr (kAligned && sizeof(Element) == 2) {
    *reinterpret_cast<uint2*>(to) =
        make_uint2(packed(Element{}, from[0], from[1]), packed(Element{}, from[2], from[3]));
  } else {
    for (int i = 0; i < 4; ++i) to[i] = element_of(Element{}, from[i]);
  }
}

/// A power of two that a weight may reach before it is divided by its row's sum. In float16 the largest is 65504; in
/// bfloat16 and float32 the limit only has to keep sums over a tile far from overflow.
template <class Element>
inline constexpr float kLargestWeight = 0x1p20f;
template <>
inline constexpr float kLargestWeight<Float16> = 0x1p14f;

}  // namespace tilewise::cuda
