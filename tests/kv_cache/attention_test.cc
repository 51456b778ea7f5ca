// Attention over the cache's pages, in place, is attention over the same rows laid out in one piece: bit for bit.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tilewise/attention.h"
#include "tilewise/kv_cache.h"
#include "tilewise/zoo.h"

namespace tilewise {
namespace {

constexpr std::int64_t kHeads = 6, kKvHeads = 2, kDim = 32, kPageTokens = 16;

class PagedAttention : public ::testing::TestWithParam<DType> {
 protected:
  std::vector<float> some(std::int64_t count) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = normal_(random_);
    return values;
  }

  void append(KvSequence sequence, std::int64_t count) {
    const std::int64_t first = cache_.length(sequence);
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
    for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(random_() % 1000);
    cache_.append(sequence, tokens);
    const std::vector<float> k = some(kKvHeads * count * kDim), v = some(kKvHeads * count * kDim);
    cache_.write(sequence, 0, first, {k.data(), DType::float32, {kKvHeads, count, kDim}},
                 {v.data(), DType::float32, {kKvHeads, count, kDim}});
    cache_.commit(sequence);
  }

  std::mt19937 random_{5};
  std::normal_distribution<float> normal_;
  KvCache cache_{
      {.h_kv = kKvHeads, .d_qk = kDim, .d_v = kDim, .page_tokens = kPageTokens, .pages = 64, .dtype = GetParam()}};
};

/// Rows of the cache's own dtype in one piece, [b, h_kv, s_kv, d], or scales, [b, h_kv, s_kv].
std::vector<std::byte> gathered(const ConstTensor& pages, const std::vector<std::int32_t>& table, std::int64_t b,
                                std::int64_t table_width) {
  const std::int64_t row_bytes = size_of(pages.dtype) * (pages.rank == 4 ? pages.extents[3] : 1);
  const std::int64_t s_kv = table_width * kPageTokens;
  std::vector<std::byte> rows(static_cast<std::size_t>(b * kKvHeads * s_kv * row_bytes));
  for (std::int64_t i = 0; i < b * kKvHeads * s_kv; ++i) {
    const std::int64_t sequence = i / (kKvHeads * s_kv), head = i / s_kv % kKvHeads, token = i % s_kv;
    const std::int32_t page = table[static_cast<std::size_t>(sequence * table_width + token / kPageTokens)];
    if (page < 0) continue;
    const std::int64_t row = (page * kKvHeads + head) * kPageTokens + token % kPageTokens;
    std::copy_n(static_cast<const std::byte*>(pages.data) + row * row_bytes, row_bytes, rows.data() + i * row_bytes);
  }
  return rows;
}

TEST_P(PagedAttention, EqualsContiguousBitForBit) {
  const KvSequence first = cache_.start();
  append(first, 100);
  const KvSequence second = cache_.fork(first);
  append(second, 37);
  const KvSequence third = cache_.start();
  append(third, 5);
  append(first, 1);
  const std::vector<KvSequence> batch{first, second, third};
  constexpr std::int64_t kBatch = 3, kWidth = 9, kMost = kWidth * kPageTokens;
  std::vector<std::int32_t> table(kBatch * kWidth);
  cache_.fill_block_table(batch, {table.data(), DType::int32, {kBatch, kWidth}});

  for (const std::int64_t s_q : {1, 5}) {
    const std::vector<float> q = some(kBatch * kHeads * s_q * kDim);
    std::vector<float> paged(q.size(), -1), contiguous(q.size(), -2);
    ForwardInputs inputs;
    inputs.q = {q.data(), DType::float32, {kBatch, kHeads, s_q, kDim}};
    for (const KvSequence sequence : batch) inputs.sequences.push_back({.s_q = s_q, .s_kv = cache_.length(sequence)});
    inputs.k = cache_.k(0);
    inputs.v = cache_.v(0);
    inputs.k_scales = cache_.k_scales(0);
    inputs.v_scales = cache_.v_scales(0);
    inputs.block_table = ConstTensor(table.data(), DType::int32, {kBatch, kWidth});
    const Plan plan = Attention(parse_variant("causal()"))
                          .plan({.dtype = DType::float32,
                                 .kv_dtype = GetParam(),
                                 .b = kBatch,
                                 .h_q = kHeads,
                                 .h_kv = kKvHeads,
                                 .d_qk = kDim,
                                 .d_v = kDim,
                                 .s_q = s_q,
                                 .s_kv = kMost});
    plan.forward(inputs, {.o = Tensor(paged.data(), DType::float32, {kBatch, kHeads, s_q, kDim})});

    const auto k = gathered(cache_.k(0), table, kBatch, kWidth), v = gathered(cache_.v(0), table, kBatch, kWidth);
    inputs.k = {k.data(), GetParam(), {kBatch, kKvHeads, kMost, kDim}};
    inputs.v = {v.data(), GetParam(), {kBatch, kKvHeads, kMost, kDim}};
    inputs.block_table = std::nullopt;
    std::vector<std::byte> k_scales, v_scales;
    if (inputs.k_scales) {
      k_scales = gathered(*inputs.k_scales, table, kBatch, kWidth);
      v_scales = gathered(*inputs.v_scales, table, kBatch, kWidth);
      inputs.k_scales = ConstTensor(k_scales.data(), DType::float32, {kBatch, kKvHeads, kMost});
      inputs.v_scales = ConstTensor(v_scales.data(), DType::float32, {kBatch, kKvHeads, kMost});
    }
    plan.forward(inputs, {.o = Tensor(contiguous.data(), DType::float32, {kBatch, kHeads, s_q, kDim})});
    EXPECT_EQ(paged, contiguous) << "s_q = " << s_q;
  }
}

INSTANTIATE_TEST_SUITE_P(KvCache, PagedAttention,
                         ::testing::Values(DType::float32, DType::bfloat16, DType::float16, DType::int8),
                         [](const auto& test) { return to_string(test.param); });

}  // namespace
}  // namespace tilewise
