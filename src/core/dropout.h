// Which entries dropout keeps: one definition for every backend, layout and split (docs/decisions/dropout.md).
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "core/fail.h"
#include "core/philox.h"

namespace tilewise {

/// Keys that share one Philox block: its 16 output bytes decide 16 neighbouring entries of a row.
inline constexpr std::int64_t kDropoutKeys = 16;

/// Dropout's constants for one call. An entry is kept when its random byte is below `keep_below`; a kept weight is
/// multiplied by `scale()`, the inverse of the probability that this really happens with.
struct Dropout {
  std::uint64_t seed = 0;
  std::uint32_t offset = 0;
  std::uint32_t keep_below = 256;  // round(256 p_keep), halves upwards: 0 drops all, 256 keeps all

  Dropout() = default;
  /// Throws Error(invalid_argument) unless 0 <= p_keep <= 1.
  Dropout(double p_keep, std::uint64_t call_seed, std::uint32_t call_offset) : seed(call_seed), offset(call_offset) {
    if (!(p_keep >= 0 && p_keep <= 1)) {
      fail_argument("dropout's keep probability is {}; expected a number from 0 to 1", p_keep);
    }
    keep_below = static_cast<std::uint32_t>(std::floor(256 * p_keep + 0.5));
  }

  /// 256 / keep_below; 0 where nothing is kept, so that no infinity meets a zero weight.
  double scale() const { return keep_below == 0 ? 0.0 : 256.0 / keep_below; }
};

/// The random bytes of keys [16 key_block, 16 key_block + 16) of one query's row; byte i belongs to key_index
/// 16 key_block + i. Philox4x32-10 with key = (low, high half of the seed) and counter = (key_block, query_index,
/// head_index, offset); the output words from the first on, each from its least significant byte on.
///   query_index: within the sequence, 0 <= query_index < 2^31.
///   head_index: batch * h_q + head, where batch counts sequences, below 2^32.
constexpr std::array<std::uint8_t, kDropoutKeys> dropout_bytes(std::uint64_t seed, std::uint32_t offset,
                                                               std::uint32_t key_block, std::uint32_t query_index,
                                                               std::uint32_t head_index) {
  const PhiloxKey key{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
  const auto words = philox4x32({key_block, query_index, head_index, offset}, key);
  std::array<std::uint8_t, kDropoutKeys> bytes{};
  for (int i = 0; i < kDropoutKeys; ++i) bytes[i] = static_cast<std::uint8_t>(words[i / 4] >> (8 * (i % 4)));
  return bytes;
}

/// Whether dropout keeps one entry.
constexpr bool dropout_keeps(const Dropout& dropout, std::int64_t key_index, std::int64_t query_index,
                             std::int64_t head_index) {
  const auto bytes = dropout_bytes(dropout.seed, dropout.offset, static_cast<std::uint32_t>(key_index / kDropoutKeys),
                                   static_cast<std::uint32_t>(query_index), static_cast<std::uint32_t>(head_index));
  return bytes[key_index % kDropoutKeys] < dropout.keep_below;
}

}  // namespace tilewise
