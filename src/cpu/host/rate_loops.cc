// Compiled once for each instruction set, as TILEWISE_ISA. All but the entry point has internal linkage.
#include "cpu/host/rate_loops.h"

#include <hwy/highway.h>

namespace tilewise::cpu {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Tag = hn::ScalableTag<float>;

// 2 FMA ports * 4 cycles of latency = 8 sums in flight; 12 leave room, and AVX2's 16 registers hold them and two more.
constexpr int kSums = 12;

double multiply_add(std::int64_t rounds, float* sink) {
  const Tag tag;
  // Factors just below 1 keep the sums finite however long it runs; they come from memory to stay unknown.
  const auto factor = hn::Set(tag, *sink + 0.999f);
  const auto term = hn::Set(tag, *sink + 0.001f);
  // Each starts elsewhere: equal sums would be computed once.
  const auto start = [&](float number) { return hn::Set(tag, *sink + number); };
  auto a = start(1), b = start(2), c = start(3), d = start(4), e = start(5), f = start(6);
  auto g = start(7), h = start(8), i = start(9), j = start(10), k = start(11), l = start(12);
  for (std::int64_t round = 0; round < rounds; ++round) {
    a = hn::MulAdd(a, factor, term), b = hn::MulAdd(b, factor, term), c = hn::MulAdd(c, factor, term);
    d = hn::MulAdd(d, factor, term), e = hn::MulAdd(e, factor, term), f = hn::MulAdd(f, factor, term);
    g = hn::MulAdd(g, factor, term), h = hn::MulAdd(h, factor, term), i = hn::MulAdd(i, factor, term);
    j = hn::MulAdd(j, factor, term), k = hn::MulAdd(k, factor, term), l = hn::MulAdd(l, factor, term);
  }
  const auto abcd = hn::Add(hn::Add(a, b), hn::Add(c, d)), efgh = hn::Add(hn::Add(e, f), hn::Add(g, h));
  const auto ijkl = hn::Add(hn::Add(i, j), hn::Add(k, l));
  *sink = hn::GetLane(hn::Add(hn::Add(abcd, efgh), ijkl)) * 0.0f;
  return 2.0 * kSums * static_cast<double>(hn::Lanes(tag)) * static_cast<double>(rounds);
}

#if defined(__AMX_BF16__)

double bfloat16_dot(std::int64_t rounds, float* sink) {
  struct alignas(64) {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } shapes;
  asm volatile("ldtilecfg %0" : : "m"(shapes));  // and every tile is zero
  for (std::int64_t round = 0; round < rounds / 16; ++round) {
    asm volatile(
        "tdpbf16ps %tmm6, %tmm4, %tmm0\n tdpbf16ps %tmm7, %tmm4, %tmm1\n"
        "tdpbf16ps %tmm6, %tmm5, %tmm2\n tdpbf16ps %tmm7, %tmm5, %tmm3");
  }
  asm volatile("tilerelease");
  *sink = 0;
  return 4.0 * 16 * 16 * 64 * static_cast<double>(rounds / 16);
}

#elif defined(__AVX512BF16__)

double bfloat16_dot(std::int64_t rounds, float* sink) {
  const auto ones = reinterpret_cast<__m512bh>(_mm512_set1_epi16(static_cast<short>(*sink) + 0x3f80));
  __m512 sums[kSums];  // unrolled, each keeps a register
  for (int i = 0; i < kSums; ++i) sums[i] = _mm512_set1_ps(*sink + static_cast<float>(i));
  for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, ones, ones);
  }
  for (int i = 1; i < kSums; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  *sink = _mm512_cvtss_f32(sums[0]) * 0.0f;
  return 4.0 * kSums * 16 * static_cast<double>(rounds);
}

#else

constexpr double (*bfloat16_dot)(std::int64_t, float*) = nullptr;

#endif

// A processor prefetches within a page by itself, from where it was last asked for. Lines of the next block, asked for
// in four pages in turn, give it four pages to follow: 63 to 65 GB/s on four Sapphire Rapids cores, where one page
// after the other gave 53 to 61, and nothing asked for 59.
constexpr std::int64_t kPage = 4096 / sizeof(float), kBlock = 4 * kPage, kLine = 64 / sizeof(float);

/// Asks for the `step`th of 16 parts of the block behind the one at `block`: as many lines of each of its pages.
void ask_for_next(const float* block, std::int64_t step) {
  for (std::int64_t line = 4 * step; line < 4 * (step + 1); ++line) {
    for (std::int64_t page = 0; page < 4; ++page) __builtin_prefetch(block + kBlock + page * kPage + line * kLine);
  }
}

void read(const float* data, std::int64_t count, float* sink) {
  const Tag tag;
  const auto width = static_cast<std::int64_t>(hn::Lanes(tag));
  auto a = hn::Zero(tag), b = a, c = a, d = a;
  for (std::int64_t at = 0; at < count; at += 4 * width) {
    if (at % 256 == 0) ask_for_next(data + at / kBlock * kBlock, at % kBlock / 256);
    a = hn::Add(a, hn::LoadU(tag, data + at));
    b = hn::Add(b, hn::LoadU(tag, data + at + width));
    c = hn::Add(c, hn::LoadU(tag, data + at + 2 * width));
    d = hn::Add(d, hn::LoadU(tag, data + at + 3 * width));
  }
  *sink = hn::GetLane(hn::Add(hn::Add(a, b), hn::Add(c, d)));
}

constexpr RateLoops kLoops{multiply_add, bfloat16_dot, read};

}  // namespace

template <>
const RateLoops& compiled_rate_loops<Isa::TILEWISE_ISA>() {
  return kLoops;
}

}  // namespace tilewise::cpu
