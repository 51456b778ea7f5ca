// NEON: a quarter of a panel's rows are one register. Products of bytes are added in 16 bits, one to a lane, which hold
// several steps' before they must be widened.
#include <arm_neon.h>

#include "nn/isa/compiled.h"
#include "nn/isa/each_kind.h"

namespace tilewise::nn {
namespace {

/// Steps whose products 16 bits hold: at most 2^bits - 1 times 127 each. Integers of 8 bits are taken as signed.
constexpr int steps_held(int bits) { return 32767 / ((bits == 8 ? 128 : (1 << bits) - 1) * 127); }
static_assert(steps_held(4) >= 8 && steps_held(5) == 8 && steps_held(6) == 4 && steps_held(8) == 2);

struct Engine {
  using Floats = float32x4_t;
  struct Sums {
    int16x8_t narrow[2] = {vdupq_n_s16(0), vdupq_n_s16(0)};  // rows 0 and 1, 2 and 3: [2][4 columns]
    int32x4_t wide = vdupq_n_s32(0);
  };
  static constexpr int kRows = 4;
  // 3 registers a token, of 32; 4 sums of 32 bits remain where 16 bits hold a group.
  static constexpr int kBunch = 8;
  template <PanelShape kShape>
  static constexpr int kZero = kShape.bits == 8 ? 0 : kShape.zero;

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

  static uint8x16_t load(const std::byte* from, int lane) {
    return vld1q_u8(reinterpret_cast<const std::uint8_t*>(from) + 4 * lane);
  }

  /// Bits [kShift, kShift + kCount) of each byte, moved to kTo.
  template <int kShift, int kCount, int kTo>
  static uint8x16_t field(uint8x16_t from) {
    if constexpr (kShift > kTo) from = vshrq_n_u8(from, kShift - kTo);
    if constexpr (kShift < kTo) from = vshlq_n_u8(from, kTo - kShift);
    return vandq_u8(from, vdupq_n_u8(((1 << kCount) - 1) << kTo));
  }

  template <int kBits, int kStep>
  static int8x16_t weights(const std::byte* quants, int lane) {
    uint8x16_t w;
    if constexpr (kBits == 8) {
      w = veorq_u8(load(quants + 64 * kStep, lane), vdupq_n_u8(0x80));
    } else {
      w = field < kStep < 4 ? 0 : 4, 4, 0 > (load(quants + 64 * (kStep % 4), lane));
    }
    if constexpr (kBits == 5) w = vorrq_u8(w, field<kStep, 1, 4>(load(quants + 256, lane)));
    if constexpr (kBits == 6) {
      w = vorrq_u8(w, field<2 * (kStep % 4), 2, 4>(load(quants + 256 + 64 * (kStep / 4), lane)));
    }
    return vreinterpretq_s8_u8(w);
  }

  static void widen(Sums& sums) {
    sums.wide = vaddq_s32(sums.wide, vpaddq_s32(vpaddlq_s16(sums.narrow[0]), vpaddlq_s16(sums.narrow[1])));
    sums.narrow[0] = sums.narrow[1] = vdupq_n_s16(0);
  }

  template <int kBits, int kStep>
  static void add(Sums& sums, int8x16_t w, const std::int8_t* x) {
    std::int32_t four = 0;
    __builtin_memcpy(&four, x, sizeof(four));
    const int8x16_t values = vreinterpretq_s8_s32(vdupq_n_s32(four));
    if constexpr (kStep > 0 && kStep % steps_held(kBits) == 0) widen(sums);
    sums.narrow[0] = vmlal_s8(sums.narrow[0], vget_low_s8(w), vget_low_s8(values));
    sums.narrow[1] = vmlal_high_s8(sums.narrow[1], w, values);
  }

  static int32x4_t total(Sums sums) {
    widen(sums);
    return sums.wide;
  }
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
