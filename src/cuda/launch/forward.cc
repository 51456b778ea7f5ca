#include "cuda/launch/forward.h"

#include <algorithm>
#include <array>

#include "cuda/launch/forward_program.h"
#include "cuda/launch/kernel_text.h"

namespace tilewise::cuda {
ForwardKernel::ForwardKernel(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context,
                             const Variant& variant, const ForwardShape& shape)
    : context_(std::move(context)), shape_(shape), text_(variant::cuda_text(variant)) {
  validate(shape);
  const Multiprocessor limits = limits_of(context_->device());
  const std::string elsewhere = why_not_hopper(*context_);
  const std::string refusal = elsewhere.empty() ? hopper_refusal(shape) : elsewhere;
  if (refusal.empty()) {
    make(compiler, variant, hopper_forward_candidates(shape, changes_scores(variant), limits).front());
  } else {
    make(compiler, variant, choose_forward(shape, limits));
    if (context_->device().compute_capability_major == 9) {
      explanation_ += "; not the kernel for 9.0: " + refusal;
    }
  }
}

ForwardKernel::ForwardKernel(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context,
                             const Variant& variant, const ForwardShape& shape, const ForwardPlan& plan)
    : context_(std::move(context)), shape_(shape), text_(variant::cuda_text(variant)) {
  make(compiler, variant, plan);
}

ForwardKernel::ForwardKernel(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context,
                             const Variant& variant, const ForwardShape& shape, const HopperForwardPlan& plan)
    : context_(std::move(context)), shape_(shape), text_(variant::cuda_text(variant)) {
  make(compiler, variant, plan);
}

void ForwardKernel::make(jit::Compiler& compiler, const Variant& variant, const ForwardPlan& plan) {
  portable_plan_ = plan;
  tile_sizes_ = {plan.query_tile(), plan.key_tile};
  explanation_ = plan.text();
  const jit::Program program = forward_program(variant, text_, shape_, plan, context_->device().architecture());
  portable_ = jit::load_program(compiler, program, context_)
                  ->kernel("forward", static_cast<unsigned>(plan.shared_bytes(shape_)));
}

void ForwardKernel::make(jit::Compiler& compiler, const Variant& variant, const HopperForwardPlan& plan) {
  tile_sizes_ = {plan.query_tile(), plan.key_tile};
  explanation_ = plan.text();
  hopper_ = std::make_unique<HopperForwardKernel>(compiler, context_, variant, text_, shape_, plan);
}

void ForwardKernel::launch(const ForwardArguments& arguments, const std::vector<std::byte>& bound,
                           const ForwardExtent& extent, jit::StreamHandle stream) const {
  if (hopper_ != nullptr) return hopper_->launch(arguments, bound, extent, stream);
  const std::int64_t rows = (extent.s_q + portable_plan_.query_tile() - 1) / portable_plan_.query_tile();
  if (rows == 0 || extent.h_q == 0 || extent.b == 0) return;
  const jit::LaunchShape launch{
      .grid = {static_cast<unsigned>(rows), static_cast<unsigned>(extent.h_q), static_cast<unsigned>(extent.b)},
      .block = {static_cast<unsigned>(portable_plan_.threads()), 1, 1},
      .dynamic_shared_bytes = static_cast<unsigned>(portable_plan_.shared_bytes(shape_)),
      .stream = stream};
  // The driver copies from these pointers and does not write through them.
  std::array<void*, 2> pointers = {const_cast<ForwardArguments*>(&arguments), const_cast<std::byte*>(bound.data())};
  portable_->launch(launch, pointers.data());
}

ForwardExtent extent_of(const Problem& problem, bool is_packed) {
  ForwardExtent extent{.b = problem.b(), .h_q = problem.h_q, .s_q = 0, .s_kv = 0, .q_rows = 0, .kv_rows = 0};
  for (const Sequence& sequence : problem.sequences) {
    extent.s_q = std::max(extent.s_q, sequence.s_q);
    extent.s_kv = std::max(extent.s_kv, sequence.s_kv);
    extent.q_rows = std::max(extent.q_rows, sequence.s_q + (is_packed ? sequence.first_query_token : 0));
    extent.kv_rows = std::max(extent.kv_rows, sequence.s_kv + (is_packed ? sequence.first_key_token : 0));
  }
  return extent;
}

std::vector<SequenceShape> sequence_shapes(const Problem& problem) {
  std::vector<SequenceShape> shapes;
  for (const Sequence& sequence : problem.sequences) {
    shapes.push_back({static_cast<int>(sequence.s_q), static_cast<int>(sequence.s_kv),
                      static_cast<int>(sequence.key_start), static_cast<int>(sequence.first_query_position()),
                      static_cast<int>(sequence.key_offset), static_cast<int>(sequence.first_query_token),
                      static_cast<int>(sequence.first_key_token), 0});
  }
  return shapes;
}

DeviceTileLists::DeviceTileLists(const std::shared_ptr<const jit::Context>& context, const HostTileLists& lists)
    : first_(DeviceMemory::of(context, lists.first)),
      count_(DeviceMemory::of(context, lists.count)),
      tiles_(DeviceMemory::of(context, lists.tiles)),
      order_(DeviceMemory::of(context, lists.order)),
      sequence_rows_(lists.heads * lists.rows),
      head_rows_(lists.heads == 1 ? 0 : lists.rows) {}

TileLists DeviceTileLists::view() const {
  return {first_.as<const long long>(), count_.as<const int>(), tiles_.as<const int>(),
          order_.as<const int>(),       sequence_rows_,         head_rows_};
}

}  // namespace tilewise::cuda
