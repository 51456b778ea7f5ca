// Register blocks: the inner loops of every product. Written over a Lanes type that must have internal linkage, so that
// no instantiation leaves the instruction set's own object file.
#pragma once

#include <cstdint>

#define TILEWISE_INLINE inline __attribute__((always_inline))

namespace tilewise::cpu {

/// M x N vectors of accumulators: row m, lanes along N * Lanes::kWidth columns.
template <class Lanes, int M, int N>
struct Accumulators {
  using Vec = typename Lanes::Vec;
  static constexpr int kColumns = N * Lanes::kWidth;
  Vec at[M][N];

  TILEWISE_INLINE void clear() {
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) at[m][n] = Lanes::zero();
    }
  }

  /// c: [M, kColumns], rows c_row floats apart.
  TILEWISE_INLINE void load(const float* c, std::int64_t c_row) {
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) at[m][n] = Lanes::load(c + m * c_row + n * Lanes::kWidth);
    }
  }

  TILEWISE_INLINE void store(float* c, std::int64_t c_row) const {
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) Lanes::store(c + m * c_row + n * Lanes::kWidth, at[m][n]);
    }
  }

  TILEWISE_INLINE void scale(Vec factor) {
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) at[m][n] = Lanes::mul(at[m][n], factor);
    }
  }

  /// at += a b by Lanes::dot, whose operands may hold several neighbours a lane. a: [M, depth], element (m, k) at a[m *
  /// a_row + k * a_step]; b: [depth, kColumns], rows b_step apart.
  TILEWISE_INLINE void multiply(const float* a, std::int64_t a_row, std::int64_t a_step, const float* b,
                                std::int64_t b_step, std::int64_t depth) {
    // Intel's processors count on the ports that make products: in steps of eight a Sapphire Rapids takes 0.92 to 0.96
    // of the time (AVX2) and 0.94 to 0.97 (AVX-512). Written out by hand, GCC 12 spills an address for each row and
    // step, and AVX2 takes 1.06 to 1.09.
#pragma GCC unroll 8
    for (std::int64_t k = 0; k < depth; ++k, a += a_step, b += b_step) {
      Vec right[N];
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) right[n] = Lanes::load(b + n * Lanes::kWidth);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const Vec left = Lanes::broadcast_from(a + m * a_row);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) at[m][n] = Lanes::dot(left, right[n], at[m][n]);
      }
    }
  }
};

}  // namespace tilewise::cpu
