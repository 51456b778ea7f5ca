#include "cuda/plan/forward_plan.h"

#include <algorithm>

#include "core/fail.h"
#include "core/round_up.h"

namespace tilewise::cuda {
namespace {

constexpr int kThreadLimit = 255;

void expect_dimension(const char* name, int d) {
  if (d < 8 || d > 256 || d % 8 != 0) {
    fail(ErrorCode::unsupported, "{} is {}; the GPU's forward kernel takes multiples of 8 from 8 to 256", name, d);
  }
}

}  // namespace

std::int64_t shared_row_bytes(int columns, DType dtype) {
  constexpr std::int64_t kLine = 128;
  return round_up(columns * size_of(dtype), kLine);
}

int rounded_to_16(int columns) { return static_cast<int>(round_up(columns, 16)); }

int other_registers(DType dtype) { return dtype == DType::float32 ? 96 : 64; }

Multiprocessor Multiprocessor::of(const jit::Architecture& architecture) {
  constexpr std::int64_t kKiB = 1024;
  switch (architecture.number) {
    case 80:
    case 87: return {164 * kKiB, 163 * kKiB};
    case 90:
    case 100:
    case 103: return {228 * kKiB, 227 * kKiB};
    default: return {100 * kKiB, 99 * kKiB};
  }
}

std::int64_t ForwardPlan::shared_bytes(const ForwardShape& shape) const {
  const std::int64_t row_qk = shared_row_bytes(shape.d_qk, shape.dtype),
                     row_v = shared_row_bytes(shape.d_v, shape.dtype);
  const std::int64_t barriers = stages == 4 ? 2 * stages * 8 : 0;  // with which warps need not go in step
  return query_tile() * row_qk + stages * key_tile * (row_qk + row_v) + barriers;
}

int ForwardPlan::matrix_registers(const ForwardShape& shape) const {
  const int output = row_blocks * rounded_to_16(shape.d_v) / 2;
  const int scores = 2 * row_blocks * key_tile / 2;  // of the tile at hand and of the next
  const int query =
      query_in_registers ? row_blocks * rounded_to_16(shape.d_qk) * static_cast<int>(size_of(shape.dtype)) / 8 : 0;
  return output + scores + query;
}

int ForwardPlan::register_limit(const Multiprocessor& limits) const {
  return std::min(kThreadLimit, limits.registers / (blocks * threads()) / 8 * 8);  // given out eight at a time
}

std::int64_t ForwardPlan::kept_bytes(const KeptFields& kept) const {
  if (kept.may_be_on_lines) {
    constexpr std::int64_t kLanes = 32, kLineBytes = 8, kBaseBytes = 4;  // TileLine, device/scores.h
    const std::int64_t lines = kLanes * (kLineBytes + 2 * row_blocks * kBaseBytes);
    return warps * (kept.bytes(16 * row_blocks, key_tile, 1, 2, 2) + lines);
  }
  const int tiles = kept.are_of_scores ? 3 : 2;  // kKeptAhead, device/forward_rows.h
  return kept.bytes(query_tile(), key_tile, 1, tiles, tiles);
}

bool ForwardPlan::fits(const ForwardShape& shape, const Multiprocessor& limits, const KeptFields& kept) const {
  const std::int64_t shared = shared_bytes(shape) + kept_bytes(kept);
  return shared <= limits.shared_bytes_per_block &&
         blocks * (shared + Multiprocessor::kReservedShared) <= limits.shared_bytes &&
         matrix_registers(shape) + other_registers(shape.dtype) <=
             register_limit(limits) + 1;  // 255 is 256 with one reserved
}

std::string ForwardPlan::text() const {
  return fmt::format("{} x {}, {} warps, {} stages, {} block{}{}", query_tile(), key_tile, warps, stages, blocks,
                     blocks == 1 ? "" : "s", query_in_registers ? ", q in registers" : "");
}

void validate(const ForwardShape& shape) {
  if (shape.dtype != DType::bfloat16 && shape.dtype != DType::float16 && shape.dtype != DType::float32) {
    fail(ErrorCode::unsupported, "dtype is {}; the GPU's kernels take bfloat16, float16 and float32",
         to_string(shape.dtype));
  }
  expect_dimension("d_qk", shape.d_qk);
  expect_dimension("d_v", shape.d_v);
}

std::vector<ForwardPlan> forward_candidates(const ForwardShape& shape, const Multiprocessor& limits,
                                            const KeptFields& kept) {
  validate(shape);
  // 32 queries a warp use every fragment of k and v twice, which halves the reads of shared memory, the next limit
  // after the tensor cores; beyond 128 output columns their sums no longer fit into a thread's registers.
  std::vector<ForwardPlan> candidates;
  const bool is_wide = shape.dtype == DType::float32;  // whose pieces take the registers that a second block would
  for (int row_blocks = is_wide ? 1 : 2; row_blocks >= 1; --row_blocks) {
    for (const int key_tile : {48, 32, 16}) {
      for (const bool query_in_registers : {false, true}) {
        for (const int warps : {4, 8}) {
          for (int blocks = 3; blocks >= 1; --blocks) {
            // Warps that are a tile apart are faster at d 128, 378 for 374 TFLOP/s full, causal 384 for 368, slower at
            // d 64, 313 for 325, and with scores, softcap at d 128 310 for 347: also, of what is kept for tiles there
            // is room for two, which they would take from each other.
            for (const int stages : {4, 3}) {
              if (stages == 4 && (kept.are_of_scores || shape.d_qk + shape.d_v < 192)) continue;
              const ForwardPlan plan{warps, row_blocks, key_tile, stages, blocks, query_in_registers};
              if (plan.fits(shape, limits, kept)) candidates.push_back(plan);
            }
          }
        }
      }
    }
  }
  // Rows of float32 take twice the room, which GPUs with 99 KiB a block do not have for three tiles of 256 columns.
  for (const int key_tile : {32, 16}) {
    for (const int warps : {4, 2}) {
      const ForwardPlan plan{warps, 1, key_tile, 2, 1, false};
      if (candidates.empty() && plan.fits(shape, limits, kept)) candidates.push_back(plan);
    }
  }
  // More warps on a multiprocessor hide each other's softmax; among equals, the order above.
  std::stable_sort(candidates.begin(), candidates.end(), [](const ForwardPlan& a, const ForwardPlan& b) {
    const auto work = [](const ForwardPlan& plan) { return plan.row_blocks == 2 ? plan.key_tile : 0; };
    if (work(a) != work(b)) return work(a) > work(b);
    return a.warps * a.blocks > b.warps * b.blocks;
  });
  return candidates;
}

ForwardPlan choose_forward(const ForwardShape& shape, const Multiprocessor& limits, const KeptFields& kept) {
  return forward_candidates(shape, limits, kept).front();
}

}  // namespace tilewise::cuda
