// What a paged cache is appended to with: each misfit is refused by name. No GPU is asked.
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <vector>

#include "attention/check_append.h"
#include "tests/refusal.h"

namespace tilewise::attention {
namespace {

constexpr std::int64_t kHeads = 2, kColumnsK = 12, kColumnsV = 8, kPages = 6, kPageTokens = 4;
const GpuCacheShape kShape{.b = 3, .h_kv = kHeads, .d_qk = kColumnsK, .d_v = kColumnsV};

/// Two sequences, of which 3 and 5 tokens are new, into 6 pages of 4 tokens.
struct Append {
  std::vector<std::uint16_t> rows_k = std::vector<std::uint16_t>(2 * kHeads * 5 * kColumnsK);
  std::vector<std::uint16_t> rows_v = std::vector<std::uint16_t>(2 * kHeads * 5 * kColumnsV);
  std::vector<std::uint16_t> memory_k = std::vector<std::uint16_t>(kPages * kHeads * kPageTokens * kColumnsK);
  std::vector<std::uint16_t> memory_v = std::vector<std::uint16_t>(kPages * kHeads * kPageTokens * kColumnsV);
  std::vector<std::int32_t> table = {0, 1, -1, 2, 3, 4};
  std::vector<std::int32_t> lengths = {3, 5, 3, 9};
  GpuCacheAppend call{.k = ConstTensor(rows_k.data(), DType::bfloat16, {2, kHeads, 5, kColumnsK}),
                      .v = ConstTensor(rows_v.data(), DType::bfloat16, {2, kHeads, 5, kColumnsV}),
                      .k_pages = Tensor(memory_k.data(), DType::bfloat16, {kPages, kHeads, kPageTokens, kColumnsK}),
                      .v_pages = Tensor(memory_v.data(), DType::bfloat16, {kPages, kHeads, kPageTokens, kColumnsV}),
                      .block_table = ConstTensor(table.data(), DType::int32, {2, 3}),
                      .sequences = {{.s_q = 3, .s_kv = 3}, {.s_q = 5, .s_kv = 9}}};

  /// Values that are the first columns of the keys, in rows and in pages.
  void make_latent() {
    call.v.data = call.k.data, call.v.strides = call.k.strides;
    call.v_pages.data = call.k_pages.data, call.v_pages.strides = call.k_pages.strides;
  }
};

void expect_refused(const char* message, const std::function<void(GpuCacheAppend&, Append&)>& spoil,
                    const GpuCacheShape& shape = kShape) {
  Append append;
  spoil(append.call, append);
  tilewise::expect_refused([&] { check_append(shape, append.call); }, {message});
}

TEST(AppendRefusals, OfNothingWhereNothingIsSpoilt) {
  Append append;
  const variant::Call checked = check_append(kShape, append.call);
  EXPECT_EQ(checked.problem.b(), 2);
  EXPECT_EQ(checked.page_tokens, kPageTokens);
  append.call.sequences.clear();
  append.call.device_sequences = DeviceSequences{.b = 2,
                                                 .s_q = ConstTensor(append.lengths.data(), DType::int32, {2}),
                                                 .s_kv = ConstTensor(append.lengths.data() + 2, DType::int32, {2})};
  EXPECT_NO_THROW(check_append(kShape, append.call));
}

TEST(AppendRefusals, OfRowsAndPagesThatDoNotFit) {
  expect_refused("k has rank 2; expected 4", [](auto& call, auto&) { call.k.rank = 2; });
  expect_refused("k has extents [2, 1, 5, 12]; expected [2, 2, 5, 12]",
                 [](auto& call, auto&) { call.k.extents[1] = 1; });
  expect_refused("v has rank 0; expected 4", [](auto& call, auto&) { call.v = ConstTensor(); });
  expect_refused("v has extents [2, 2, 4, 8]; expected [2, 2, 5, 8]", [](auto& call, auto&) { call.v.extents[2] = 4; });
  expect_refused("v has strides [80, 40, 8, 2]; expected 1 along the last axis",
                 [](auto& call, auto&) { call.v.strides[3] = 2; });
  expect_refused("v is null", [](auto& call, auto&) { call.v.data = nullptr; });
  expect_refused("k has dtype float16; the appender was made for bfloat16",
                 [](auto& call, auto&) { call.k.dtype = DType::float16; });
  expect_refused("k_pages has rank 3; expected 4", [](auto& call, auto&) { call.k_pages.rank = 3; });
  expect_refused("v_pages has extents [6, 2, 4, 7]; expected [6, 2, 4, 8]",
                 [](auto& call, auto&) { call.v_pages.extents[3] = 7; });
  expect_refused("v_pages has dtype float32; the appender was made for bfloat16",
                 [](auto& call, auto&) { call.v_pages.dtype = DType::float32; });
  expect_refused("block_table has rank 1; expected 2", [](auto& call, auto&) { call.block_table.rank = 1; });
  expect_refused("sequence 1: s_q is 6", [](auto& call, auto&) { call.sequences[1].s_q = 6; });
  expect_refused("b is 2; the appender was made for at most 1", [](auto&, auto&) {},
                 {.b = 1, .h_kv = kHeads, .d_qk = kColumnsK, .d_v = kColumnsV});
}

TEST(AppendRefusals, OfPagesThatShareMemory) {
  expect_refused(
      "k_pages has extents [6, 2, 4, 12] and strides [0, 48, 12, 1]; expected an output whose elements share",
      [](auto& call, auto&) { call.k_pages.strides[0] = 0; });
  expect_refused("v_pages has extents [6, 2, 4, 8] and strides [64, 32, 7, 1]; expected an output whose elements share",
                 [](auto& call, auto&) { call.v_pages.strides[2] = 7; });
  expect_refused("k_pages shares memory with k;", [](auto& call, auto&) { call.k.data = call.k_pages.data; });
  expect_refused("v_pages shares memory with k;", [](auto& call, auto&) { call.k.data = call.v_pages.data; });
  expect_refused("v_pages shares memory with v;", [](auto& call, auto&) { call.v.data = call.v_pages.data; });
  expect_refused("k_pages shares memory with block_table",
                 [](auto& call, auto&) { call.block_table.data = call.k_pages.data; });
  expect_refused("v_pages shares memory with device_sequences.s_kv", [](auto& call, auto& with) {
    call.sequences.clear();
    call.device_sequences = DeviceSequences{.b = 2,
                                            .s_q = ConstTensor(with.lengths.data(), DType::int32, {2}),
                                            .s_kv = ConstTensor(with.memory_v.data(), DType::int32, {2})};
  });
  expect_refused("k_pages shares memory with v_pages",
                 [](auto& call, auto&) { call.v_pages.data = call.k_pages.data; });
}

TEST(AppendRefusals, OfValuesInKeysUnlessBothWriteTheSameBytes) {
  Append append;
  append.make_latent();
  EXPECT_NO_THROW(check_append(kShape, append.call));
  GpuCacheShape rotated = kShape;
  rotated.rotary = Rotary{.columns = 4};
  expect_refused(
      "k_pages shares memory with v_pages", [](auto&, auto& with) { with.make_latent(); }, rotated);
  expect_refused("k_pages shares memory with v_pages", [](auto& call, auto& with) {
    with.make_latent();
    call.v.data = with.rows_v.data(), call.v.strides = {80, 40, 8, 1};
  });
}

TEST(AppendRefusals, OfShapes) {
  const auto refuse = [](const char* message, const GpuCacheShape& shape) {
    tilewise::expect_refused([&] { check_append_shape(shape); }, {message});
  };
  refuse("rotary.columns is 33; expected an even number", {.rotary = Rotary{.columns = 33}});
  refuse("rotary.columns is 66; expected an even number from 0 to d_qk, 64", {.rotary = Rotary{.columns = 66}});
  refuse("rotary.base is -1", {.rotary = Rotary{.columns = 2, .base = -1}});
  refuse("rotary.base is inf", {.rotary = Rotary{.columns = 2, .base = std::numeric_limits<double>::infinity()}});
  refuse("b is 0", {.b = 0});
  refuse("h_kv is 65536", {.h_kv = 65536});
  refuse("d_v is -1", {.d_v = -1});
  EXPECT_NE(refusal([] { check_append_shape({.dtype = DType::float64}); }, ErrorCode::unsupported), "");
}

}  // namespace
}  // namespace tilewise::attention
