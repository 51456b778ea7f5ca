// Dropout on lanes drops exactly the entries that core/dropout.h defines.
#include "variant/lanes/dropout_strip.h"

#include <gtest/gtest.h>

#include <bit>
#include <vector>

#include "core/dropout.h"
#include "core/isa.h"

namespace tilewise::variant {
namespace {

/// Weights of a tile after dropout, and those that must come out: each entry for itself.
void expect_same_bits(DropoutFunction function, const Dropout& dropout, std::int64_t keys, std::int64_t queries,
                      std::int64_t key_begin, std::int64_t query_begin, std::int64_t head_index) {
  const std::int64_t stride = queries + 3;
  std::vector<float> weights(static_cast<std::size_t>(keys * stride)), expected(weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) expected[i] = weights[i] = 0.25f + static_cast<float>(i % 97);
  const auto scale = static_cast<float>(dropout.scale());
  for (std::int64_t key = 0; key < keys; ++key) {
    for (std::int64_t query = 0; query < queries; ++query) {
      expected[static_cast<std::size_t>(key * stride + query)] *=
          dropout_keeps(dropout, key_begin + key, query_begin + query, head_index) ? scale : 0.0f;
    }
  }
  function({.weights = weights.data(),
            .stride = stride,
            .keys = keys,
            .queries = queries,
            .key_begin = static_cast<std::uint32_t>(key_begin),
            .query_begin = static_cast<std::uint32_t>(query_begin),
            .head_index = static_cast<std::uint32_t>(head_index),
            .offset = dropout.offset,
            .key_words = {static_cast<std::uint32_t>(dropout.seed), static_cast<std::uint32_t>(dropout.seed >> 32)},
            .keep_below = dropout.keep_below,
            .scale = scale});
  for (std::size_t i = 0; i < weights.size(); ++i)
    ASSERT_EQ(std::bit_cast<std::uint32_t>(weights[i]), std::bit_cast<std::uint32_t>(expected[i]))
        << "key " << i / static_cast<std::size_t>(stride) << ", query " << i % static_cast<std::size_t>(stride);
}

TEST(DropoutStrip, DropsWhatItsDefinitionDrops) {
  int tried = 0;
  for (const Isa isa : {Isa::avx2, Isa::avx512}) {
    const DropoutFunction function = isa <= available_isas().back() ? dropout_function(isa) : nullptr;
    if (function == nullptr) continue;
    for (const double keep : {0.0, 0.3, 0.9, 0.997}) {
      const Dropout dropout(keep, 0x0123456789abcdefull, 0xfffffff0u);
      for (const std::int64_t queries : {1, 7, 16, 24, 32, 33, 48, 61}) {
        expect_same_bits(function, dropout, 37, queries, 5, 1000, 77);
        expect_same_bits(function, dropout, 1, queries, 31, 0, 0xffffffff);
        expect_same_bits(function, dropout, 16, queries, (std::int64_t{1} << 31) - 16, (std::int64_t{1} << 31) - 61, 3);
      }
      ++tried;
    }
  }
  if (tried == 0) GTEST_SKIP() << "this processor has no lanes for dropout";
}

}  // namespace
}  // namespace tilewise::variant
