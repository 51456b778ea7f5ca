#include "cuda/launch/hopper_backward.h"

#include <algorithm>
#include <array>
#include <span>

#include "core/round_up.h"
#include "cuda/launch/choice.h"
#include "cuda/launch/early.h"
#include "cuda/launch/hopper_program.h"
#include "cuda/launch/kernel_text.h"
#include "cuda/launch/tensor_map.h"

namespace tilewise::cuda {
namespace {

unsigned shared_bytes(const HopperBackwardPlan& plan, const ForwardShape& shape) {
  return static_cast<unsigned>(plan.tile_bytes(shape) + plan.other_shared());
}

/// Key heads whose queries, and what is read and added beside them, the second-level cache holds; two at least, so that
/// blocks that begin at the same time do not all follow each other. At 16k, d 128 (3 heads) causal attention ran at
/// 0.71 of the default pass with 2, 0.74 with 4 and 0.66 with 8; without a mask 2 to 8 made no difference.
/// At d 256 two heads of 16k are more than the cache: causal attention 0.79 with 2, 0.87 with 1.
int heads_together(const ForwardShape& shape, const ForwardExtent& extent, int heads_per_kv, std::int64_t l2_bytes) {
  const std::int64_t of_query = 2 * (shape.d_qk + shape.d_v) + 4 * std::int64_t{shape.d_qk};
  const std::int64_t bytes = std::max<std::int64_t>(extent.s_q, 1) * heads_per_kv * of_query;
  const std::int64_t all = extent.h_q / heads_per_kv * extent.b;
  return static_cast<int>(
      std::min(std::max<std::int64_t>(l2_bytes / bytes, shape.d_qk + shape.d_v > 256 ? 1 : 2), all));
}

/// As the kernel has it (device/sm90/backward_shared.h).
bool can_share(const ForwardShape& shape) {
  return !shape.has_lists && !shape.is_deterministic && !shape.has_gradients && shape.d_qk <= 64 && shape.d_v <= 64;
}

/// How the key tiles of a last round are shared: all from number `from` on, each by so many blocks.
struct LastRound {
  std::int64_t from, tiles;
  unsigned parts;
};

/// Of a call's `tiles`, each with `steps` tiles of queries: those that are left over when all multiprocessors have had
/// as many, if they are so few that clusters of 8, 4 or 2 blocks find room beside each other. Of fewer steps than 64,
/// one launch more costs as much: d 64 took 0.971 of the time at 16k, 0.985 at 4k and 1.019 at 512 tokens.
constexpr std::int64_t kStepsToShare = 64;
LastRound last_round(std::int64_t tiles, std::int64_t steps, int multiprocessors) {
  const std::int64_t left = tiles % multiprocessors;
  if (left == tiles || steps < kStepsToShare) return {tiles, 0, 1};
  for (const unsigned parts : {8U, 4U, 2U}) {
    if (left > 0 && 4 * left * parts <= 3 * multiprocessors) return {tiles - left, left, parts};
  }
  return {tiles, 0, 1};
}

}  // namespace

HopperBackwardPlan HopperBackwardKernels::plan_of(const jit::Context& context, const Variant& variant,
                                                  const ForwardShape& shape) {
  validate(shape);
  expect_hopper(context, hopper_backward_refusal(shape));
  const bool has_scores = changes_scores(variant);
  return chosen(
      context.device(), "backward", shape, has_scores,
      hopper_backward_candidates(shape, has_scores, limits_of(context.device()), gradient_slots(variant, shape)));
}

HopperBackwardKernels::HopperBackwardKernels(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context,
                                             const Variant& variant, const ForwardShape& shape)
    : HopperBackwardKernels(compiler, context, variant, shape, plan_of(*context, variant, shape)) {}

HopperBackwardKernels::HopperBackwardKernels(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context,
                                             const Variant& variant, const ForwardShape& shape,
                                             const HopperBackwardPlan& plan)
    : context_(context),
      shape_(shape),
      plan_(plan),
      text_(hopper_text(variant, shape, true)),
      module_(jit::load_program(
          compiler, hopper_backward_program(variant, text_, shape, plan, context->device().architecture()), context)),
      prepare_(module_->kernel("prepare")),
      backward_(module_->kernel("backward", shared_bytes(plan, shape))),
      finish_(module_->kernel("finish")),
      begins_early_(may_begin_early(*context)),
      counts_added_(begins_early_ && counts_added(variant, shape)) {
  if (shape.is_deterministic) counters_.emplace(context);
}

/// The tensors, and what the kernels reckon with; all but which tiles are shared.
sm90::BackwardCall HopperBackwardKernels::call_of(const BackwardArguments& arguments,
                                                  const ForwardExtent& extent) const {
  constexpr int kQueries = HopperBackwardPlan::kQueries;
  const std::int64_t h_kv = extent.h_q / arguments.heads_per_kv, b = arguments.queries_packed ? 1 : extent.b,
                     b_kv = arguments.keys_packed ? 1 : extent.b;
  const auto of_queries = [&](const TensorView& view, int columns) {
    return tensor_map(*context_, {shape_.dtype, view, b, extent.h_q, extent.q_rows, columns}, kQueries);
  };
  const auto of_keys = [&](const TensorView& view, int columns, int rows) {
    return tensor_map(*context_, {shape_.dtype, view, b_kv, h_kv, extent.kv_rows, columns}, rows);
  };
  sm90::BackwardCall call{};
  call.q = of_queries(arguments.q, shape_.d_qk);
  call.d_o = of_queries(arguments.d_o, shape_.d_v);
  call.k = of_keys(arguments.k, shape_.d_qk, plan_.keys);
  call.v = of_keys(arguments.v, shape_.d_v, plan_.keys);
  constexpr int kRowsOfWarp = 16;
  if (arguments.d_k.data != nullptr) call.d_k = of_keys(arguments.d_k, shape_.d_qk, kRowsOfWarp);
  if (arguments.d_v.data != nullptr) call.d_v = of_keys(arguments.d_v, shape_.d_v, kRowsOfWarp);
  call.arguments = arguments;
  call.query_tiles = static_cast<int>(ceil_div(extent.s_q, kQueries));
  call.key_tiles = static_cast<int>(ceil_div(extent.s_kv, plan_.tile_keys()));
  constexpr float kLog2E = 1.44269504088896340736F;
  // lse is divided by it. Products of 2^64 times less than lse's ulp are as good as none.
  call.factor = arguments.scale == 0 ? 0x1p-96F : arguments.scale * kLog2E;
  call.heads_together = std::max(heads_together(shape_, extent, arguments.heads_per_kv, context_->device().l2_bytes),
                                 arguments.lists.heads_together);
  if (counters_) call.next_block = counters_->next();
  // Blocks of the last heads begin with the longest lists.
  const auto all_heads = static_cast<int>(extent.h_q / arguments.heads_per_kv * extent.b);
  call.longest_first_from = all_heads - (shape_.has_lists ? std::min(call.heads_together, all_heads / 2) : 0);
  return call;
}

void HopperBackwardKernels::launch(const BackwardArguments& arguments, const std::vector<std::byte>& bound,
                                   const ForwardExtent& extent, jit::KernelChain& chain,
                                   jit::StreamHandle stream) const {
  expect_rows(extent);
  if (extent.b == 0 || extent.h_q == 0) return;
  sm90::BackwardCall call = call_of(arguments, extent);
  const std::int64_t heads_per_kv = arguments.heads_per_kv,
                     all_tiles = call.key_tiles * (extent.h_q / heads_per_kv) * extent.b;
  const LastRound last =
      can_share(shape_) ? last_round(all_tiles, call.query_tiles * heads_per_kv, context_->device().multiprocessors)
                        : LastRound{all_tiles, 0, 1};
  call.shared_from = static_cast<int>(last.from);
  // Counts are cleared with the rows of queries, and need a kernel between; what is shared is launched behind, and its
  // blocks are not counted.
  const bool has_tiles = call.query_tiles > 0 && call.key_tiles > 0;
  call.counts_added = counts_added_ && has_tiles && last.tiles == 0 ? 1 : 0;

  constexpr unsigned kThreads = 256, kRowsOfBlock = kThreads / 16;  // of what goes before and after
  const auto query_tiles = static_cast<unsigned>(call.query_tiles), key_tiles = static_cast<unsigned>(call.key_tiles);
  const auto heads = static_cast<unsigned>(extent.h_q), sequences = static_cast<unsigned>(extent.b);
  const auto together = static_cast<unsigned>(plan_.blocks());
  const jit::LaunchShape rows{.grid = {query_tiles * HopperBackwardPlan::kQueries / kRowsOfBlock, heads, sequences},
                              .block = {kThreads, 1, 1}};
  const jit::LaunchShape tiles{.grid = {key_tiles * together, heads / static_cast<unsigned>(heads_per_kv), sequences},
                               .block = {static_cast<unsigned>(plan_.threads()), 1, 1},
                               .cluster = {together, 1, 1},
                               .dynamic_shared_bytes = shared_bytes(plan_, shape_),
                               .begins_early = begins_early_};
  jit::LaunchShape shared = tiles;
  shared.grid = {last.parts, static_cast<unsigned>(last.tiles), 1};
  shared.cluster = {last.parts, 1, 1};
  const jit::LaunchShape of_query_tiles{
      .grid = {query_tiles, heads, sequences}, .block = {kThreads, 1, 1}, .begins_early = begins_early_};
  // The driver copies from these pointers and does not write through them.
  std::array<void*, 2> pointers = {&call, const_cast<std::byte*>(bound.data())};
  std::array<jit::ChainLink, 4> links;
  std::size_t count = 0;
  if (query_tiles > 0) links[count++] = {&prepare_, rows, pointers.data()};
  if (key_tiles > 0) links[count++] = {&backward_, tiles, pointers.data()};
  if (last.tiles > 0) links[count++] = {&backward_, shared, pointers.data()};
  if (query_tiles > 0 && arguments.d_q.data != nullptr) links[count++] = {&finish_, of_query_tiles, pointers.data()};
  chain.launch(std::span(links).first(count), stream);
}

}  // namespace tilewise::cuda
