#include "cuda/launch/forward.h"

#include <array>

#include "core/round_up.h"
#include "cuda/launch/choice.h"
#include "cuda/launch/early.h"
#include "cuda/launch/forward_program.h"
#include "cuda/launch/kernel_text.h"

namespace tilewise::cuda {

Multiprocessor limits_of(const jit::DeviceInfo& device) {
  return {device.shared_bytes_per_multiprocessor, device.shared_bytes_per_block, device.registers_per_multiprocessor};
}

ForwardPlan ForwardKernel::plan_of(const jit::Context& context, const Variant& variant, const ForwardShape& shape) {
  return chosen(context.device(), "forward", shape, changes_scores(variant),
                forward_candidates(shape, limits_of(context.device()), kept_fields(variant, shape.dtype)));
}

ForwardKernel::ForwardKernel(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context,
                             const Variant& variant, const ForwardShape& shape)
    : ForwardKernel(compiler, context, variant, shape, plan_of(*context, variant, shape)) {}

ForwardKernel::ForwardKernel(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context,
                             const Variant& variant, const ForwardShape& shape, const ForwardPlan& plan)
    : shape_(shape),
      plan_(plan),
      text_(kernel_text(variant, shape.dtype, false)),
      module_(jit::load_program(
          compiler, forward_program(variant, text_, shape, plan, context->device().architecture()), context)),
      kernel_(module_->kernel("forward", static_cast<unsigned>(plan.shared_bytes(shape)))),
      merge_(module_->kernel("merge")),
      begins_early_(may_begin_early(*context)) {}

void ForwardKernel::launch(const ForwardArguments& arguments, const std::vector<std::byte>& bound,
                           const ForwardExtent& extent, jit::StreamHandle stream) const {
  const std::int64_t rows = ceil_div(extent.s_q, plan_.query_tile());
  if (rows == 0 || extent.h_q == 0 || extent.b == 0) return;
  const TileLists& lists = arguments.lists;
  const int more_blocks = shape_.has_lists ? lists.long_rows * (lists.parts - 1) : 0;
  const auto h_q = static_cast<unsigned>(extent.h_q), b = static_cast<unsigned>(extent.b);
  const jit::LaunchShape launch{.grid = {static_cast<unsigned>(rows + more_blocks), h_q, b},
                                .block = {static_cast<unsigned>(plan_.threads()), 1, 1},
                                .dynamic_shared_bytes = static_cast<unsigned>(plan_.shared_bytes(shape_)),
                                .stream = stream,
                                .begins_early = begins_early_};
  // The driver copies from these pointers and does not write through them.
  std::array<void*, 2> pointers = {const_cast<ForwardArguments*>(&arguments), const_cast<std::byte*>(bound.data())};
  kernel_.launch(launch, pointers.data());
  if (more_blocks == 0) return;
  constexpr unsigned kMergedRows = 4;  // of a block, a warp each
  const auto queries = static_cast<unsigned>(lists.long_rows * plan_.query_tile());
  merge_.launch({.grid = {queries / kMergedRows, h_q, b},
                 .block = {32 * kMergedRows, 1, 1},
                 .stream = stream,
                 .begins_early = begins_early_},
                pointers.data());
}

}  // namespace tilewise::cuda
