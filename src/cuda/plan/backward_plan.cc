#include "cuda/plan/backward_plan.h"

#include <algorithm>

#include "core/fail.h"
#include "core/round_up.h"

namespace tilewise::cuda {
namespace {

std::int64_t blocks_of(int columns) { return ceil_div(columns, 16); }

}  // namespace

std::int64_t BackwardPlan::shared_bytes(const ForwardShape& shape) const {
  const auto row_bytes = [&](int columns) { return shared_row_bytes(columns, shape.dtype); };
  const std::int64_t both = row_bytes(shape.d_qk) + row_bytes(shape.d_v);
  const int score_tiles = score_columns == 1 && column_warps == 1 ? 1 : 2;
  constexpr int kBarriers = 64;
  return keys * both + score_tiles * keys * row_bytes(queries) + stages * (queries * both + 2 * queries * 4) +
         kBarriers;
}

int BackwardPlan::matrix_registers(const ForwardShape& shape) const {
  constexpr int kOfBlock = 8;  // of 16 x 16 float32, over 32 lanes
  const int key_rows = keys / 16 / (warps / column_warps);
  const std::int64_t columns =
      ceil_div(blocks_of(shape.d_qk), column_warps) + ceil_div(blocks_of(shape.d_v), column_warps);
  const int scores = keys / 16 / (warps / score_columns) * (queries / 16 / score_columns);
  return static_cast<int>((key_rows * columns + 2 * scores) * kOfBlock);
}

std::int64_t BackwardPlan::gradient_bytes() const {
  const int diagonals = keys / 8 / (warps / score_columns) + queries / 8 / score_columns - 1;  // of blocks of 8
  const int row = 8 * diagonals, stride = row + (20 - row % 16) % 16;
  return std::int64_t{warps} * 8 * stride * 4;
}

bool BackwardPlan::fits(const ForwardShape& shape, const Multiprocessor& limits, const KeptFields& kept) const {
  constexpr std::int64_t kStatic = 512;  // the variant's hoisted values of a head
  const std::int64_t shared =
      shared_bytes(shape) + kStatic + kept.bytes(queries, keys, 2, 1, 2) + (shape.has_gradients ? gradient_bytes() : 0);
  const int limit = std::min(255, limits.registers / (blocks * threads()) / 8 * 8);
  return shared <= limits.shared_bytes_per_block &&
         blocks * (shared + Multiprocessor::kReservedShared) <= limits.shared_bytes &&
         matrix_registers(shape) + other_registers(shape.dtype) <= limit + 1;  // 255 is 256 with one reserved
}

std::string BackwardPlan::text() const {
  return fmt::format("{} x {}, {} warps, {} stage{}, {} block{}", queries, keys, warps, stages, stages == 1 ? "" : "s",
                     blocks, blocks == 1 ? "" : "s");
}

std::vector<BackwardPlan> backward_candidates(const ForwardShape& shape, bool changes_scores,
                                              const Multiprocessor& limits, const KeptFields& kept) {
  validate(shape);
  // {queries, keys, warps, stages, score_columns, column_warps}. Wide pieces use each fragment more often, which spares
  // shared memory, the next limit after the tensor cores; beyond 128 columns the sums of 16 keys fill a thread's
  // registers, so several warps share them. 128 queries halve the barriers of narrow heads; columns that do not divide
  // evenly leave no registers for them.
  constexpr BackwardPlan kAll[] = {{128, 128, 8, 2, 2, 2}, {64, 128, 8, 2, 2, 2}, {64, 64, 4, 2, 1, 1},
                                   {32, 64, 8, 2, 2, 4},   {64, 64, 8, 2, 2, 4},  {32, 64, 8, 1, 2, 4},
                                   {32, 32, 4, 1, 2, 2}};
  std::vector<BackwardPlan> candidates;
  const bool is_even = shape.d_qk % 32 == 0 && shape.d_v % 32 == 0;
  for (BackwardPlan plan : kAll) {
    if (plan.queries > 64 && !is_even) continue;
    for (plan.blocks = 3; plan.blocks >= 1; --plan.blocks) {
      if (!plan.fits(shape, limits, kept)) continue;
      candidates.push_back(plan);
      break;
    }
  }
  // Score functions keep warps from the tensor cores: sixteen of them on a multiprocessor, which 64 columns leave room
  // for, were 18% faster than eight at softcap on an H200, and 18% slower without it.
  const auto busiest = std::ranges::find_if(
      candidates, [](const BackwardPlan& plan) { return plan.queries == 64 && plan.warps * plan.blocks == 16; });
  if (changes_scores && busiest != candidates.end()) std::rotate(candidates.begin(), busiest, busiest + 1);
  if (candidates.empty()) {
    fail(ErrorCode::unsupported, "no backward kernel for d_qk = {} and d_v = {} fits into {} bytes of shared memory",
         shape.d_qk, shape.d_v, limits.shared_bytes_per_block);
  }
  return candidates;
}

BackwardPlan choose_backward(const ForwardShape& shape, bool changes_scores, const Multiprocessor& limits,
                             const KeptFields& kept) {
  return backward_candidates(shape, changes_scores, limits, kept).front();
}

int deterministic_parts(std::int64_t s_kv) {
  // 1024 keys and more of a part, so that the sums' traffic does not show; 8 parts of 16 heads fill a GPU.
  return static_cast<int>(std::clamp<std::int64_t>(s_kv / 1024, 1, 8));
}

}  // namespace tilewise::cuda
