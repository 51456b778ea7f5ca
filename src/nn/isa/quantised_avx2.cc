// AVX2: half of a panel's rows are one register, four columns a lane. Products of unsigned and signed bytes are added
// in pairs of 16 bits, which hold several steps' before they must be widened.
#include <immintrin.h>

#include "nn/isa/compiled.h"
#include "nn/isa/each_kind.h"
#include "nn/isa/pairs.h"

namespace tilewise::nn {
namespace {

struct Engine {
  using Floats = __m256;
  struct Sums {
    __m256i wide = _mm256_setzero_si256();    // [8] of 32 bits
    __m256i narrow = _mm256_setzero_si256();  // [8][2] of 16 bits
  };
  struct Weights {
    __m256i magnitudes;
    __m256i values;  // with signs; of 8 bits only
  };
  static constexpr int kRows = 8;
  // 4 sums of floats, 4 of 16-bit integers and 4 of 32-bit ones leave 4 of 16 registers.
  static constexpr int kBunch = 4;
  template <PanelShape kShape>
  static constexpr int kZero = zero_of_pairs(kShape);

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

  /// Bits [kShift, kShift + kCount) of each byte, moved to kTo.
  template <int kShift, int kCount, int kTo>
  static __m256i field(__m256i from) {
    const __m256i mask = _mm256_set1_epi8(static_cast<char>(((1 << kCount) - 1) << kTo));
    if constexpr (kShift > kTo) from = _mm256_srli_epi16(from, kShift - kTo);
    if constexpr (kShift < kTo) from = _mm256_slli_epi16(from, kTo - kShift);
    return _mm256_and_si256(from, mask);
  }

  template <int kBits, int kStep>
  static Weights weights(const std::byte* quants, int lane) {
    if constexpr (kBits == 8) {
      const __m256i values = _mm256_xor_si256(load(quants + 64 * kStep, lane), _mm256_set1_epi8(-128));
      return {_mm256_abs_epi8(values), values};
    }
    __m256i w = field < kStep < 4 ? 0 : 4, 4, 0 > (load(quants + 64 * (kStep % 4), lane));
    if constexpr (kBits == 5) w = _mm256_or_si256(w, field<kStep, 1, 4>(load(quants + 256, lane)));
    if constexpr (kBits == 6) {
      w = _mm256_or_si256(w, field<2 * (kStep % 4), 2, 4>(load(quants + 256 + 64 * (kStep / 4), lane)));
    }
    return {w, w};
  }

  static void widen(Sums& sums) {
    sums.wide = _mm256_add_epi32(sums.wide, _mm256_madd_epi16(sums.narrow, _mm256_set1_epi16(1)));
    sums.narrow = _mm256_setzero_si256();
  }

  template <int kBits, int kStep>
  static void add(Sums& sums, const Weights& w, const std::int8_t* x) {
    int four = 0;
    __builtin_memcpy(&four, x, sizeof(four));
    __m256i values = _mm256_set1_epi32(four);
    if constexpr (kBits == 8) values = _mm256_sign_epi8(values, w.values);
    if constexpr (kStep > 0 && kStep % steps_held(kBits) == 0) widen(sums);
    sums.narrow = _mm256_add_epi16(sums.narrow, _mm256_maddubs_epi16(w.magnitudes, values));
  }

  static __m256i total(Sums sums) {
    widen(sums);
    return sums.wide;
  }
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
    // Packing takes halves of registers in turn.
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    const __m256i in_order = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.values), in_order);
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
