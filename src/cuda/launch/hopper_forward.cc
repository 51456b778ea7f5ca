#include "cuda/launch/hopper_forward.h"

#include <algorithm>
#include <array>
#include <numbers>
#include <numeric>

#include "core/fail.h"
#include "core/round_up.h"
#include "cuda/launch/choice.h"
#include "cuda/launch/early.h"
#include "cuda/launch/hopper_program.h"
#include "cuda/launch/kernel_text.h"
#include "cuda/launch/tensor_map.h"
#include "tilewise/arguments.h"

namespace tilewise::cuda {
namespace {

static_assert(kScaleBlock == kScaleRows);

unsigned shared_bytes(const HopperForwardPlan& plan, const ForwardShape& shape) {
  return static_cast<unsigned>(plan.tile_bytes(shape) + plan.other_shared());
}

/// Heads whose keys and values take half of the second-level cache: the other half is for what passes through. No more
/// than a sequence has: of 66 heads of 512 tokens, what is read again was no longer there (d 128 causal 0.92 of cuDNN
/// where it was at 0.99), though the shortest rows of all of them would end the work.
int heads_together(const ForwardShape& shape, const ForwardExtent& extent, std::int64_t heads_per_kv,
                   std::int64_t l2_bytes) {
  const std::int64_t bytes =
      std::max<std::int64_t>(extent.kv_rows, 1) * (shape.d_qk + shape.d_v) * size_of(shape.dtype);
  const std::int64_t kv_heads = std::max<std::int64_t>(l2_bytes / 2 / bytes, 1);
  return static_cast<int>(std::min(kv_heads * heads_per_kv, extent.h_q));
}

}  // namespace

void expect_hopper(const jit::Context& context, const std::string& refusal) {
  const jit::DeviceInfo& device = context.device();
  if (device.compute_capability_major != 9) {
    fail(ErrorCode::unsupported, "{} has compute capability {}.{}; it is for 9.0 (Hopper)", device.name,
         device.compute_capability_major, device.compute_capability_minor);
  }
  if (context.driver().api().tensor_map_encode == nullptr) {
    fail(ErrorCode::unsupported, "the driver is older than CUDA 12.0");
  }
  if (!refusal.empty()) fail(ErrorCode::unsupported, "{}", refusal);
}

void expect_rows(const ForwardExtent& extent) {
  if (extent.q_rows >= 0 && extent.kv_rows >= 0) return;
  fail_argument("extent.q_rows is {} and extent.kv_rows {}; this kernel needs the rows that q, k and v have in memory",
                extent.q_rows, extent.kv_rows);
}

WorkCounters::WorkCounters(std::shared_ptr<const jit::Context> context)
    : memory_(DeviceMemory::of(std::move(context), std::vector<unsigned>(kCount))) {}

unsigned* WorkCounters::next() const {
  return memory_.as<unsigned>() + next_.fetch_add(1, std::memory_order_relaxed) % kCount;
}

HopperForwardPlan HopperForwardKernel::plan_of(const jit::Context& context, const Variant& variant,
                                               const ForwardShape& shape) {
  if (shape.dtype == DType::float8_e4m3) {
    expect_hopper(context, hopper_float8_refusal(shape, changes_scores(variant)));
    return chosen(context.device(), "forward", shape, false,
                  hopper_float8_candidates(shape, limits_of(context.device())));
  }
  validate(shape);
  expect_hopper(context, hopper_refusal(shape));
  const ScoreWork scores = score_work(variant, hopper_text(variant, shape, false));
  return chosen(context.device(), "forward", shape, scores.is_any,
                hopper_forward_candidates(shape, scores, limits_of(context.device())));
}

HopperForwardKernel::HopperForwardKernel(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context,
                                         const Variant& variant, const ForwardShape& shape)
    : HopperForwardKernel(compiler, context, variant, shape, plan_of(*context, variant, shape)) {}

HopperForwardKernel::HopperForwardKernel(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context,
                                         const Variant& variant, const ForwardShape& shape,
                                         const HopperForwardPlan& plan)
    : context_(context),
      shape_(shape),
      plan_(plan),
      text_(hopper_text(variant, shape, false)),
      module_(jit::load_program(
          compiler, hopper_forward_program(variant, text_, shape, plan, context->device().architecture()), context)),
      kernel_(module_->kernel("forward", shared_bytes(plan, shape))),
      counters_(context) {
  if (shape.dtype == DType::float8_e4m3) transpose_values_ = module_->kernel("transpose_values");
}

void HopperForwardKernel::launch(const ForwardArguments& arguments, const std::vector<std::byte>& bound,
                                 const ForwardExtent& extent, jit::StreamHandle stream) const {
  expect_rows(extent);
  const std::int64_t tiles = ceil_div(extent.s_q, plan_.query_tile());
  const std::int64_t work = tiles * extent.h_q * extent.b;
  if (work == 0) return;
  const std::int64_t h_kv = extent.h_q / arguments.heads_per_kv, b = arguments.queries_packed ? 1 : extent.b,
                     b_kv = arguments.keys_packed ? 1 : extent.b;
  sm90::ForwardCall call{};
  call.q =
      tensor_map(*context_, {shape_.dtype, arguments.q, b, extent.h_q, extent.q_rows, shape_.d_qk}, plan_.query_tile());
  call.o = tensor_map(*context_,
                      {shape_.dtype == DType::float8_e4m3 ? shape_.o_dtype : shape_.dtype, arguments.o, b, extent.h_q,
                       extent.q_rows, shape_.d_v},
                      16);
  const PageTable& pages = arguments.pages;
  call.box_rows = shape_.is_paged ? std::gcd(pages.page_tokens, plan_.key_tile) : plan_.key_tile;
  const auto of_keys = [&](const TensorView& view, int columns) {
    return shape_.is_paged
               ? tensor_map(*context_, {shape_.dtype, view, pages.pages, h_kv, pages.page_tokens, columns},
                            call.box_rows)
               : tensor_map(*context_, {shape_.dtype, view, b_kv, h_kv, extent.kv_rows, columns}, call.box_rows);
  };
  call.k = of_keys(arguments.k, shape_.d_qk);
  call.v = transpose_values_ ? of_transposed_values(arguments, extent) : of_keys(arguments.v, shape_.d_v);
  call.arguments = arguments;
  call.next_work = counters_.next();
  // A mask gives what it removes -inf, of which 0 would make NaN.
  call.factor = arguments.scale == 0 ? 0x1p-96F : arguments.scale * std::numbers::log2e_v<float>;
  call.query_tiles = static_cast<int>(tiles);
  call.h_q = static_cast<int>(extent.h_q);
  call.b = static_cast<int>(extent.b);
  call.heads_together = std::max(heads_together(shape_, extent, arguments.heads_per_kv, context_->device().l2_bytes),
                                 arguments.lists.heads_together);
  if (transpose_values_ && arguments.float8.key_blocks > 0) {
    (*transpose_values_)({.grid = {static_cast<unsigned>(arguments.float8.key_blocks), static_cast<unsigned>(h_kv),
                                   static_cast<unsigned>(extent.b)},
                          .block = {256, 1, 1},
                          .dynamic_shared_bytes = 0,
                          .stream = stream},
                         call);
  }
  const jit::LaunchShape launch{
      .grid = {static_cast<unsigned>(std::min<std::int64_t>(work, context_->device().multiprocessors)), 1, 1},
      .block = {static_cast<unsigned>(plan_.threads()), 1, 1},
      .dynamic_shared_bytes = shared_bytes(plan_, shape_),
      .stream = stream,
      .begins_early = may_begin_early(*context_)};
  // The driver copies from these pointers and does not write through them.
  std::array<void*, 2> pointers = {&call, const_cast<std::byte*>(bound.data())};
  kernel_.launch(launch, pointers.data());
}

sm90::TensorMap HopperForwardKernel::of_transposed_values(const ForwardArguments& arguments,
                                                          const ForwardExtent& extent) const {
  const Float8Arguments& float8 = arguments.float8;
  const long long row = static_cast<long long>(float8.key_blocks) * kScaleBlock;
  const TensorView view{float8.values, float8.h_kv * shape_.d_v * row, shape_.d_v * row, row};
  return tensor_map(*context_, {DType::float8_e4m3, view, extent.b, float8.h_kv, shape_.d_v, static_cast<int>(row)},
                    rounded_to_16(shape_.d_v));
}

}  // namespace tilewise::cuda
