#pragma once

#include <algorithm>
#include <cmath>

#include "variant/zoo/common/expect.h"
#include "variant/zoo/common/frozen.h"

namespace tilewise::zoo {

/// The bucket of each distance from 0 to `max_distance`, which stands for all beyond: half of the buckets hold one
/// distance each, the others grow geometrically. Evaluated as the reference does, in float32; the logarithms are
/// rounded once from double, so every platform gets the same buckets.
inline std::vector<std::int32_t> t5_bucket_of_distance(std::int32_t buckets, std::int32_t max_distance) {
  const std::int32_t exact = buckets / 2;
  const auto whole = static_cast<float>(std::log(static_cast<double>(max_distance) / exact));
  std::vector<std::int32_t> bucket;
  for (std::int32_t distance = 0; distance <= max_distance; ++distance) {
    if (distance < exact) {
      bucket.push_back(distance);
      continue;
    }
    const float ratio = static_cast<float>(distance) / static_cast<float>(exact);
    const auto part = static_cast<float>(std::log(static_cast<double>(ratio)));
    const float beyond = part / whole * static_cast<float>(buckets - exact);
    bucket.push_back(std::min(exact + static_cast<std::int32_t>(beyond), buckets - 1));
  }
  return bucket;
}

/// T5's relative position bias: a learned number for each head and bucket of distances.
///
///     s + bias[bucket(key - query), head]
///
/// `bias`: a table of reals [buckets, heads]. The other arguments as below.
Variant t5_buckets(const Table& bias, std::int32_t buckets, std::int32_t max_distance, bool bidirectional) {
  expect_table("t5_buckets", bias, Type::real, 2, 2);
  const std::int32_t lowest = bidirectional ? 4 : 2;
  expect_between("t5_buckets", "buckets", buckets, lowest, 1 << 20);
  if (buckets % lowest != 0) {
    fail_argument("t5_buckets(): buckets is {}, expected a multiple of {}", buckets, lowest);
  }
  const std::int32_t one_side = bidirectional ? buckets / 2 : buckets;
  expect_between("t5_buckets", "max_distance", max_distance, one_side / 2 + 1, 1 << 24);
  const Table bucket = frozen("bucket", t5_bucket_of_distance(one_side, max_distance));
  return score([&](Expr s, const At& at) {
    const Expr ahead = at.key - at.query;
    const Expr distance = bidirectional ? abs(ahead) : max(-ahead, 0);
    const Expr near_bucket = bucket(min(distance, max_distance));
    const Expr signed_bucket = bidirectional ? near_bucket + select(ahead > 0, one_side, 0) : near_bucket;
    return s + bias(signed_bucket, at.head);
  });
}

/// T5's relative position bias by buckets of distances; to be bound: `bucket_bias`, float32 [buckets, heads].
///
///     s + bucket_bias[bucket(key - query), head]
///
/// In one direction, n buckets: distances below n / 2 have one each, the others share the rest geometrically up to
/// max_distance, bucket = n / 2 + floor(log(distance / (n / 2)) / log(max_distance / (n / 2)) * n / 2), at most n - 1.
/// Bidirectional: half of the buckets for keys up to the query, the other half for those after it. Else keys after the
/// query count as distance 0.
///
/// `buckets`: 2 to 2^20, even, or a multiple of 4 when bidirectional. `max_distance`: above n / 2, at most 2^24.
/// `bidirectional`: 1 for encoders, 0 for decoders.
///
/// Source: T5 (Raffel et al. 2020)
/// Example: t5_buckets(32, 128, 1)
Variant t5_buckets(std::int32_t buckets = 32, std::int32_t max_distance = 128, bool bidirectional = true) {
  return t5_buckets(Table("bucket_bias", DType::float32, 2), buckets, max_distance, bidirectional);
}

}  // namespace tilewise::zoo
