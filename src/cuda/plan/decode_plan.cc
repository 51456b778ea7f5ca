#include "cuda/plan/decode_plan.h"

#include <fmt/format.h>

#include <algorithm>

namespace tilewise::cuda {
namespace {

constexpr std::int64_t kLeastTiles = 4;  // of a split: 256 keys, beside which merging a result does not show
constexpr std::int64_t kMostRounds = 4;  // of blocks, beyond which the last, incomplete one does not count

std::int64_t row_bytes(int columns) { return std::int64_t{columns + 63} / 64 * 128; }  // whole lines

}  // namespace

std::int64_t DecodePlan::shared_bytes(const ForwardShape& shape) const {
  const std::int64_t stage = std::int64_t{kKeys} * (row_bytes(shape.d_qk) + row_bytes(shape.d_v));
  const std::int64_t sums = std::int64_t{kWarps} * kRows * ((shape.d_v + 15) / 16 * 16) * 4;
  return std::max(stages * stage, sums);
}

std::string DecodePlan::text() const {
  return fmt::format("{} rows x {} keys, {} warps, {} stages, {} block{}", kRows, kKeys, kWarps, stages, blocks,
                     blocks == 1 ? "" : "s");
}

std::optional<DecodePlan> choose_decode(const ForwardShape& shape, const Multiprocessor& limits) {
  if (shape.has_dropout || !shape.is_aligned) return std::nullopt;
  constexpr int kMostStages = 8;
  // Beyond 128 columns of v the sums take more than half of the registers.
  for (int blocks = shape.d_v > 128 || shape.d_qk > 128 ? 1 : 2; blocks >= 1; --blocks) {
    for (int stages = kMostStages; stages >= 2; --stages) {
      const DecodePlan plan{stages, blocks};
      const std::int64_t bytes = plan.shared_bytes(shape);
      // What lies in static shared memory, the rows' hoisted values, has the room of 2 KiB.
      constexpr std::int64_t kStatic = 2048;
      if (bytes + kStatic <= limits.shared_bytes_per_block &&
          blocks * (bytes + kStatic + Multiprocessor::kReservedShared) <= limits.shared_bytes) {
        return plan;
      }
    }
  }
  return std::nullopt;
}

std::int64_t decode_row_tiles(std::int64_t heads_per_kv, std::int64_t s_q) {
  return (heads_per_kv * s_q + DecodePlan::kRows - 1) / DecodePlan::kRows;
}

std::int64_t most_decode_parts(std::int64_t units, std::int64_t slots) { return std::max(units, kMostRounds * slots); }

std::int64_t decode_splits(std::int64_t units, std::int64_t slots, std::int64_t s_kv) {
  if (units == 0) return 1;
  const std::int64_t tiles = (s_kv + DecodePlan::kKeys - 1) / DecodePlan::kKeys;
  const std::int64_t most = std::clamp(tiles / kLeastTiles, std::int64_t{1},
                                       std::max(std::int64_t{1}, most_decode_parts(units, slots) / units));
  const auto efficiency = [&](std::int64_t splits) {
    const std::int64_t parts = units * splits, rounds = (parts + slots - 1) / slots;
    return static_cast<double>(parts) / static_cast<double>(rounds * slots);
  };
  double best = 0;
  for (std::int64_t splits = 1; splits <= most; ++splits) best = std::max(best, efficiency(splits));
  std::int64_t splits = 1;
  while (efficiency(splits) < 0.95 * best) ++splits;
  return splits;
}

}  // namespace tilewise::cuda
