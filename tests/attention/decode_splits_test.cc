// Splits of decoded sequences: they cover what the mask keeps, are of like work, and leave holes out.
#include "attention/decode_splits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "attention/call_masks.h"
#include "tests/attention/oracle.h"
#include "tilewise/zoo.h"

namespace tilewise::attention::testing {
namespace {

constexpr SplitRules kRules{.step = 64, .least_keys = 512, .most = 64};

/// The splits of the last `s_q` of `s_kv` positions, and the keys that each visits, counted in tiles of 64.
struct Found {
  DecodeSplits splits;
  std::vector<std::int64_t> tiles, kept_tiles;  // [splits]
};

Found split(const Variant& variant, std::int64_t s_q, std::int64_t s_kv) {
  const CallMasks masks(variant, {.d_qk = 8, .d_v = 8, .s_q = s_q, .s_kv = s_kv});
  const Problem problem = Problem::uniform(1, 1, 1, s_q, s_kv);
  tiles::KeySpans spans(masks.planned());
  spans.start(problem);
  spans.enter(0, 0, tiles::Walk::along_keys);
  Found found{split_kept(spans, {0, s_q, 0, s_kv}, kRules), {}, {}};
  const std::int64_t count = found.splits.count();
  for (std::int64_t i = 0; i < count; ++i) {
    const tiles::KeyRange range = found.splits.at(i);
    std::int64_t all = 0, kept = 0;
    for (std::int64_t key = range.begin; key < range.end; key += kRules.step, ++all)
      kept += spans({0, s_q, key, std::min(key + kRules.step, range.end)}).is_empty() ? 0 : 1;
    found.tiles.push_back(all);
    found.kept_tiles.push_back(kept);
  }
  return found;
}

/// Whether a key lies in one of the splits, each of which comes once and in order.
std::vector<bool> covered_by(const DecodeSplits& splits, std::int64_t s_kv) {
  std::vector<bool> covered(static_cast<std::size_t>(s_kv), false);
  std::int64_t last = 0;
  for (std::int64_t i = 0; i < splits.count(); ++i) {
    const auto [begin, end] = splits.at(i);
    EXPECT_LE(last, begin);
    EXPECT_LE(end, s_kv);
    last = end;
    std::fill(covered.begin() + begin, covered.begin() + end, true);
  }
  return covered;
}

void expect_equal_work(const Found& found) {
  const auto [least, most] = std::ranges::minmax(found.kept_tiles);
  EXPECT_LE(most - least, 2) << "tiles of 64 keys: one of the split, and one that a range may take in vain";
}

TEST(DecodeSplits, SpreadAWindowFarFromTheStart) {
  const std::int64_t s_kv = 43000;
  const Found far = split(zoo::window(4096), 1, s_kv), near = split(zoo::window(4096), 1, 4096);
  const std::vector<bool> covered = covered_by(far.splits, s_kv);
  for (std::int64_t key = 0; key < s_kv; ++key)
    EXPECT_TRUE(covered[static_cast<std::size_t>(key)] || s_kv - 1 - key >= 4096) << key;
  EXPECT_EQ(far.splits.ranges.count(), 1);
  EXPECT_LE(far.splits.ranges.keys(), 4096 + 2 * 128) << "the window, and what a step takes in at either end";
  EXPECT_EQ(near.splits.count(), 8);
  EXPECT_GE(far.splits.count(), near.splits.count()) << "as many tasks as where nothing lies before the window";
  expect_equal_work(far);
}

TEST(DecodeSplits, LeaveOutWhatLiesBetweenSinksAndAWindow) {
  const std::int64_t s_kv = 30000;
  const Found found = split(zoo::streaming_llm(4, 2044), 1, s_kv);
  EXPECT_EQ(found.splits.ranges.count(), 2);
  EXPECT_EQ(found.splits.at(0).begin, 0);
  const std::vector<bool> covered = covered_by(found.splits, s_kv);
  for (std::int64_t key = 0; key < s_kv; ++key)
    EXPECT_TRUE(covered[static_cast<std::size_t>(key)] || (key >= 4 && s_kv - 1 - key >= 2044)) << key;
  EXPECT_LE(found.splits.ranges.keys(), 2048 + 3 * 64);
  EXPECT_EQ(found.tiles, found.kept_tiles) << "no hole is visited";
}

TEST(DecodeSplits, TakeTheDocumentOfTheQuery) {
  const auto document = [](const Expr& position) {
    return select(position >= 20000, 1, 0) + select(position >= 23000, 1, 0);
  };
  const Variant documents = keep([&](const At& at) { return document(at.query) == document(at.key); });
  const Found found = split(documents & zoo::causal(), 4, 32000);
  const std::vector<bool> covered = covered_by(found.splits, 32000);
  for (std::size_t key = 23000; key < 32000; ++key) EXPECT_TRUE(covered[key]) << key;
  EXPECT_LE(found.splits.ranges.keys(), 9000 + 64);
  expect_equal_work(found);
}

TEST(DecodeSplits, CoverEverythingWhereEverythingIsKept) {
  for (const std::int64_t s_kv : {1, 63, 511, 512, 513, 5000, 32768, 40000}) {
    const Found found = split(zoo::causal(), 1, s_kv);
    const DecodeSplits all = split_all(s_kv, kRules);
    EXPECT_EQ(found.splits.count(), all.count());
    EXPECT_LE(all.count(), kRules.most);
    const std::vector<bool> covered = covered_by(found.splits, s_kv);
    EXPECT_TRUE(std::ranges::all_of(covered, [](bool is) { return is; })) << s_kv;
    for (std::int64_t i = 0; i < all.count(); ++i) EXPECT_EQ(found.splits.at(i), all.at(i));
  }
}

TEST(DecodeSplits, AreNoneOfNothing) {
  const Found found = split(keep([](const At& at) { return at.key > at.query; }), 1, 9000);
  EXPECT_EQ(found.splits.count(), 1) << "which merges to a row that keeps nothing";
  EXPECT_EQ(found.splits.at(0).keys(), 0);
}

TEST(DecodeSplits, AreNeverMoreThanMemoryIsPlannedFor) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int i = 0; i < 200; ++i) {
    // Blocks of every few hundred to thousand keys.
    const auto period = static_cast<std::int32_t>(random() % 8000 + 1),
               kept = static_cast<std::int32_t>(random() % period + 1);
    const std::int64_t s_kv = random() % 60000 + 1;
    const Found found = split(keep([&](const At& at) { return at.key % period < kept; }), 1, s_kv);
    EXPECT_LE(found.splits.count(), std::min(kRules.most, (s_kv + kRules.least_keys - 1) / kRules.least_keys))
        << period << ", " << kept << ", " << s_kv;
    EXPECT_LE(found.splits.ranges.count(), tiles::KeptRanges::kMost);
    const std::vector<bool> covered = covered_by(found.splits, s_kv);
    for (std::int64_t key = 0; key < s_kv; ++key)
      ASSERT_TRUE(covered[static_cast<std::size_t>(key)] || key % period >= kept)
          << period << ", " << kept << ", " << key;
  }
}

TEST(KeptRanges, JoinTheSmallestGapWhereThereAreTooMany) {
  tiles::KeptRanges ranges(10);
  for (const std::int64_t begin : {0, 100, 150, 300, 305, 500}) ranges.add({begin, begin + 10});
  const std::vector<tiles::KeyRange> expected{{0, 10}, {100, 160}, {300, 315}, {500, 510}};
  EXPECT_EQ(std::vector(ranges.begin(), ranges.end()), expected);
  EXPECT_EQ(ranges.keys(), 95);
}

TEST(DecodeSplits, ChangeNoResultBeyondTheTolerance) {
  const std::pair<const char*, Variant> variants[] = {
      {"window", zoo::window(200)},
      {"sinks and a window", zoo::streaming_llm(4, 700)},
      {"blocks", keep([](const At& at) { return at.key % 2500 < 70; })},
      {"nothing", keep([](const At& at) { return at.key > at.query + 9; })}};
  std::mt19937_64 random(29);
  for (const auto& [name, variant] : variants) {
    Oracle oracle(DType::float32, false);
    for (const std::int64_t s_q : {1, 3, 8}) oracle.run(variant, uniform(2, 4, 2, s_q, 7001, 32, 48), {}, random());
    oracle.expect_close(name);
  }
}

}  // namespace
}  // namespace tilewise::attention::testing
