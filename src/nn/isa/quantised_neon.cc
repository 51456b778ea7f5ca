// NEON: a quarter of a panel's rows are one register of sums.
#include <arm_neon.h>

#include "nn/isa/compiled.h"
#include "nn/isa/each_kind.h"

namespace tilewise::nn {
namespace {

struct Engine {
  using Floats = float32x4_t;
  struct Sums {
    int32x4_t dots[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};  // rows 0 and 1, 2 and 3: [2][2 columns]
  };
  struct Weights {
    int16x8_t even, odd;  // [4][2]: columns 0 and 2, 1 and 3
  };
  static constexpr int kRows = 4;
  // 3 registers a token, of 32.
  static constexpr int kBunch = 8;

  static Floats zeros() { return vdupq_n_f32(0); }
  static Floats broadcast(float value) { return vdupq_n_f32(value); }
  static Floats negative(Floats a) { return vnegq_f32(a); }
  static Floats multiply(Floats a, Floats b) { return vmulq_f32(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }
  static void store(Floats a, float* to) { vst1q_f32(to, a); }
  static Floats halves(const std::byte* from) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(from))));
  }
  template <bool kSigned>
  static Floats bytes(const std::byte* from) {
    std::uint32_t four = 0;
    __builtin_memcpy(&four, from, sizeof(four));
    const uint8x8_t stored = vreinterpret_u8_u32(vdup_n_u32(four));
    if constexpr (kSigned) return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(stored)))));
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(stored))));
  }

  static uint16x8_t load(const std::byte* from, int lane) {
    return vreinterpretq_u16_u8(vld1q_u8(reinterpret_cast<const std::uint8_t*>(from) + 4 * lane));
  }

  /// Bits [kShift, kShift + kCount) of each 16, moved to kTo.
  template <int kShift, int kCount, int kTo>
  static uint16x8_t field(uint16x8_t from) {
    if constexpr (kShift > kTo) from = vshrq_n_u16(from, kShift - kTo);
    if constexpr (kShift < kTo) from = vshlq_n_u16(from, kTo - kShift);
    if constexpr (kShift + kCount == 16 && kTo == 0) return from;
    return vandq_u16(from, vdupq_n_u16(((1 << kCount) - 1) << kTo));
  }

  /// A step's integers in even (kByte 0) or odd columns (1).
  template <int kBits, int kStep, int kByte>
  static int16x8_t integers(const std::byte* quants, int lane) {
    if constexpr (kBits == 8) {
      const int16x8_t stored = vreinterpretq_s16_u16(load(quants + 64 * kStep, lane));
      return vshrq_n_s16(kByte == 0 ? vshlq_n_s16(stored, 8) : stored, 8);
    } else {
      constexpr int kFirst = 8 * kByte;
      uint16x8_t w = field<kFirst + (kStep < 4 ? 0 : 4), 4, 0>(load(quants + 64 * (kStep % 4), lane));
      if constexpr (kBits == 5) w = vorrq_u16(w, field<kFirst + kStep, 1, 4>(load(quants + 256, lane)));
      if constexpr (kBits == 6) {
        w = vorrq_u16(w, field<kFirst + 2 * (kStep % 4), 2, 4>(load(quants + 256 + 64 * (kStep / 4), lane)));
      }
      return vreinterpretq_s16_u16(w);
    }
  }

  template <int kBits, int kStep>
  static Weights weights(const std::byte* quants, int lane) {
    return {integers<kBits, kStep, 0>(quants, lane), integers<kBits, kStep, 1>(quants, lane)};
  }

  static void add(Sums& sums, int16x8_t w, const std::int16_t* x) {
    std::int32_t two = 0;
    __builtin_memcpy(&two, x, sizeof(two));
    const int16x8_t values = vreinterpretq_s16_s32(vdupq_n_s32(two));
    sums.dots[0] = vmlal_s16(sums.dots[0], vget_low_s16(w), vget_low_s16(values));
    sums.dots[1] = vmlal_high_s16(sums.dots[1], w, values);
  }
  static void add(Sums& sums, const Weights& w, const std::int16_t* x) {
    add(sums, w.even, x);
    add(sums, w.odd, x + 2);
  }
  static int32x4_t total(const Sums& sums) { return vpaddq_s32(sums.dots[0], sums.dots[1]); }
  template <int kZeroPoint>
  static int32x4_t less(int32x4_t dots, std::int32_t total) {
    return vsubq_s32(dots, vdupq_n_s32(total * kZeroPoint));
  }
  static Floats to_float(int32x4_t integers) { return vcvtq_f32_s32(integers); }
  static void round(const float* x, ActivationBlock& out) { round_block(x, out); }
};

}  // namespace

const QuantisedKernels& quantised_neon() {
  static constexpr QuantisedKernels kKernels = kernels_over<Engine>(Isa::baseline);
  return kKernels;
}

}  // namespace tilewise::nn
