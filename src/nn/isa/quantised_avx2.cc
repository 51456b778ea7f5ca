// AVX2: a block is one register of 32 integers, its eight dots another; even and odd blocks have a sum each.
#include <immintrin.h>

#include "nn/isa/compiled.h"
#include "nn/isa/each_kind.h"

namespace tilewise::nn {
namespace {

// Tokens that share a block of weights once it is unpacked: two sums each, so 8 of 16 registers.
constexpr int kMostTokens = 4;

struct Block {
  __m256i values;  // 32 int8, or uint8 for q4_1
  float scale, minimum;
};

inline float half_at(const std::byte* from) {
  unsigned short bits = 0;
  __builtin_memcpy(&bits, from, sizeof(bits));
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
}

/// 32 4-bit numbers: the low halves of 16 bytes, then the high ones.
inline __m256i nibbles(const std::byte* from) {
  const __m128i pairs = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(pairs, 4), pairs), _mm256_set1_epi8(15));
}

template <WeightKind kKind>
inline Block load(const std::byte* from) {
  if constexpr (kKind == WeightKind::q4_0) {
    return {_mm256_sub_epi8(nibbles(from + 2), _mm256_set1_epi8(8)), half_at(from), 0};
  } else if constexpr (kKind == WeightKind::q4_1) {
    return {nibbles(from + 4), half_at(from), half_at(from + 2)};
  } else {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 2)), half_at(from), 0};
  }
}

/// Eight sums of four products. Pairs fit int16: -127 <= x, and |w| <= 128, so 2 * 127 * 128 = 32,512.
inline __m256i dots(__m256i w, __m256i x) {
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

inline float reduced(__m256 even, __m256 odd) {
  const __m256 eight = _mm256_add_ps(even, odd);
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
  __m256 part[kTokens][2];
  float low[kTokens][2];
  for (int t = 0; t < kTokens; ++t) {
    part[t][0] = part[t][1] = _mm256_setzero_ps();
    low[t][0] = low[t][1] = 0;
  }
  const auto add = [&](std::int64_t b, int p) __attribute__((always_inline)) {
    const Block w = load<kKind>(row + b * bytes);
    for (int t = 0; t < kTokens; ++t) {
      const ActivationBlock& a = x[t * blocks + b];
      const __m256i values = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a.values));
      part[t][p] =
          _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots(w.values, values)), _mm256_set1_ps(w.scale * a.scale), part[t][p]);
      if constexpr (kKind == WeightKind::q4_1) low[t][p] = fused(w.minimum, a.sum, low[t][p]);
    }
  };
  std::int64_t b = 0;
  for (; b + 2 <= blocks; b += 2) add(b, 0), add(b + 1, 1);
  if (b < blocks) add(b, 0);
  for (int t = 0; t < kTokens; ++t) y[t * y_stride] = reduced(part[t][0], part[t][1]) + (low[t][0] + low[t][1]);
}

template <WeightKind kKind, int kTokens>
struct RowOf {
  static void run(const std::byte* row, std::int64_t blocks, std::int64_t bytes, const ActivationBlock* x, float* y,
                  std::int64_t y_stride) {
    row_of<kKind, kTokens>(row, blocks, bytes, x, y, y_stride);
  }
};

}  // namespace

const QuantisedKernels& quantised_avx2() {
  static constexpr QuantisedKernels kKernels{Isa::avx2, multiply_each_kind<RowOf, kMostTokens>};
  return kKernels;
}

}  // namespace tilewise::nn
