#include "cuda/plan/forward_plan.h"

#include <algorithm>

#include "core/fail.h"

namespace tilewise::cuda {
namespace {

constexpr int kElementBytes = 2;
constexpr int kLine = 64;  // elements: a row in shared memory takes whole lines, see device/shared_tile.h
constexpr int kThreadLimit = 255;

int rounded_to_16(int columns) { return (columns + 15) / 16 * 16; }

std::int64_t tile_bytes(int rows, int columns) {
  return std::int64_t{rows} * ((columns + kLine - 1) / kLine * kLine) * kElementBytes;
}

void expect_dimension(const char* name, int d) {
  if (d < 8 || d > 256 || d % 8 != 0) {
    fail(ErrorCode::unsupported, "{} is {}; the GPU's forward kernel takes multiples of 8 from 8 to 256", name, d);
  }
}

}  // namespace

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
  const std::int64_t inputs = tile_bytes(query_tile(), shape.d_qk) +
                              stages * (tile_bytes(key_tile, shape.d_qk) + tile_bytes(key_tile, shape.d_v));
  return std::max(inputs, tile_bytes(query_tile(), shape.d_v));
}

int ForwardPlan::matrix_registers(const ForwardShape& shape) const {
  const int output = row_blocks * rounded_to_16(shape.d_v) / 2;
  const int scores = 2 * row_blocks * key_tile / 2;  // of the tile at hand and of the next
  const int query = query_in_registers ? row_blocks * rounded_to_16(shape.d_qk) / 4 : 0;
  return output + scores + query;
}

int ForwardPlan::register_limit(const Multiprocessor& limits) const {
  return std::min(kThreadLimit, limits.registers / (blocks * threads()) / 8 * 8);  // given out eight at a time
}

bool ForwardPlan::fits(const ForwardShape& shape, const Multiprocessor& limits) const {
  const std::int64_t shared = shared_bytes(shape);
  return shared <= limits.shared_bytes_per_block &&
         blocks * (shared + Multiprocessor::kReservedShared) <= limits.shared_bytes &&
         matrix_registers(shape) + kOtherRegisters <= register_limit(limits) + 1;  // 255 is 256 with one reserved
}

std::string ForwardPlan::text() const {
  return fmt::format("{} x {}, {} warps, {} stages, {} block{}{}", query_tile(), key_tile, warps, stages, blocks,
                     blocks == 1 ? "" : "s", query_in_registers ? ", q in registers" : "");
}

void validate(const ForwardShape& shape) {
  if (shape.dtype != DType::bfloat16 && shape.dtype != DType::float16) {
    fail(ErrorCode::unsupported, "dtype is {}; the GPU's forward kernel takes bfloat16 and float16",
         to_string(shape.dtype));
  }
  expect_dimension("d_qk", shape.d_qk);
  expect_dimension("d_v", shape.d_v);
}

std::vector<ForwardPlan> forward_candidates(const ForwardShape& shape, const Multiprocessor& limits) {
  validate(shape);
  // 32 queries a warp use every fragment of k and v twice, which halves the reads of shared memory, the next limit
  // after the tensor cores; beyond 128 output columns their sums no longer fit into a thread's registers.
  std::vector<ForwardPlan> candidates;
  for (const int row_blocks : {2, 1}) {
    for (const int key_tile : {48, 32, 16}) {
      for (const bool query_in_registers : {false, true}) {
        for (const int warps : {4, 8}) {
          for (int blocks = 3; blocks >= 1; --blocks) {
            const ForwardPlan plan{warps, row_blocks, key_tile, 3, blocks, query_in_registers};
            if (plan.fits(shape, limits)) candidates.push_back(plan);
          }
        }
      }
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

ForwardPlan choose_forward(const ForwardShape& shape, const Multiprocessor& limits) {
  return forward_candidates(shape, limits).front();
}

}  // namespace tilewise::cuda
