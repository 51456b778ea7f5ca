// Appending to a paged cache on a GPU.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "core/element.h"
#include "tests/gpu/with_gpu.h"
#include "tests/refusal.h"
#include "tilewise/error.h"
#include "tilewise/gpu_cache.h"
#include "tilewise/gpu_memory.h"

namespace tilewise::attention::testing {
namespace {

constexpr std::int64_t kHeads = 2, kPages = 9, kPageTokens = 5, kColumnsK = 48, kColumnsV = 40, kRowsOfNew = 7;

/// 16-bit elements on both sides.
struct Elements {
  Elements(std::size_t count, DType dtype, unsigned seed)
      : bits(count), gpu(static_cast<std::int64_t>(2 * count), Device::cuda()) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    for (std::uint16_t& element : bits) store_real(reinterpret_cast<std::byte*>(&element), dtype, normal(random));
    gpu.upload(std::as_bytes(std::span(bits)));
  }
  std::vector<std::uint16_t> from_gpu() const {
    std::vector<std::uint16_t> now(bits.size());
    gpu.download(std::as_writable_bytes(std::span(now)));
    return now;
  }
  std::vector<std::uint16_t> bits;
  GpuMemory gpu;
};

class AppendOnGpu : public jit::WithGpu {
 protected:
  /// Three sequences: one in the middle of a page, one over the end of one, one with a hole and a key offset.
  const std::vector<Sequence> sequences_ = {
      {.s_q = 2, .s_kv = 9}, {.s_q = 7, .s_kv = 7}, {.s_q = 3, .s_kv = 12, .key_offset = 1000}};
  const std::vector<std::int32_t> table_ = {3, 0, -1, 8, 5, -1, 7, -1, 2};  // [3, 3]

  void expect_right(DType dtype, const std::optional<Rotary>& rotary) {
    const Elements k(3 * kHeads * kRowsOfNew * kColumnsK, dtype, 1), v(3 * kHeads * kRowsOfNew * kColumnsV, dtype, 2),
        k_pages(kPages * kHeads * kPageTokens * kColumnsK, dtype, 3),
        v_pages(kPages * kHeads * kPageTokens * kColumnsV, dtype, 4);
    const GpuMemory table(static_cast<std::int64_t>(table_.size() * 4), Device::cuda());
    table.upload(std::as_bytes(std::span(table_)));
    const GpuCacheAppender appender(
        {.dtype = dtype, .b = 3, .h_kv = kHeads, .d_qk = kColumnsK, .d_v = kColumnsV, .rotary = rotary},
        Device::cuda());
    Workspace workspace(appender.workspace_bytes(), Device::cuda());
    appender.append({.k = ConstTensor(k.gpu.data(), dtype, {3, kHeads, kRowsOfNew, kColumnsK}),
                     .v = ConstTensor(v.gpu.data(), dtype, {3, kHeads, kRowsOfNew, kColumnsV}),
                     .k_pages = Tensor(k_pages.gpu.data(), dtype, {kPages, kHeads, kPageTokens, kColumnsK}),
                     .v_pages = Tensor(v_pages.gpu.data(), dtype, {kPages, kHeads, kPageTokens, kColumnsV}),
                     .block_table = ConstTensor(table.data(), DType::int32, {3, 3}),
                     .sequences = sequences_},
                    workspace);
    synchronize(Device::cuda());
    std::vector<std::uint16_t> expected_v = v_pages.bits;
    const std::vector<std::uint16_t> got_k = k_pages.from_gpu(), got_v = v_pages.from_gpu();
    std::vector<double> expected_k;
    for (const std::uint16_t& bits : k_pages.bits)
      expected_k.push_back(load_real(reinterpret_cast<const std::byte*>(&bits), dtype));
    for (std::size_t b = 0; b < 3; ++b) {
      for (std::int64_t j = 0; j < sequences_[b].s_q; ++j) {
        const std::int64_t index = sequences_[b].s_kv - sequences_[b].s_q + j;
        const std::int32_t page = table_[b * 3 + static_cast<std::size_t>(index / kPageTokens)];
        if (page < 0) continue;
        for (std::int64_t h = 0; h < kHeads; ++h) {
          const auto from = (static_cast<std::int64_t>(b) * kHeads + h) * kRowsOfNew + j;
          const auto to = (page * kHeads + h) * kPageTokens + index % kPageTokens;
          std::memcpy(&expected_v[static_cast<std::size_t>(to * kColumnsV)],
                      &v.bits[static_cast<std::size_t>(from * kColumnsV)], 2 * kColumnsV);
          const std::vector<double> row = rotated(&k.bits[static_cast<std::size_t>(from * kColumnsK)], dtype, rotary,
                                                  static_cast<double>(sequences_[b].key_offset + index));
          std::copy(row.begin(), row.end(), expected_k.begin() + to * kColumnsK);
        }
      }
    }
    EXPECT_EQ(got_v, expected_v);
    const double ulp = dtype == DType::bfloat16 ? 0x1p-8 : 0x1p-11;  // half of one, and what float32 adds
    for (std::size_t i = 0; i < got_k.size(); ++i) {
      const double got = load_real(reinterpret_cast<const std::byte*>(&got_k[i]), dtype);
      ASSERT_NEAR(got, expected_k[i], 1.01 * ulp * std::max(std::fabs(expected_k[i]), 0x1p-6)) << i;
    }
  }

  static std::vector<double> rotated(const std::uint16_t* row, DType dtype, const std::optional<Rotary>& rotary,
                                     double position) {
    std::vector<double> values;
    for (std::int64_t i = 0; i < kColumnsK; ++i)
      values.push_back(load_real(reinterpret_cast<const std::byte*>(row + i), dtype));
    if (!rotary) return values;
    for (std::int64_t pair = 0; pair < rotary->columns / 2; ++pair) {
      const double angle =
          position * std::pow(rotary->base, -2.0 * static_cast<double>(pair) / static_cast<double>(rotary->columns));
      double& x = values[static_cast<std::size_t>(rotary->interleaved ? 2 * pair : pair)];
      double& y = values[static_cast<std::size_t>(rotary->interleaved ? 2 * pair + 1 : pair + rotary->columns / 2)];
      const double turned = x * std::cos(angle) - y * std::sin(angle);
      y = y * std::cos(angle) + x * std::sin(angle);
      x = turned;
    }
    return values;
  }
};

TEST_F(AppendOnGpu, PutsRowsIntoTheirPagesAndNothingElse) {
  for (const DType dtype : {DType::bfloat16, DType::float16}) expect_right(dtype, {});
}

TEST_F(AppendOnGpu, RotatesKeysByTheirPositions) {
  for (const bool interleaved : {false, true}) {
    expect_right(DType::bfloat16, Rotary{.columns = kColumnsK, .interleaved = interleaved});
    expect_right(DType::float16, Rotary{.columns = 32, .base = 500000, .interleaved = interleaved});
  }
}

TEST_F(AppendOnGpu, RefusesWhatDoesNotFit) {
  const auto make = [](const GpuCacheShape& shape) { return [=] { GpuCacheAppender(shape, Device::cuda()); }; };
  expect_refused(make({.rotary = Rotary{.columns = 33}}), {"rotary.columns is 33", "even"});
  expect_refused(make({.h_kv = 0}), {"h_kv is 0"});
  EXPECT_NE(refusal(make({.dtype = DType::float64}), ErrorCode::unsupported).find("float64"), std::string::npos);
}

}  // namespace
}  // namespace tilewise::attention::testing
