// The pieces of keys that splits of a backward pass consist of.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "attention/cpu_backend.h"

namespace tilewise::attention::testing {
namespace {

TEST(BackwardPieces, CoverEveryKeyOnceAndAreEven) {
  for (const std::int64_t s_kv : {0, 1, 63, 64, 65, 1000, 2048, 4096, 4099}) {
    for (const std::int64_t step : {4, 12, 64}) {
      for (const std::int64_t splits : {1, 2, 3, 4, 6, 16}) {
        std::vector<int> visits(static_cast<std::size_t>(s_kv), 0);
        std::int64_t fewest = s_kv, most = 0;
        for (std::int64_t split = 0; split < splits; ++split) {
          std::int64_t keys = 0;
          for_pieces_of_split(s_kv, step, splits, split, [&](std::int64_t begin, std::int64_t end) {
            ASSERT_LE(begin, end);
            ASSERT_LE(end, s_kv);
            EXPECT_TRUE(begin == end || begin % step == 0) << s_kv << " in " << splits;
            for (std::int64_t key = begin; key < end; ++key) ++visits[static_cast<std::size_t>(key)];
            keys += end - begin;
          });
          fewest = std::min(fewest, keys);
          most = std::max(most, keys);
        }
        EXPECT_TRUE(std::ranges::all_of(visits, [](int times) { return times == 1; })) << s_kv << " in " << splits;
        EXPECT_LE(most - fewest, 2 * step) << s_kv << " in " << splits;  // a step, and what the last lacks
      }
    }
  }
}

/// Under a causal mask the work of a key falls evenly with its place.
TEST(BackwardPieces, HaveLikeCausalWork) {
  constexpr std::int64_t kKeys = 4096, kSplits = 6;
  double least = 1e18, most = 0;
  for (std::int64_t split = 0; split < kSplits; ++split) {
    double work = 0;
    for_pieces_of_split(kKeys, 64, kSplits, split, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t key = begin; key < end; ++key) work += static_cast<double>(kKeys - key);
    });
    least = std::min(least, work);
    most = std::max(most, work);
  }
  EXPECT_LT(most, 1.2 * least);
}

}  // namespace
}  // namespace tilewise::attention::testing
