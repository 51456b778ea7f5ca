// Every pair is covered, and nothing that is not allowed gets in.
#include "tests/attention/covering.h"

#include <gtest/gtest.h>

#include <set>
#include <tuple>

namespace tilewise::attention::testing {
namespace {

using Pair = std::tuple<std::size_t, int, std::size_t, int>;

std::set<Pair> pairs_of(const std::vector<Combination>& rows) {
  std::set<Pair> pairs;
  for (const Combination& row : rows) {
    for (std::size_t p = 0; p < row.size(); ++p) {
      for (std::size_t q = 0; q < p; ++q) pairs.insert({p, row[p], q, row[q]});
    }
  }
  return pairs;
}

/// Counts complete combinations that hold a pair and are allowed, by trying all.
bool can_occur(const std::vector<int>& values, const Pair& pair, const Allowed& allowed) {
  const auto [p, a, q, b] = pair;
  Combination row(values.size(), 0);
  for (;;) {
    if (row[p] == a && row[q] == b && allowed(row)) return true;
    std::size_t at = 0;
    while (at < row.size() && ++row[at] == values[at]) row[at++] = 0;
    if (at == row.size()) return false;
  }
}

void expect_covered(const std::vector<int>& values, const Allowed& allowed) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    const auto rows = pairwise_rows(values, seed, allowed);
    std::size_t all = 1;
    for (const int count : values) all *= static_cast<std::size_t>(count);
    EXPECT_LE(rows.size(), all);
    for (const Combination& row : rows) {
      EXPECT_TRUE(allowed(row));
      for (std::size_t p = 0; p < row.size(); ++p) EXPECT_TRUE(row[p] >= 0 && row[p] < values[p]);
    }
    const std::set<Pair> found = pairs_of(rows);
    for (std::size_t p = 0; p < values.size(); ++p) {
      for (std::size_t q = 0; q < p; ++q) {
        for (int a = 0; a < values[p]; ++a) {
          for (int b = 0; b < values[q]; ++b) {
            const Pair pair{p, a, q, b};
            EXPECT_EQ(found.contains(pair), can_occur(values, pair, allowed))
                << "parameter " << p << " at " << a << ", parameter " << q << " at " << b;
          }
        }
      }
    }
  }
}

TEST(Covering, HoldsEveryPair) {
  const Allowed all = [](const Combination&) { return true; };
  expect_covered({2, 2}, all);
  expect_covered({3, 1, 2}, all);
  expect_covered({5, 4, 3, 2, 2}, all);
  expect_covered({7, 7, 6}, all);
}

TEST(Covering, LeavesOutWhatIsNotAllowed) {
  // A budget: open parameters count as their cheapest value, 0.
  expect_covered({4, 4, 3, 3}, [](const Combination& row) {
    int cost = 0;
    for (const int value : row) cost += std::max(value, 0);
    return cost <= 5;
  });
  expect_covered({3, 3, 3}, [](const Combination& row) { return row[0] == kOpen || row[1] != row[0]; });
}

TEST(Covering, NeedsFewRows) {
  // 12 parameters of 4 values: at least 16 rows, of 16 million combinations.
  const std::vector<int> values(12, 4);
  EXPECT_LT(pairwise_rows(values, 1, [](const Combination&) { return true; }).size(), 48u);
}

}  // namespace
}  // namespace tilewise::attention::testing
