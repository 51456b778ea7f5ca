// The PTX instructions of the portable kernels, for this processor: each is a function of its name, whose dots are
// underscores, of its outputs and then its inputs (see host_text). Layouts are those of the PTX ISA, "Matrix
// Fragments".
#pragma once

#include "core/half.h"
#include "simt.h"

namespace ptx {

inline float of_bfloat16(unsigned bits) { return __uint_as_float(bits << 16); }
inline unsigned to_bfloat16(float x) {
  if (x != x) return 0x7fff;
  const unsigned bits = __float_as_uint(x);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
inline float of_float16(unsigned bits) {
  return static_cast<float>(tilewise::Float16::from_bits(static_cast<std::uint16_t>(bits)));
}
inline unsigned to_float16(float x) { return x != x ? 0x7fff : tilewise::Float16(x).bits; }

inline void cvt_rn_bf16x2_f32(unsigned& pair, float high, float low) {
  pair = to_bfloat16(low) | to_bfloat16(high) << 16;
}
inline void cvt_rn_f16x2_f32(unsigned& pair, float high, float low) { pair = to_float16(low) | to_float16(high) << 16; }
inline void cvt_f32_f16(float& value, unsigned short bits) { value = of_float16(bits); }
inline void cvt_rna_tf32_f32(unsigned& bits, float x) { bits = (__float_as_uint(x) + 0x1000) & ~0x1fffu; }

inline void ex2_approx_ftz_f32(float& y, float x) { y = std::exp2(x); }
inline void lg2_approx_f32(float& y, float x) { y = std::log2(x); }
inline void rcp_approx_ftz_f32(float& y, float x) { y = 1 / x; }
inline void sqrt_approx_ftz_f32(float& y, float x) { y = std::sqrt(x); }
inline void rsqrt_approx_ftz_f32(float& y, float x) { y = 1 / std::sqrt(x); }
inline void sin_approx_f32(float& y, float x) { y = std::sin(x); }
inline void cos_approx_f32(float& y, float x) { y = std::cos(x); }
inline void tanh_approx_f32(float& y, float x) { y = std::tanh(x); }
inline void max_NaN_f32(float& y, float a, float b) { y = a != a ? a : b != b ? b : std::fmax(a, b); }
inline void min_NaN_f32(float& y, float a, float b) { y = a != a ? a : b != b ? b : std::fmin(a, b); }

inline void start_copy(unsigned to, const void* from, int bytes, int existing) {
  simt::fibers[simt::current].copies.back().push_back({to, from, bytes, existing});
}
inline void cp_async_cg_shared_global(unsigned to, const void* from, int existing) {
  start_copy(to, from, 16, existing);
}
inline void cp_async_ca_shared_global(unsigned to, const void* from, int existing) {
  start_copy(to, from, 4, existing);
}
inline void cp_async_commit_group() { simt::fibers[simt::current].copies.emplace_back(); }
inline void cp_async_wait_group(std::size_t pending) {
  auto& groups = simt::fibers[simt::current].copies;
  for (; groups.size() - 1 > pending; groups.pop_front()) {
    for (const simt::Copy& copy : groups.front()) {
      std::memset(&simt::shared<char>(copy.to), 0, static_cast<std::size_t>(copy.bytes));
      std::memcpy(&simt::shared<char>(copy.to), copy.from, static_cast<std::size_t>(copy.existing));
    }
  }
}

/// What a barrier's 8 bytes hold.
struct Barrier {
  std::uint16_t expected, pending;
  std::uint32_t phase;
};
inline void mbarrier_init_shared_b64(unsigned address, int arrivals) {
  const auto count = static_cast<std::uint16_t>(arrivals);
  simt::shared<Barrier>(address) = {count, count, 0};
}
inline void mbarrier_arrive_shared_b64(unsigned address) {
  auto& barrier = simt::shared<Barrier>(address);
  simt::has_progress = true;
  if (--barrier.pending > 0) return;
  barrier.pending = barrier.expected;
  ++barrier.phase;
}
inline void mbarrier_try_wait_parity_shared_b64(unsigned& is_complete, unsigned address, int parity) {
  simt::wait_until([&] { return simt::shared<Barrier>(address).phase % 2 != static_cast<unsigned>(parity); });
  is_complete = 1;
}
inline void cp_async_mbarrier_arrive_noinc_shared_b64(unsigned address) {
  cp_async_commit_group();
  cp_async_wait_group(0);
  mbarrier_arrive_shared_b64(address);
}

// Kernels run one after the other here.
inline void griddepcontrol_wait() {}
inline void griddepcontrol_launch_dependents() {}

inline void ld_global_s32(int& value, const int* from) { value = *from; }
inline void st_shared_u16(unsigned to, unsigned short value) { simt::shared<unsigned short>(to) = value; }
inline void st_shared_u32(unsigned to, unsigned value) { simt::shared<unsigned>(to) = value; }
inline void st_shared_v2_f32(unsigned to, float x, float y) { simt::shared<float2>(to) = {x, y}; }
inline void ld_shared_u16(unsigned short& value, unsigned from) { value = simt::shared<unsigned short>(from); }
inline void ld_shared_f32(float& value, unsigned from) { value = simt::shared<float>(from); }
inline void ld_shared_v2_f32(float& x, float& y, unsigned from) {
  const float2 pair = simt::shared<float2>(from);
  x = pair.x, y = pair.y;
}
inline void ld_shared_v4_u32(unsigned& x, unsigned& y, unsigned& z, unsigned& w, unsigned from) {
  const uint4 all = simt::shared<uint4>(from);
  x = all.x, y = all.y, z = all.z, w = all.w;
}
inline void st_global_v4_u32(void* to, unsigned x, unsigned y, unsigned z, unsigned w) {
  const unsigned four[] = {x, y, z, w};
  std::memcpy(to, four, sizeof four);
}
inline void red_global_add_v4_f32(float* to, float x, float y, float z, float w) {
  to[0] += x, to[1] += y, to[2] += z, to[3] += w;
}

/// Four 8 x 8 matrices of 16-bit elements; lane 8 m + r gives the address of row r of matrix m.
template <bool kTransposed>
void load_matrices(unsigned* const (&to)[4], unsigned address) {
  const simt::Shown* addresses = simt::exchange(simt::shown_of(address));
  const int lane = threadIdx.x % 32;
  for (int matrix = 0; matrix < 4; ++matrix) {
    *to[matrix] = 0;
    for (int i = 0; i < 2; ++i) {
      const int row = kTransposed ? lane % 4 * 2 + i : lane / 4, column = kTransposed ? lane / 4 : lane % 4 * 2 + i;
      const auto from = simt::value_of<unsigned>(addresses[8 * matrix + row]);
      *to[matrix] |= unsigned(simt::shared<unsigned short>(from + 2 * column)) << 16 * i;
    }
  }
  simt::exchange({});  // nothing is overwritten before all lanes have read
}
inline void ldmatrix_sync_aligned_m8n8_x4_shared_b16(unsigned& a, unsigned& b, unsigned& c, unsigned& d,
                                                     unsigned address) {
  load_matrices<false>({&a, &b, &c, &d}, address);
}
inline void ldmatrix_sync_aligned_m8n8_x4_trans_shared_b16(unsigned& a, unsigned& b, unsigned& c, unsigned& d,
                                                           unsigned address) {
  load_matrices<true>({&a, &b, &c, &d}, address);
}

inline void stmatrix_sync_aligned_m8n8_x4_shared_b16(unsigned address, unsigned a, unsigned b, unsigned c, unsigned d) {
  const simt::Shown* addresses = simt::exchange(simt::shown_of(address));
  const int lane = threadIdx.x % 32;
  const unsigned matrices[] = {a, b, c, d};
  for (int matrix = 0; matrix < 4; ++matrix) {
    const auto to = simt::value_of<unsigned>(addresses[8 * matrix + lane / 4]);
    simt::shared<unsigned>(to + lane % 4 * 4) = matrices[matrix];
  }
  simt::exchange({});
}

/// d += a b of 16 x 16 and 16 x 8, in the order of the sixteen products.
template <class ValueOf>
void multiply_add(float* const (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], ValueOf value_of) {
  struct Fragments {
    unsigned a[4], b[2];
  };
  const simt::Shown* all = simt::exchange(simt::shown_of(Fragments{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}));
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  for (int e = 0; e < 4; ++e) {
    const int column = 2 * t + e % 2;
    for (int k = 0; k < 16; ++k) {
      const auto left = simt::value_of<Fragments>(all[4 * g + k % 8 / 2]);
      const auto right = simt::value_of<Fragments>(all[4 * column + k % 8 / 2]);
      const int shift = k % 2 * 16;
      *d[e] += value_of(left.a[e / 2 + k / 8 * 2] >> shift & 0xffff) * value_of(right.b[k / 8] >> shift & 0xffff);
    }
  }
}
inline void mma_sync_aligned_m16n8k16_row_col_f32_bf16_bf16_f32(float& d0, float& d1, float& d2, float& d3, unsigned a0,
                                                                unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                                                unsigned b1) {
  multiply_add({&d0, &d1, &d2, &d3}, {a0, a1, a2, a3}, {b0, b1}, of_bfloat16);
}
inline void mma_sync_aligned_m16n8k16_row_col_f32_f16_f16_f32(float& d0, float& d1, float& d2, float& d3, unsigned a0,
                                                              unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                                              unsigned b1) {
  multiply_add({&d0, &d1, &d2, &d3}, {a0, a1, a2, a3}, {b0, b1}, of_float16);
}

/// 16 x 8 and 8 x 8, of float32 whose low bits are zero.
inline void mma_sync_aligned_m16n8k8_row_col_f32_tf32_tf32_f32(float& d0, float& d1, float& d2, float& d3, unsigned a0,
                                                               unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                                               unsigned b1) {
  struct Fragments {
    unsigned a[4], b[2];
  };
  const simt::Shown* all = simt::exchange(simt::shown_of(Fragments{{a0, a1, a2, a3}, {b0, b1}}));
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  float* const d[4] = {&d0, &d1, &d2, &d3};
  for (int e = 0; e < 4; ++e) {
    for (int k = 0; k < 8; ++k) {
      const auto left = simt::value_of<Fragments>(all[4 * g + k % 4]);
      const auto right = simt::value_of<Fragments>(all[4 * (2 * t + e % 2) + k % 4]);
      *d[e] += __uint_as_float(left.a[e / 2 + k / 4 * 2]) * __uint_as_float(right.b[k / 4]);
    }
  }
}

}  // namespace ptx
