// The cache by example: sharing, copying, eviction, precision, refusals.
#include "tilewise/kv_cache.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "tests/refusal.h"

namespace tilewise {
namespace {

std::vector<std::int32_t> counting(std::int32_t count, std::int32_t first = 0) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

KvCache small(std::int64_t pages, std::int64_t page_tokens = 4) {
  return KvCache({.layers = 1, .h_kv = 1, .d_qk = 1, .d_v = 1, .page_tokens = page_tokens, .pages = pages});
}

/// Starts a sequence of these tokens, all of them computed and committed.
KvSequence computed(KvCache& cache, const std::vector<std::int32_t>& tokens) {
  const KvSequence sequence = cache.start(tokens);
  cache.append(sequence, std::span(tokens).subspan(static_cast<std::size_t>(cache.length(sequence))));
  cache.commit(sequence);
  return sequence;
}

std::vector<std::int32_t> table(const KvCache& cache, KvSequence sequence) {
  const auto pages = cache.block_table(sequence);
  return {pages.begin(), pages.end()};
}

TEST(KvCache, PrefixesAreReusedPageByPage) {
  KvCache cache = small(16);
  const KvSequence first = computed(cache, counting(11));
  // Live: two full pages in common, and the third differs.
  std::vector<std::int32_t> other = counting(13);
  other[9] = 99;
  const KvSequence second = cache.start(other);
  EXPECT_EQ(cache.length(second), 8);
  EXPECT_EQ(table(cache, second)[1], table(cache, first)[1]);
  // Finished: the same.
  cache.finish(first);
  cache.finish(second);
  EXPECT_EQ(cache.account().reusable_pages, 2);
  EXPECT_EQ(cache.length(cache.start(counting(11))), 8);
  // The last token is always left to compute, and other domains see nothing.
  EXPECT_EQ(cache.length(cache.start(counting(8))), 4);
  EXPECT_EQ(cache.length(cache.start(counting(11), 1)), 0);
  EXPECT_EQ(cache.account().reused_tokens, 8 + 8 + 4);
}

TEST(KvCache, WhatWasNotCommittedIsNotReused) {
  KvCache cache = small(16);
  const KvSequence sequence = cache.start();
  cache.append(sequence, counting(9));
  EXPECT_EQ(cache.length(cache.start(counting(9))), 0);
  cache.commit(sequence);
  EXPECT_EQ(cache.length(cache.start(counting(9))), 8);
}

TEST(KvCache, SixteenSequencesStoreACommonPrefixOnce) {
  KvCache cache = small(200, 16);
  const std::vector<std::int32_t> prefix = counting(1024);
  std::vector<KvSequence> sequences;
  for (std::int32_t i = 0; i < 16; ++i) {
    std::vector<std::int32_t> prompt = prefix;
    prompt.push_back(5000 + i);
    sequences.push_back(computed(cache, prompt));
  }
  const KvCacheAccount account = cache.account();
  EXPECT_EQ(account.live_pages, 64 + 16);
  EXPECT_EQ(account.shared_pages, 64);
  EXPECT_EQ(account.reused_tokens, 15 * 1024);
  // Nothing is wasted but in each one's last page.
  EXPECT_EQ(account.wasted_bytes, 16 * 15 * 8);
}

TEST(KvCache, AForkCopiesOnlyThePageThatItAppendsTo) {
  KvCache cache = small(16);
  const KvSequence first = computed(cache, counting(6));
  const KvSequence second = cache.fork(first);
  EXPECT_EQ(table(cache, first), table(cache, second));
  EXPECT_EQ(cache.pages_needed(second, 1), 1);
  cache.append(second, counting(1));
  EXPECT_EQ(table(cache, first)[0], table(cache, second)[0]);
  EXPECT_NE(table(cache, first)[1], table(cache, second)[1]);
  // The other one has its page for itself by now.
  EXPECT_EQ(cache.pages_needed(first, 2), 0);
}

TEST(KvCache, TheLeastRecentlyUsedPageIsEvictedAndTheEndOfASequenceFirst) {
  KvCache cache = small(6);
  const KvSequence old = computed(cache, counting(8)), recent = computed(cache, counting(8, 100));
  cache.finish(old);
  cache.finish(recent);
  EXPECT_EQ(cache.account().reusable_pages, 4);
  computed(cache, counting(12, 200));  // two free pages and one evicted
  EXPECT_EQ(cache.account().evicted_pages, 1);
  EXPECT_EQ(cache.length(cache.start(counting(9, 100))), 8);
  EXPECT_EQ(cache.length(cache.start(counting(9))), 4);
}

TEST(KvCache, AFullCacheIsToldAndNothingChanges) {
  KvCache cache = small(3);
  const KvSequence sequence = computed(cache, counting(9));
  const std::string message = refusal([&] { cache.append(sequence, counting(4)); }, ErrorCode::out_of_memory);
  EXPECT_NE(message.find("needs 1 pages, 0 of 3 can be had"), std::string::npos) << message;
  EXPECT_EQ(cache.length(sequence), 9);
  cache.append(sequence, counting(3));
}

TEST(KvCache, PagesInTheMiddleCanBeGivenUp) {
  KvCache cache = small(4);
  const KvSequence sequence = computed(cache, counting(14));
  cache.drop_pages(sequence, 1, 2);
  EXPECT_EQ(table(cache, sequence)[1], -1);
  EXPECT_EQ(cache.account().live_pages, 2);
  cache.append(sequence, counting(8));
  EXPECT_EQ(cache.length(sequence), 22);
  const std::vector<KvSequence> batch{sequence, cache.start()};
  std::vector<std::int32_t> filled(2 * 7, 42);
  cache.fill_block_table(batch, {filled.data(), DType::int32, {2, 7}});
  EXPECT_EQ(filled[1], -1);
  EXPECT_GE(filled[5], 0);
  EXPECT_EQ(filled[6], -1);
  EXPECT_EQ(std::count(filled.begin() + 7, filled.end(), -1), 7);
}

// A window over an endless sequence: memory does not grow.
TEST(KvCache, AWindowTakesConstantMemory) {
  KvCache cache = small(5);
  const KvSequence sequence = cache.start();
  for (std::int32_t token = 0; token < 4000; ++token) {
    cache.append(sequence, std::vector<std::int32_t>{token});
    cache.commit(sequence);
    const auto pages = static_cast<std::int64_t>(cache.block_table(sequence).size());
    if (pages > 4) cache.drop_pages(sequence, pages - 4, 1);
    ASSERT_LE(cache.account().live_pages, 4);
  }
}

TEST(KvCache, MixedLengthsWasteAtMostOnePercent) {
  std::mt19937 random(3);
  KvCache cache = small(40000, 16);
  for (int i = 0; i < 500; ++i) {
    cache.append(cache.start(), counting(1 + static_cast<std::int32_t>(random() % 2048)));
  }
  const KvCacheAccount account = cache.account();
  EXPECT_LE(static_cast<double>(account.wasted_bytes), 0.01 * static_cast<double>(account.used_bytes));
}

// ---- contents ----

class Precision : public ::testing::TestWithParam<DType> {};

TEST_P(Precision, RowsReadBackWithinTheirRounding) {
  const DType dtype = GetParam();
  constexpr std::int64_t kHeads = 3, kCount = 21, kKey = 24, kValue = 40;
  KvCache cache(
      {.layers = 2, .h_kv = kHeads, .d_qk = kKey, .d_v = kValue, .page_tokens = 5, .pages = 9, .dtype = dtype});
  std::mt19937 random(4);
  std::normal_distribution<float> normal;
  std::vector<float> k(kHeads * kCount * kKey), v(kHeads * kCount * kValue), k_read(k.size()), v_read(v.size());
  for (float& value : k) value = normal(random);
  for (float& value : v) value = normal(random) * 100;
  const KvSequence sequence = cache.start();
  cache.append(sequence, counting(kCount));
  const auto of = [](std::vector<float>& values, std::int64_t d) {
    return Tensor(values.data(), DType::float32, {kHeads, kCount, d});
  };
  cache.write(sequence, 1, 0, of(k, kKey), of(v, kValue));
  cache.read(sequence, 1, 0, of(k_read, kKey), of(v_read, kValue));
  const auto expect_near = [&](const std::vector<float>& written, const std::vector<float>& read, std::size_t d) {
    for (std::size_t i = 0; i < written.size(); ++i) {
      float largest = 0;
      for (std::size_t j = i / d * d; j < (i / d + 1) * d; ++j) largest = std::max(largest, std::abs(written[j]));
      const float magnitude = std::abs(written[i]);
      const float bound = dtype == DType::float32    ? 0
                          : dtype == DType::bfloat16 ? magnitude * 0x1p-8F
                          : dtype == DType::float16  ? magnitude * 0x1p-11F
                                                     : largest / 127 * 0.5F * 1.0001F;
      ASSERT_LE(std::abs(read[i] - written[i]), bound) << to_string(dtype) << " element " << i;
    }
  };
  expect_near(k, k_read, kKey);
  expect_near(v, v_read, kValue);
}

INSTANTIATE_TEST_SUITE_P(KvCache, Precision,
                         ::testing::Values(DType::float32, DType::bfloat16, DType::float16, DType::int8),
                         [](const auto& test) { return to_string(test.param); });

TEST(KvCache, Int8KeepsZerosAndTellsWhatIsNotFinite) {
  KvCache cache({.d_qk = 2, .d_v = 2, .pages = 1, .dtype = DType::int8});
  const KvSequence sequence = cache.start();
  cache.append(sequence, counting(4));
  const std::vector<float> rows{0, 0, 1e-40F, 0, INFINITY, 1, 2, NAN};
  std::vector<float> k(8), v(8);
  const ConstTensor written(rows.data(), DType::float32, {1, 4, 2});
  cache.write(sequence, 0, 0, written, written);
  cache.read(sequence, 0, 0, {k.data(), DType::float32, {1, 4, 2}}, {v.data(), DType::float32, {1, 4, 2}});
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(k[i], 0);
  for (std::size_t i = 4; i < 8; ++i) EXPECT_TRUE(std::isnan(k[i]) && std::isnan(v[i]));
}

TEST(KvCache, SharedPagesAreNotWritten) {
  KvCache cache = small(8);
  const KvSequence first = cache.start();
  cache.append(first, counting(6));
  const std::vector<float> rows(6, 1.0F);
  const ConstTensor one(rows.data(), DType::float32, {1, 1, 1});
  cache.write(first, 0, 5, one, one);
  const KvSequence second = cache.fork(first);
  expect_refused([&] { cache.write(first, 0, 5, one, one); }, {"page 1", "2 owners", "make_private"});
  cache.make_private(second, 1, 1);
  cache.write(first, 0, 5, one, one);
  cache.commit(first);
  expect_refused([&] { cache.write(first, 0, 0, one, one); }, {"page 0", "offered for reuse"});
}

TEST(KvCache, RefusesWhatMakesNoSense) {
  expect_refused([] { KvCache({.h_kv = 0, .pages = 1}); }, {"h_kv is 0"});
  expect_refused([] { KvCache({.page_tokens = 0, .pages = 1}); }, {"page_tokens is 0"});
  expect_refused([] { KvCache({.pages = 0}); }, {"pages is 0"});
  expect_refused([] { KvCache({.pages = 1, .dtype = DType::int32}); }, {"dtype is int32", "bfloat16"});
  expect_refused([] { KvCache({.layers = 1 << 30, .h_kv = 1 << 30, .pages = 1 << 30}); }, {"64 bits"});
  EXPECT_NE(refusal([] { KvCache({.layers = 1 << 20, .h_kv = 1 << 10, .pages = 1 << 20}); }, ErrorCode::out_of_memory),
            "");
  KvCache cache = small(4);
  const KvSequence sequence = computed(cache, counting(6));
  const std::vector<float> rows(8, 0.0F);
  const ConstTensor two(rows.data(), DType::float32, {1, 2, 1}), wide(rows.data(), DType::float32, {1, 2, 2});
  expect_refused([&] { cache.length(static_cast<KvSequence>(77)); }, {"sequence 77"});
  expect_refused([&] { cache.write(sequence, 0, 5, two, two); }, {"tokens [5, 5 + 2)", "has 6"});
  expect_refused([&] { cache.write(sequence, 1, 4, two, two); }, {"layer is 1"});
  expect_refused([&] { cache.write(sequence, 0, 4, wide, two); }, {"k"});
  expect_refused([&] { cache.drop_pages(sequence, 1, 1); }, {"last one", "room"});
  expect_refused([&] { cache.drop_pages(sequence, 0, 3); }, {"sequence that has 2"});
  expect_refused([&] { cache.start({}, -1); }, {"domain is -1"});
  std::vector<std::int32_t> numbers(1);
  const std::vector<KvSequence> batch{sequence};
  expect_refused([&] { cache.fill_block_table(batch, {numbers.data(), DType::int32, {1, 1}}); }, {"too short"});
  expect_refused([&] { cache.fill_block_table(batch, {numbers.data(), DType::float32, {1, 1}}); }, {"expected int32"});
}

}  // namespace
}  // namespace tilewise
