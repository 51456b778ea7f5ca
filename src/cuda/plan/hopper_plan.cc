#include "cuda/plan/hopper_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/round_up.h"
#include "tilewise/arguments.h"
#include "variant/cuda_text.h"
#include "variant/hoist.h"

namespace tilewise::cuda {
namespace {

/// A tile in chunks of 128 bytes a row.
std::int64_t chunked_bytes(int rows, int columns, int element_bytes = 2) {
  return rows * round_up(columns * element_bytes, 128);
}

bool is_float8(const ForwardShape& shape) { return shape.dtype == DType::float8_e4m3; }

// Barriers, and a piece of work as it is told: the sequence and the variant's uniform values.
constexpr int kBarrierBytes = 320, kPlaceBytes = 384;

/// The most that values of `queries`, and with score functions of `others` (keys and diagonals), take.
std::int64_t kept_bytes(bool has_scores, int queries, int others) {
  return 4 *
         std::int64_t{has_scores ? variant::kMostKeptFields * (queries + others) : variant::kMostKeptOfMasks * queries};
}

/// The most that a consumer's sums of gradients take (device/walk_gradients.h): the variant's uniform values once more,
/// what threads keep, elements of diagonals, and rows by which lanes' sums of diagonals or queries are added up.
std::int64_t sum_bytes(const GradientSlots& slots) {
  const auto of = [&](variant::Hoist hoist) { return std::int64_t{slots[static_cast<std::size_t>(hoist)]}; };
  const std::int64_t diagonals = of(variant::Hoist::diagonal), rows = diagonals + of(variant::Hoist::query);
  const std::int64_t kept = of(variant::Hoist::uniform) + 2 * of(variant::Hoist::key) + diagonals;
  const bool is_any = rows + kept + of(variant::Hoist::entry) > 0;
  return (is_any ? kPlaceBytes + 1024 : 0) + kept * 128 * 4 + diagonals * 3 * 4 * 8 + (rows > 0 ? 4 * 8 * 84 * 4 : 0);
}

/// What is known of 64 tiles that values are kept for, a count of such tiles and one of pieces; backward of 128, a
/// count and a factor.
constexpr int kSteadyBytes = 64 * 8 + 8, kSteadyBytesBackward = 128 * 8 + 8;

}  // namespace

int HopperForwardPlan::matrix_registers(const ForwardShape& shape) const {
  const int of_element = is_float8(shape) ? 1 : 2;  // bytes
  const int output = rounded_to_16(shape.d_v) / 2, scores = key_tile / 2, weights = 2 * key_tile * of_element / 8;
  return output + scores + weights + (query_in_registers ? rounded_to_16(shape.d_qk) * of_element / 8 : 0);
}

std::int64_t HopperForwardPlan::tile_bytes(const ForwardShape& shape) const {
  const int of_element = is_float8(shape) ? 1 : 2;
  // Values of float8_e4m3 lie transposed.
  const std::int64_t values =
      is_float8(shape) ? chunked_bytes(rounded_to_16(shape.d_v), key_tile, 1) : chunked_bytes(key_tile, shape.d_v);
  return query_stages * chunked_bytes(query_tile(), shape.d_qk, of_element) +
         stages * (chunked_bytes(key_tile, shape.d_qk, of_element) + values) +
         (stages_output ? chunked_bytes(query_tile(), shape.d_v) : 0);
}

std::int64_t HopperForwardPlan::other_shared() const {
  return kBarrierBytes + 4 * kPlaceBytes +
         kept_bytes(has_scores, 2 * query_tile(), has_offsets ? 4 * (key_tile + query_tile() - 1 + key_tile) : 0) +
         (has_scores ? kSteadyBytes : 0);
}

bool HopperForwardPlan::fits(const ForwardShape& shape, const Multiprocessor& limits) const {
  return tile_bytes(shape) + other_shared() <= limits.shared_bytes_per_block &&
         matrix_registers(shape) <= consumer_registers();
}

std::string HopperForwardPlan::text() const {
  return fmt::format("sm_90a, {} x {}, {} consumers, {} stages{}", query_tile(), key_tile, consumers, stages,
                     query_in_registers ? ", q in registers" : "");
}

bool takes_small_parts(const ForwardShape& shape, bool has_scores) {
  const bool is_half = shape.dtype == DType::bfloat16 || shape.dtype == DType::float16;
  const bool is_measured = shape.d_qk <= 256 && shape.d_v <= 256 && (shape.d_qk <= 128 || shape.d_v > 128);
  return is_half && is_measured && !has_scores && shape.has_lists;
}

double cost_of_small_tiles(const ForwardShape& shape, const ScoreWork& scores) {
  // What narrower products cost. At d 64 and 256 that is little: documents of multiples of 512 tokens at 16k, of which
  // tiles of 96 and 80 keys hold 1.05 and 1.03 of what tiles of 64 do, take 0.87 and 0.93 of the time by these. But not
  // where a mask follows diagonals: a window, of which they hold 1.06, takes 1.03 and 1.02 of it.
  const bool is_middle = shape.d_v > 64 && shape.d_v <= 128;
  return is_middle || scores.mask_follows_diagonals ? 1.2 : 1.03;
}

namespace {

/// With what shared memory has room for besides: queries that stay there leave it late, so that the next ones take
/// another place, and output goes through it.
HopperForwardPlan with_what_fits(HopperForwardPlan plan, const ForwardShape& shape, const Multiprocessor& limits) {
  const auto take_if_it_fits = [&](const HopperForwardPlan& other) {
    if (other.fits(shape, limits)) plan = other;
  };
  auto other = plan;
  other.query_stages = plan.query_in_registers ? 1 : 2;
  take_if_it_fits(other);
  other = plan;
  other.stages_output = true;
  take_if_it_fits(other);
  return plan;
}

}  // namespace

std::vector<HopperForwardPlan> hopper_forward_candidates(const ForwardShape& shape, const ScoreWork& scores,
                                                         const Multiprocessor& limits) {
  std::vector<HopperForwardPlan> candidates;
  const bool has_scores = scores.is_any;
  // Entries wait longer for their functions than two consumers' products take: a third fills the waiting. Of plain at
  // d 128, in one run: softcap 0.831 by 192 x 80, 0.802 by 128 x 128 in turns; ten operations 0.719 and 0.622.
  const bool has_functions = scores.special_functions > 0;
  // What is long needs the registers in which queries would lie, or which the widest tile takes, to make many entries
  // at a time. Drawn scores of ten operations at d 128, in one run: 0.731, 0.659, 0.599, 0.552 of plain with queries in
  // registers, 0.825, 0.812, 0.641, 0.663 without; at d 64 0.690, 0.654, 0.507 by 112 keys, 0.700, 0.697, 0.608 by 96.
  const bool needs_registers = scores.is_long && !has_functions;
  const auto add = [&](HopperForwardPlan plan) {
    plan.has_scores = has_scores;
    plan.has_offsets = scores.has_offsets;
    // Lengths are seldom multiples of 192. Consumers that are left without queries then have nothing to do in the row
    // with the fewest keys, rather than in the one with the most: causal attention of 512 tokens at d 64 takes 15 steps
    // of 64 keys a head instead of 17. Scores would ask for values of queries that do not exist.
    plan.ends_with_queries = plan.consumers == 3 && shape.has_lists && !has_scores && scores.mask_follows_diagonals;
    plan = with_what_fits(plan, shape, limits);
    if (plan.fits(shape, limits)) candidates.push_back(plan);
  };
  if (shape.has_small_parts && takes_small_parts(shape, has_scores)) {
    if (shape.d_v <= 64) add({3, 64, 4, true});
    if (shape.d_v <= 128) add({2, 64, 4, true});
    add({2, 64, 2, false});
  }
  if (shape.d_v <= 64) {
    // What the last tiles of a short sequence leave unused, and what a mask does of the tiles that it cuts, costs more
    // than the narrower product.
    if (!has_scores && shape.short_keys > 0 && (shape.short_keys <= 512 || !shape.has_lists)) add({3, 64, 4, false});
    if (!has_scores && shape.has_lists) add({3, 96, 4, false});
    if ((has_functions && scores.has_offsets) || needs_registers) add({3, 96, 4, false});
    add({3, 112, 4, false}), add({3, 112, 2, false}), add({3, 96, 2, true}), add({2, 128, 2, true});
  } else if (shape.d_v <= 128) {
    // Where nothing is kept for entries there is room for four stages, by which consumers may be further apart: softcap
    // 0.812 and 0.806 of plain where it was 0.804 and 0.797 by two, in turns.
    if (has_functions && !shape.has_lists && shape.short_keys == 0) add({3, 80, 4, false});
    if (has_functions) add({3, 80, 2, false});
    if (needs_registers) add({2, 128, 2, false});
    if (shape.d_qk <= 128) add({2, 128, 2, true});  // beyond, q takes registers that weights need
    add({2, 128, 2, false}), add({3, 64, 2, false}), add({3, 80, 2, false});
  }
  add({2, 80, 2, false}), add({2, 64, 2, false});
  return candidates;
}

std::vector<HopperForwardPlan> hopper_float8_candidates(const ForwardShape& shape, const Multiprocessor& limits) {
  std::vector<HopperForwardPlan> candidates;
  const auto add = [&](const HopperForwardPlan& wanted) {
    const HopperForwardPlan plan = with_what_fits(wanted, shape, limits);
    if (plan.fits(shape, limits)) candidates.push_back(plan);
  };
  // From registers, queries slow down what makes exponentials meanwhile: d 128 full 876, from shared memory 926.
  if (shape.d_qk <= 128 && shape.d_v <= 128) add({2, 128, 4, false});
  add({2, 128, 2, false}), add({2, 64, 2, false});
  return candidates;
}

int polynomials_of_eight(const ForwardShape& shape, const ScoreWork& scores) {
  // Narrow heads leave the tensor cores idle where a tanh and an exponential wait for one unit: softcap at d 64 0.658
  // of plain by 0, 0.723 by 2, 0.650 by 4. At d 128 a polynomial's operations slow the products: 0.797 by 0, 0.751
  // by 2. Ten operations at d 64 0.554 by 2, 0.574 by 0. A cubic is right to 2^-13.7, which bfloat16 hides.
  const bool pays = shape.d_v <= 64 && scores.special_functions > 0 && !scores.has_offsets;
  return shape.dtype == DType::bfloat16 && pays ? 2 : 0;
}

bool takes_turns(const ForwardShape& shape, const ScoreWork& scores) {
  // Of plain at d 64, with and without turns, in one run: softcap 0.750 and 0.709, ten operations 0.517 and 0.490. At
  // d 128 softcap 0.803 and 0.831, ALiBi 0.855 and 0.876. Long scores without functions gain everywhere: four drawn
  // ones at d 128 0.695, 0.679, 0.762, 0.587 and 0.638, 0.610, 0.727, 0.549; at d 64 0.647, 0.706, 0.536 and 0.618,
  // 0.692, 0.532.
  return scores.special_functions > 0 ? shape.d_v <= 64 : scores.is_long && shape.d_v <= 128;
}

std::string hopper_refusal(const ForwardShape& shape) {
  if (shape.dtype == DType::float8_e4m3) return "float8_e4m3 has no gradients";
  if (shape.dtype == DType::float32) return "float32 is split for mma.sync, which the portable kernels use";
  if (shape.has_max_score) return "the largest scores of heads are asked for";
  if (shape.is_paged && shape.page_multiple == 1) return "pages do not hold multiples of 8 tokens";
  if (!shape.is_aligned) return "rows do not begin at multiples of 16 bytes";
  return "";
}

std::string hopper_float8_refusal(const ForwardShape& shape, bool changes_scores) {
  if (changes_scores) return "float8_e4m3 comes without score functions";
  if (shape.has_dropout) return "float8_e4m3 comes without dropout";
  if (shape.is_paged) return "float8_e4m3 comes without pages";
  if (shape.has_max_score) return "the largest scores of heads are asked for";
  for (const auto& [name, d] : {std::pair{"d_qk", shape.d_qk}, {"d_v", shape.d_v}}) {
    if (d < 16 || d > 256 || d % 16 != 0)
      return fmt::format("{} is {}; of float8_e4m3 it takes multiples of 16 from 16 to 256", name, d);
  }
  if (shape.o_dtype != DType::bfloat16 && shape.o_dtype != DType::float16)
    return fmt::format("o_dtype is {}; beside float8_e4m3 it takes bfloat16 and float16", to_string(shape.o_dtype));
  if (!shape.is_aligned) return "rows do not begin at multiples of 16 bytes";
  return "";
}

std::int64_t float8_blocks(std::int64_t s_kv) { return ceil_div(s_kv, kScaleRows); }
std::int64_t float8_value_bytes(std::int64_t s_kv, std::int64_t d_v) { return float8_blocks(s_kv) * kScaleRows * d_v; }

std::int64_t HopperBackwardPlan::tile_bytes(const ForwardShape& shape) const {
  const auto both = [&](int rows) { return chunked_bytes(rows, shape.d_qk) + chunked_bytes(rows, shape.d_v); };
  return both(keys) + stages * (both(kQueries) + 2 * kQueries * 4) + 2 * chunked_bytes(kQueries, keys);
}

std::int64_t HopperBackwardPlan::other_shared() const {
  // What consumers keep; of scores of narrow heads what is kept, and begun at, four tiles ahead.
  constexpr int kAhead = 4, kDiagonals = kQueries + 128 - 1;
  const std::int64_t own = 2 * kept_bytes(has_scores, 2 * kQueries, 64 + 2 * 127);
  const std::int64_t ahead = kPlaceBytes + kept_bytes(true, 0, 128) +
                             kAhead * (kept_bytes(true, kQueries, kDiagonals) + 4 * std::int64_t{kDiagonals});
  return kBarrierBytes + 2 * (kPlaceBytes + sum_bytes(slots) + (has_scores ? kSteadyBytesBackward : 0)) +
         (has_scores && keys == 128 ? std::max(own, ahead) : own);
}

bool HopperBackwardPlan::fits(const ForwardShape& shape, const Multiprocessor& limits) const {
  return tile_bytes(shape) + other_shared() <= limits.shared_bytes_per_block;
}

std::string HopperBackwardPlan::text() const {
  return fmt::format("sm_90a, {} x {}, {} stages{}", kQueries, keys, stages, is_paired ? ", pairs of blocks" : "");
}

std::vector<HopperBackwardPlan> hopper_backward_candidates(const ForwardShape& shape, bool changes_scores,
                                                           const Multiprocessor& limits, const GradientSlots& slots) {
  std::vector<HopperBackwardPlan> candidates;
  const bool is_wide = std::max(shape.d_qk, shape.d_v) > 128;
  const auto add = [&](int stages, bool is_paired) {
    const HopperBackwardPlan plan{stages, changes_scores, is_wide ? 64 : 128, slots, is_paired};
    if (plan.fits(shape, limits)) candidates.push_back(plan);
  };
  // Blocks of 64 keys read and add so much that the second-level cache is what they wait for. Turns are counted for
  // single blocks.
  if (is_wide && !shape.is_deterministic) add(2, true);
  add(2, false), add(4, false);
  return candidates;
}

std::string hopper_backward_refusal(const ForwardShape& shape) {
  if (shape.has_gradients && std::max(shape.d_qk, shape.d_v) > 128)
    return "gradients of tables or parameters are asked for, of more than 128 columns";
  if (shape.is_paged) return "k and v lie in pages";
  return hopper_refusal(shape);
}

}  // namespace tilewise::cuda
