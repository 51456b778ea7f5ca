// Queries and gradients of o that are not finite: gradients of keys that such a row does not keep must not notice.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "tests/attention/oracle.h"

namespace tilewise::attention::testing {
namespace {

using reference::Array;
using reference::AttentionData;

constexpr std::int64_t kLength = 150, kRow = 67, kHead = 1;

struct Mask {
  const char* name;
  Variant variant;
  std::function<bool(std::int64_t query, std::int64_t key)> keeps;
};

std::vector<Mask> masks() {
  const Variant causal = keep([](const At& at) { return at.query >= at.key; });
  const Variant capped = score([](Expr s, const At&) { return 3.0 * tanh(s / 3.0); });
  const auto keeps_causal = [](std::int64_t query, std::int64_t key) { return query >= key; };
  const auto keeps_some = [](std::int64_t query, std::int64_t key) { return (query * 7 + key * 3) % 5 != 1; };
  return {{"causal", causal, keeps_causal},
          {"causal, capped", causal & capped, keeps_causal},
          {"scattered", keep([](const At& at) { return (at.query * 7 + at.key * 3) % 5 != 1; }), keeps_some},
          {"causal, dropout", causal & dropout(0.3), keeps_causal},
          {"causal, capped, dropout", capped & causal & dropout(0.3), keeps_causal}};
}

/// A call with `bad` in one query, or in one row of d_o, forward and backward.
AttentionData run(const Variant& variant, DType dtype, double bad, Array AttentionData::*where = &AttentionData::q) {
  const reference::Shape shape = uniform(1, 2, 1, kLength, kLength, 16, 8);
  AttentionData data(shape, 5, dtype, DType::float32);
  if (!std::isfinite(bad)) (data.*where).set((data.*where).place(0, kHead, kRow, 0, 3), bad);
  const Plan plan = Attention(variant).plan(plan_shape(shape, dtype, true, {}));
  testing::run(plan, data);
  return data;
}

TEST(NonFinite, QueriesReachOnlyGradientsOfKeysThatTheyKeep) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  for (const Mask& mask : masks()) {
    for (const DType dtype : {DType::float32, DType::bfloat16}) {
      const AttentionData clean = run(mask.variant, dtype, 0);
      for (const double bad : {kNan, std::numeric_limits<double>::infinity()}) {
        const AttentionData spoilt = run(mask.variant, dtype, bad);
        for (std::int64_t key = 0; key < kLength; ++key) {
          const bool is_kept = mask.keeps(kRow, key);
          for (std::int64_t c = 0; c < 8; ++c) {
            const double d_v = spoilt.at_key(spoilt.d_v, 0, 0, key, c), d_k = spoilt.at_key(spoilt.d_k, 0, 0, key, c);
            if (!is_kept) {
              ASSERT_EQ(d_v, clean.at_key(clean.d_v, 0, 0, key, c)) << mask.name << ", key " << key;
              ASSERT_EQ(d_k, clean.at_key(clean.d_k, 0, 0, key, c)) << mask.name << ", key " << key;
            } else if (std::isnan(bad)) {
              ASSERT_TRUE(std::isnan(d_v) && std::isnan(d_k)) << mask.name << ", key " << key;
            }
          }
        }
        for (std::int64_t row = 0; row < kLength; ++row) {
          const bool is_spoilt = std::isnan(spoilt.at_query(spoilt.d_q, 0, kHead, row, 0));
          ASSERT_TRUE(row == kRow || !is_spoilt) << mask.name << ", row " << row;
        }
      }
    }
  }
}

/// d_k is held back from keys that the row does not keep. d_v is not, as a value is not from rows that do not keep it:
/// keys of the same tile may notice, in the same column, and no others.
TEST(NonFinite, GradientsOfOReachTheirRowAndTheKeysOfItsTiles) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr std::int64_t kTile = 128;  // the longest
  for (const Mask& mask : masks()) {
    for (const DType dtype : {DType::float32, DType::bfloat16}) {
      const AttentionData clean = run(mask.variant, dtype, 0);
      for (const double bad : {kNan, std::numeric_limits<double>::infinity()}) {
        const AttentionData spoilt = run(mask.variant, dtype, bad, &AttentionData::d_o);
        SCOPED_TRACE(std::string(mask.name) + ", " + to_string(dtype) + ", " + std::to_string(bad));
        for (std::int64_t key = 0; key < kLength; ++key) {
          const bool is_kept = mask.keeps(kRow, key);
          bool tile_is_kept = false;
          for (std::int64_t other = key / kTile * kTile; other < std::min(key / kTile * kTile + kTile, kLength);
               ++other)
            tile_is_kept = tile_is_kept || mask.keeps(kRow, other);
          for (std::int64_t c = 0; c < 16 && !is_kept; ++c)
            ASSERT_EQ(spoilt.at_key(spoilt.d_k, 0, 0, key, c), clean.at_key(clean.d_k, 0, 0, key, c)) << key;
          for (std::int64_t c = 0; c < 16 && is_kept && std::isnan(bad); ++c)
            ASSERT_TRUE(std::isnan(spoilt.at_key(spoilt.d_k, 0, 0, key, c))) << key;
          for (std::int64_t c = 0; c < 8; ++c) {
            const double found = spoilt.at_key(spoilt.d_v, 0, 0, key, c);
            if (c == 3 && is_kept && !mask.variant.has_dropout()) {
              ASSERT_FALSE(std::isfinite(found)) << key;
            } else if (c != 3 || !tile_is_kept) {
              // Its row's weights are computed once more, to another last bit.
              ASSERT_NEAR(found, clean.at_key(clean.d_v, 0, 0, key, c), dtype == DType::float32 ? 1e-5 : 0.05) << key;
            }
          }
        }
        for (std::int64_t head = 0; head < 2; ++head) {
          for (std::int64_t row = 0; row < kLength; ++row) {
            const double found = spoilt.at_query(spoilt.d_q, 0, head, row, 0);
            if (head == kHead && row == kRow) {
              ASSERT_TRUE(std::isnan(found));
            } else {
              ASSERT_EQ(found, clean.at_query(clean.d_q, 0, head, row, 0)) << row;
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace tilewise::attention::testing
