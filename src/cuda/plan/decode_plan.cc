#include "cuda/plan/decode_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/fail.h"
#include "core/round_up.h"

namespace tilewise::cuda {
namespace {

constexpr std::int64_t kLeastTiles = 4;  // of a split, as device/decode_rows.h has it
constexpr std::int64_t kMostRounds = 4;  // of blocks, beyond which the last, incomplete one does not count

}  // namespace

std::int64_t DecodePlan::shared_bytes(const ForwardShape& shape) const {
  const auto row_bytes = [&](std::int64_t columns) { return shared_row_bytes(static_cast<int>(columns), shape.dtype); };
  const std::int64_t values = values_in_keys ? 0 : row_bytes(shape.d_v);
  const std::int64_t stage = keys * (row_bytes(shape.d_qk) + values);
  const std::int64_t columns = rounded_to_16(shape.d_v);
  if (is_hopper) return (rows + stages * keys) * row_bytes(shape.d_qk);
  if (!is_wide) return std::max(stages * stage, threads() / 32 * rows * (columns + 8) * 4);
  const std::int64_t queries_and_weights = rows * (row_bytes(shape.d_qk) + row_bytes(keys));
  return std::max(queries_and_weights + stages * stage, rows * columns * 4);
}

std::string DecodePlan::text() const {
  return fmt::format("{}{} rows x {} keys, {} warps, {} stages, {} block{}{}", is_hopper ? "sm_90a, " : "", rows, keys,
                     threads() / 32, stages, blocks, blocks == 1 ? "" : "s", values_in_keys ? ", v in k" : "");
}

void validate_decode(const ForwardShape& shape) {
  if (!needs_wide_decode(shape)) return validate(shape);
  ForwardShape narrow = shape;
  narrow.d_qk = narrow.d_v = 8;
  validate(narrow);
  for (const auto& [name, d] : {std::pair{"d_qk", shape.d_qk}, {"d_v", shape.d_v}}) {
    if (d < 8 || d > DecodePlan::kMostDimension || d % 8 != 0) {
      fail(ErrorCode::unsupported, "{} is {}; the GPU's decoding kernels take multiples of 8 from 8 to {}", name, d,
           DecodePlan::kMostDimension);
    }
  }
}

bool needs_wide_decode(const ForwardShape& shape) { return shape.d_qk > 256 || shape.d_v > 256; }

namespace {

/// What lies in static shared memory: hoisted values of rows, and what warps tell each other.
std::int64_t static_bytes(const DecodePlan& plan) { return plan.is_wide ? 96 * plan.rows : 2048; }

bool fits(const DecodePlan& plan, const ForwardShape& shape, const Multiprocessor& limits) {
  const std::int64_t bytes = plan.shared_bytes(shape) + static_bytes(plan);
  return bytes <= limits.shared_bytes_per_block &&
         plan.blocks * (bytes + Multiprocessor::kReservedShared) <= limits.shared_bytes;
}

/// Where the values' columns are halved among two warpgroups, and the keys have 64 columns more, in whose place weights
/// lie. With 16 rows and fewer three quarters of its products would be of nothing.
std::optional<DecodePlan> choose_hopper(const ForwardShape& shape, const Multiprocessor& limits, std::int64_t rows) {
  const bool has_columns = shape.d_v % 128 == 0 && shape.d_v <= 512 && shape.d_qk > shape.d_v && shape.d_qk % 64 == 0;
  if (!shape.values_in_keys || shape.dtype == DType::float32 || !has_columns || rows <= 16) return std::nullopt;
  if (shape.is_paged && shape.page_multiple == 1) return std::nullopt;
  const DecodePlan plan{true, 64, 64, 2, 1, true, true};
  return fits(plan, shape, limits) ? std::optional(plan) : std::nullopt;
}

std::optional<DecodePlan> choose_wide(const ForwardShape& shape, const Multiprocessor& limits, std::int64_t rows) {
  // More rows read keys from shared memory less often; but not more than there are. Few of them leave room for more
  // keys at a time, without which a tile's latency shows. With two stages a tile is only asked for when it is due.
  for (const int least_stages : {3, 2}) {
    for (const int most : {64, 32, 16}) {
      if (most > 16 && rows <= most / 2) continue;
      for (const int keys : {most > 16 ? 32 : 64, most > 16 ? 16 : 32, 16}) {
        for (int stages = 4; stages >= least_stages; --stages) {
          const DecodePlan plan{true, most, keys, stages, 1, shape.values_in_keys};
          if (fits(plan, shape, limits)) return plan;
        }
      }
    }
  }
  return std::nullopt;
}

}  // namespace

std::vector<DecodePlan> decode_candidates(const ForwardShape& shape, const Multiprocessor& limits, std::int64_t rows,
                                          bool has_wgmma, bool has_scores, bool has_many_units) {
  std::vector<DecodePlan> candidates;
  if (shape.has_dropout || shape.has_max_score || !shape.is_aligned || shape.dtype == DType::float8_e4m3)
    return candidates;
  if (needs_wide_decode(shape)) {
    if (has_wgmma) {
      if (const auto plan = choose_hopper(shape, limits, rows)) candidates.push_back(*plan);
    }
    if (const auto plan = choose_wide(shape, limits, rows)) candidates.push_back(*plan);
    return candidates;
  }
  constexpr int kMostStages = 8;
  const auto add = [&](int blocks, int most_stages) {
    for (int stages = most_stages; stages >= 2; --stages) {
      DecodePlan plan;
      plan.stages = stages, plan.blocks = blocks;
      if (!fits(plan, shape, limits)) continue;
      if (std::ranges::find(candidates, plan) == candidates.end()) candidates.push_back(plan);
      return;
    }
  };
  const auto add_all = [&](int blocks) {
    add(blocks, kMostStages);
    add(blocks, 4);
    add(blocks, 3);
  };
  // Beyond 128 columns the sums take more than half of the registers. Where a tile is large and its scores are little
  // work, four warps keep up with the memory, and a block of its own on each multiprocessor needs the fewest splits:
  // with 16 sequences of 8 heads, on an H200, 0.99 of cuDNN beside 0.96. With 64, which need none either way, it is
  // 0.975 beside 1.00. Looking up pages is work again: pages of 16 took one block to 0.82 to 0.86 of one piece.
  const bool has_room_for_two = shape.d_v <= 128 && shape.d_qk <= 128;
  const bool is_read_bound =
      !has_scores && !shape.is_paged && !has_many_units && (shape.d_qk + shape.d_v) * size_of(shape.dtype) >= 512;
  if (has_room_for_two && !is_read_bound) add_all(2);
  add_all(1);
  if (has_room_for_two && is_read_bound) add_all(2);
  return candidates;
}

std::optional<DecodePlan> choose_decode(const ForwardShape& shape, const Multiprocessor& limits, std::int64_t rows,
                                        bool has_wgmma, bool has_scores, bool has_many_units) {
  const std::vector<DecodePlan> candidates =
      decode_candidates(shape, limits, rows, has_wgmma, has_scores, has_many_units);
  return candidates.empty() ? std::nullopt : std::optional(candidates.front());
}

std::int64_t decode_row_tiles(const DecodePlan& plan, std::int64_t heads_per_kv, std::int64_t s_q) {
  return ceil_div(heads_per_kv * s_q, plan.rows);
}

std::int64_t most_decode_parts(std::int64_t units, std::int64_t slots) { return std::max(units, kMostRounds * slots); }

std::int64_t decode_splits(std::int64_t units, std::int64_t slots, std::int64_t s_kv, std::int64_t tile_keys) {
  if (units == 0) return 1;
  const std::int64_t tiles = ceil_div(s_kv, tile_keys);
  const std::int64_t most = std::clamp(tiles / kLeastTiles, std::int64_t{1},
                                       std::max(std::int64_t{1}, most_decode_parts(units, slots) / units));
  const auto efficiency = [&](std::int64_t splits) {
    const std::int64_t parts = units * splits, rounds = ceil_div(parts, slots);
    return static_cast<double>(parts) / static_cast<double>(rounds * slots);
  };
  double best = 0;
  for (std::int64_t splits = 1; splits <= most; ++splits) best = std::max(best, efficiency(splits));
  std::int64_t splits = 1;
  while (efficiency(splits) < 0.95 * best) ++splits;
  return splits;
}

}  // namespace tilewise::cuda
