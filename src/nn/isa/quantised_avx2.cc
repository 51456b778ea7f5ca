// AVX2: half of a panel's rows are one register, two columns a lane. Products are added in pairs, and pairs to sums.
#include <immintrin.h>

#include "nn/isa/compiled.h"
#include "nn/isa/each_kind.h"
#include "nn/isa/in_this_order.h"

namespace tilewise::nn {
namespace {

struct Engine {
  using Floats = __m256;
  struct Sums {
    __m256i dots = _mm256_setzero_si256();
  };
  struct Weights {
    __m256i even, odd;  // [8][2] of 16 bits: columns 0 and 2, 1 and 3
  };
  static constexpr int kRows = 8;
  // 6 sums of floats and 6 of integers leave 4 of 16 registers: two of weights, two of products.
  static constexpr int kBunch = 6;

  static Floats zeros() { return _mm256_setzero_ps(); }
  static Floats broadcast(float value) { return _mm256_set1_ps(value); }
  static Floats negative(Floats a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0F)); }
  static Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static void store(Floats a, float* to) { _mm256_storeu_ps(to, a); }
  static Floats halves(const std::byte* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  template <bool kSigned>
  static Floats bytes(const std::byte* from) {
    const __m128i stored = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
    return _mm256_cvtepi32_ps(kSigned ? _mm256_cvtepi8_epi32(stored) : _mm256_cvtepu8_epi32(stored));
  }

  static __m256i load(const std::byte* from, int lane) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(from + 4 * lane));
  }

  /// Bits [kShift, kShift + kCount) of each 16, moved to kTo.
  template <int kShift, int kCount, int kTo>
  static __m256i field(__m256i from) {
    if constexpr (kShift > kTo) from = _mm256_srli_epi16(from, kShift - kTo);
    if constexpr (kShift < kTo) from = _mm256_slli_epi16(from, kTo - kShift);
    if constexpr (kShift + kCount == 16 && kTo == 0) return from;
    return _mm256_and_si256(from, _mm256_set1_epi16(static_cast<short>(((1 << kCount) - 1) << kTo)));
  }

  /// A step's integers in even (kByte 0) or odd columns (1), [8][2] of 16 bits.
  template <int kBits, int kStep, int kByte>
  static __m256i integers(const std::byte* quants, int lane) {
    if constexpr (kBits == 8) {
      const __m256i stored = load(quants + 64 * kStep, lane);
      return _mm256_srai_epi16(kByte == 0 ? _mm256_slli_epi16(stored, 8) : stored, 8);
    } else {
      constexpr int kFirst = 8 * kByte;
      const __m256i low = field<kFirst + (kStep < 4 ? 0 : 4), 4, 0>(load(quants + 64 * (kStep % 4), lane));
      if constexpr (kBits == 5) return _mm256_or_si256(low, field<kFirst + kStep, 1, 4>(load(quants + 256, lane)));
      if constexpr (kBits == 6) {
        return _mm256_or_si256(low, field<kFirst + 2 * (kStep % 4), 2, 4>(load(quants + 256 + 64 * (kStep / 4), lane)));
      }
      return low;
    }
  }

  template <int kBits, int kStep>
  static Weights weights(const std::byte* quants, int lane) {
    return {integers<kBits, kStep, 0>(quants, lane), integers<kBits, kStep, 1>(quants, lane)};
  }

  static __m256i broadcast_two(const std::int16_t* x) {
    int two = 0;
    __builtin_memcpy(&two, x, sizeof(two));
    return _mm256_set1_epi32(two);
  }
  static void add(Sums& sums, __m256i products) {
    sums.dots = _mm256_add_epi32(sums.dots, products);
    in_this_order(sums.dots);
  }
  static void add(Sums& sums, const Weights& w, const std::int16_t* x) {
    add(sums, _mm256_madd_epi16(w.even, broadcast_two(x)));
    add(sums, _mm256_madd_epi16(w.odd, broadcast_two(x + 2)));
  }
  static __m256i total(const Sums& sums) { return sums.dots; }
  template <int kZeroPoint>
  static __m256i less(__m256i dots, std::int32_t total) {
    constexpr int kShift = std::countr_zero(static_cast<unsigned>(kZeroPoint));
    return _mm256_sub_epi32(dots, _mm256_slli_epi32(_mm256_set1_epi32(total), kShift));
  }
  static Floats to_float(__m256i integers) { return _mm256_cvtepi32_ps(integers); }

  template <class Join>
  static int joined(__m256i a, const Join& join) {
    const __m128i four = join(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    const __m128i two = join(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(join(two, _mm_shuffle_epi32(two, 1)));
  }

  static void round(const float* x, ActivationBlock& out) {
    const __m256 values[] = {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8), _mm256_loadu_ps(x + 16),
                             _mm256_loadu_ps(x + 24)};
    const auto bits = [&](int i) {
      return _mm256_and_si256(_mm256_castps_si256(values[i]), _mm256_set1_epi32(0x7FFF'FFFF));
    };
    const __m256i most = _mm256_max_epi32(_mm256_max_epi32(bits(0), bits(1)), _mm256_max_epi32(bits(2), bits(3)));
    const auto scales = Scales::of(joined(most, [](__m128i a, __m128i b) { return _mm_max_epi32(a, b); }));
    if (!scales.are_finite) return scales.store_without_values(out);
    const __m256 inverse = _mm256_set1_ps(scales.inverse);
    const auto rounded = [&](int i) { return _mm256_cvtps_epi32(_mm256_mul_ps(values[i], inverse)); };
    const __m256i a = rounded(0), b = rounded(1), c = rounded(2), d = rounded(3);
    const auto store = [](std::int16_t* to, __m256i first, __m256i second) {
      const auto even_before_odd = [](__m256i integers) { return _mm256_shuffle_epi32(integers, 0b11'01'10'00); };
      const __m256i packed = _mm256_packs_epi32(even_before_odd(first), even_before_odd(second));
      // Packing takes halves of registers in turn.
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permute4x64_epi64(packed, 0b11'01'10'00));
    };
    store(out.values, a, b);
    store(out.values + 16, c, d);
    const auto add = [](__m128i p, __m128i q) { return _mm_add_epi32(p, q); };
    scales.store(joined(_mm256_add_epi32(a, b), add), joined(_mm256_add_epi32(c, d), add), out);
  }
};

}  // namespace

const QuantisedKernels& quantised_avx2() {
  static constexpr QuantisedKernels kKernels = kernels_over<Engine>(Isa::avx2);
  return kKernels;
}

}  // namespace tilewise::nn
