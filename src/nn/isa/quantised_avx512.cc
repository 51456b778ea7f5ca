// AVX-512: an even and an odd block fill one register, so that the definition's sixteen parts are one sum.
#include <immintrin.h>

#include "nn/isa/compiled.h"
#include "nn/isa/each_kind.h"

namespace tilewise::nn {
namespace {

// Tokens that share two blocks of weights once they are unpacked.
constexpr int kMostTokens = 8;

struct Factors {
  float scale, minimum;
};

inline float half_at(const std::byte* from) {
  unsigned short bits = 0;
  __builtin_memcpy(&bits, from, sizeof(bits));
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
}

template <WeightKind kKind>
inline Factors factors(const std::byte* from) {
  return {half_at(from), kKind == WeightKind::q4_1 ? half_at(from + 2) : 0};
}

/// A block's 32 int8.
template <WeightKind kKind>
inline __m256i integers(const std::byte* from) {
  if constexpr (kKind == WeightKind::q8_0) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 2));
  constexpr int kQuants = kKind == WeightKind::q4_1 ? 4 : 2;
  const __m128i pairs = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + kQuants));
  const __m256i quants = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(pairs, 4), pairs), _mm256_set1_epi8(15));
  return kKind == WeightKind::q4_0 ? _mm256_sub_epi8(quants, _mm256_set1_epi8(8)) : quants;
}

inline __m512i both(__m256i even, __m256i odd) { return _mm512_inserti64x4(_mm512_castsi256_si512(even), odd, 1); }

inline __m512 both(float even, float odd) { return _mm512_insertf32x8(_mm512_set1_ps(even), _mm256_set1_ps(odd), 1); }

inline __m256i integers(const ActivationBlock& block) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block.values));
}

/// Sixteen sums of four products. Pairs fit int16: |x| <= 127 and |w| <= 128, so at most 32,512.
inline __m512i dots(__m512i magnitudes, __mmask64 negative, __m512i x) {
  const __m512i turned = _mm512_mask_sub_epi8(x, negative, _mm512_setzero_si512(), x);
  return _mm512_madd_epi16(_mm512_maddubs_epi16(magnitudes, turned), _mm512_set1_epi16(1));
}

inline float reduced(__m512 part) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(part), _mm512_extractf32x8_ps(part, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

inline float fused(float a, float b, float c) {
  return _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c)));
}

template <WeightKind kKind, int kTokens>
void row_of(const std::byte* row, std::int64_t blocks, std::int64_t bytes, const ActivationBlock* x, float* y,
            std::int64_t y_stride) {
  __m512 part[kTokens];
  float low[kTokens][2];
  for (int t = 0; t < kTokens; ++t) {
    part[t] = _mm512_setzero_ps();
    low[t][0] = low[t][1] = 0;
  }
  std::int64_t b = 0;
  for (; b + 2 <= blocks; b += 2) {
    const std::byte *even = row + b * bytes, *odd = even + bytes;
    const __m512i w = both(integers<kKind>(even), integers<kKind>(odd));
    const __m512i magnitudes = _mm512_abs_epi8(w);
    const __mmask64 negative = _mm512_movepi8_mask(w);
    const Factors first = factors<kKind>(even), second = factors<kKind>(odd);
    const __m512 scales = both(first.scale, second.scale);
    for (int t = 0; t < kTokens; ++t) {
      const ActivationBlock* a = x + t * blocks + b;
      const __m512i sums = dots(magnitudes, negative, both(integers(a[0]), integers(a[1])));
      part[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_mul_ps(scales, both(a[0].scale, a[1].scale)), part[t]);
      if constexpr (kKind == WeightKind::q4_1) {
        low[t][0] = fused(first.minimum, a[0].sum, low[t][0]);
        low[t][1] = fused(second.minimum, a[1].sum, low[t][1]);
      }
    }
  }
  if (b < blocks) {
    // The odd half is left as it is: it takes part in no operation.
    constexpr __mmask16 kEven = 0x00FF;
    const std::byte* even = row + b * bytes;
    const __m512i w = both(integers<kKind>(even), _mm256_setzero_si256());
    const Factors first = factors<kKind>(even);
    for (int t = 0; t < kTokens; ++t) {
      const ActivationBlock& a = x[t * blocks + b];
      const __m512i sums = dots(_mm512_abs_epi8(w), _mm512_movepi8_mask(w), both(integers(a), _mm256_setzero_si256()));
      part[t] = _mm512_mask3_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(first.scale * a.scale), part[t], kEven);
      if constexpr (kKind == WeightKind::q4_1) low[t][0] = fused(first.minimum, a.sum, low[t][0]);
    }
  }
  for (int t = 0; t < kTokens; ++t) y[t * y_stride] = reduced(part[t]) + (low[t][0] + low[t][1]);
}

template <WeightKind kKind, int kTokens>
struct RowOf {
  static void run(const std::byte* row, std::int64_t blocks, std::int64_t bytes, const ActivationBlock* x, float* y,
                  std::int64_t y_stride) {
    row_of<kKind, kTokens>(row, blocks, bytes, x, y, y_stride);
  }
};

}  // namespace

const QuantisedKernels& quantised_avx512() {
  static constexpr QuantisedKernels kKernels{Isa::avx512, multiply_each_kind<RowOf, kMostTokens>};
  return kKernels;
}

}  // namespace tilewise::nn
