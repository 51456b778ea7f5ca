// Four float32 lanes of any architecture, as the compiler's own vectors: SSE2 on x86-64, NEON on AArch64. Highway 1.0
// would compute lane by lane on the former, whose least set it does not know.
#pragma once

#include <cstdint>

#include "cpu/block.h"
#include "cpu/element.h"

namespace tilewise::cpu {
namespace {

struct PortableLanes {
  using Vec = float __attribute__((vector_size(16)));
  using Words = std::int32_t __attribute__((vector_size(16)));
  static constexpr int kWidth = 4;
#ifdef __FP_FAST_FMAF
  static constexpr bool kFuses = true;
#else
  static constexpr bool kFuses = false;
#endif

  static TILEWISE_INLINE Vec load(const float* p) { return load_as<Vec>(p); }
  static TILEWISE_INLINE Vec load(const BFloat16* p) { return reinterpret_cast<Vec>(load_halves(p) << 16); }
  static TILEWISE_INLINE Vec load(const Float16* p) {
    const Words halves = load_halves(p), magnitude = (halves & 0x7fff) << 13, sign = (halves & 0x8000) << 16;
    // The exponents' biases differ by 112; the product is exact for subnormal numbers too.
    const Words finite = reinterpret_cast<Words>(reinterpret_cast<Vec>(magnitude) * broadcast(0x1p112f));
    const Words is_special = magnitude >= 0x0f800000, special = magnitude | 0x7f800000;
    return reinterpret_cast<Vec>(sign | select(is_special, special, finite));
  }
  static TILEWISE_INLINE Vec load(const std::int8_t* p) {
    using Bytes = std::int8_t __attribute__((vector_size(4)));
    return __builtin_convertvector(load_as<Bytes>(p), Vec);
  }
  /// The first `count` lanes, zero above.
  template <class Element>
  static TILEWISE_INLINE Vec load_first(const Element* p, int count) {
    Element lanes[kWidth] = {};
    for (int i = 0; i < count; ++i) lanes[i] = p[i];
    return load(lanes);
  }
  static TILEWISE_INLINE void store(float* p, Vec x) { __builtin_memcpy(p, &x, sizeof x); }
  static TILEWISE_INLINE Vec broadcast(float x) { return Vec{x, x, x, x}; }
  static TILEWISE_INLINE Vec zero() { return Vec{}; }
  static TILEWISE_INLINE Vec add(Vec a, Vec b) { return a + b; }
  static TILEWISE_INLINE Vec sub(Vec a, Vec b) { return a - b; }
  static TILEWISE_INLINE Vec mul(Vec a, Vec b) { return a * b; }
  /// a b + c, rounded once where the architecture does that at once, else twice.
  static TILEWISE_INLINE Vec fma(Vec a, Vec b, Vec c) {
    if constexpr (kFuses) {
      return Vec{__builtin_fmaf(a[0], b[0], c[0]), __builtin_fmaf(a[1], b[1], c[1]), __builtin_fmaf(a[2], b[2], c[2]),
                 __builtin_fmaf(a[3], b[3], c[3])};
    } else {
      return a * b + c;
    }
  }
  /// The product that blocks are made of: kDepth neighbours a lane.
  static constexpr int kDepth = 1;
  static TILEWISE_INLINE Vec broadcast_from(const float* p) { return broadcast(*p); }
  static TILEWISE_INLINE Vec dot(Vec a, Vec b, Vec sum) { return fma(a, b, sum); }
  /// a b - c, rounded as fma.
  static TILEWISE_INLINE Vec fms(Vec a, Vec b, Vec c) { return fma(a, b, -c); }
  /// The larger; b where either is NaN.
  static TILEWISE_INLINE Vec max(Vec a, Vec b) { return select(a > b, a, b); }
  static TILEWISE_INLINE float sum_of(Vec x) { return (x[0] + x[2]) + (x[1] + x[3]); }
  static TILEWISE_INLINE float max_of(Vec x) {
    const Vec pairs = max(x, __builtin_shufflevector(x, x, 2, 3, 0, 1));
    return pairs[0] > pairs[1] ? pairs[0] : pairs[1];
  }
  /// x, zero where it is NaN or infinite.
  static TILEWISE_INLINE Vec finite_or_zero(Vec x) { return select(x - x == zero(), x, zero()); }
  /// p[i] = the sum of x[i]'s lanes.
  static TILEWISE_INLINE void store_sums(float* p, const Vec (&x)[4]) {
    Vec columns[4] = {x[0], x[1], x[2], x[3]};
    transpose(columns);
    store(p, (columns[0] + columns[2]) + (columns[1] + columns[3]));
  }
  // Rows of a decode block, against four keys, and vectors of its outputs: what sixteen registers hold.
  static constexpr int kDecodeRows = 2;
  static constexpr int kDecodeVectors = 2;
  /// Whether a > b in any lane.
  static TILEWISE_INLINE bool any_greater(Vec a, Vec b) {
    const Words greater = a > b;
    return (greater[0] | greater[1] | greater[2] | greater[3]) != 0;
  }
  /// x where x > -inf or NaN, else zero.
  static TILEWISE_INLINE Vec zero_if_minus_infinity(Vec x) {
    return select(x == broadcast(-__builtin_inff()), zero(), x);
  }
  /// x, zero where w is zero.
  static TILEWISE_INLINE Vec zero_where_zero(Vec w, Vec x) { return select(w == zero(), zero(), x); }

  /// No table: it would take instructions that the least sets lack.
  static constexpr int kTableBits = 0;
  static TILEWISE_INLINE Vec power_table() { return broadcast(1); }
  /// 2^n, n the low bits of index.
  static TILEWISE_INLINE Vec scaled_lookup(Vec table, Vec index) {
    return reinterpret_cast<Vec>(reinterpret_cast<Words>(table) + (reinterpret_cast<Words>(index) << 23));
  }

  /// rows[i][j] becomes rows[j][i].
  static TILEWISE_INLINE void transpose(Vec (&rows)[4]) {
    const Vec ab_low = __builtin_shufflevector(rows[0], rows[1], 0, 4, 1, 5);
    const Vec ab_high = __builtin_shufflevector(rows[0], rows[1], 2, 6, 3, 7);
    const Vec cd_low = __builtin_shufflevector(rows[2], rows[3], 0, 4, 1, 5);
    const Vec cd_high = __builtin_shufflevector(rows[2], rows[3], 2, 6, 3, 7);
    rows[0] = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
    rows[1] = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
    rows[2] = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
    rows[3] = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
  }

 private:
  template <class Any>
  static TILEWISE_INLINE Any load_as(const void* p) {
    Any x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
  }
  static TILEWISE_INLINE Words load_halves(const void* p) {
    using Halves = std::uint16_t __attribute__((vector_size(8)));
    return __builtin_convertvector(load_as<Halves>(p), Words);
  }
  static TILEWISE_INLINE Vec select(Words condition, Vec a, Vec b) {
    return reinterpret_cast<Vec>(select(condition, reinterpret_cast<Words>(a), reinterpret_cast<Words>(b)));
  }
  static TILEWISE_INLINE Words select(Words condition, Words a, Words b) { return (condition & a) | (~condition & b); }
};

}  // namespace
}  // namespace tilewise::cpu
