#include "attention/cuda_validate.h"

#include <algorithm>

#include "attention/check_holes.h"
#include "attention/check_plan.h"
#include "attention/planned_mask.h"
#include "tiles/key_spans.h"
#include "variant/call.h"

namespace tilewise::attention {
/// A copy with the same extents and strides, which are 0 or more where kernels read it.
ConstTensor GpuContents::to_host(const jit::Context& context, const ConstTensor& tensor) {
  ConstTensor copied = tensor;
  if (tensor.elements() == 0) return copied;
  std::int64_t first = 0, last = 0;
  for (std::size_t axis = 0; axis < static_cast<std::size_t>(tensor.rank); ++axis) {
    const std::int64_t reach = (tensor.extents[axis] - 1) * tensor.strides[axis];
    first += std::min<std::int64_t>(reach, 0), last += std::max<std::int64_t>(reach, 0);
  }
  const std::int64_t size = size_of(tensor.dtype);
  std::vector<std::byte>& memory = memory_.emplace_back(static_cast<std::size_t>((last - first + 1) * size));
  const auto* from = static_cast<const std::byte*>(tensor.data) + first * size;
  context.driver().check(
      context.driver().api().copy_to_host(memory.data(), reinterpret_cast<jit::DevicePointer>(from), memory.size()),
      "to copy a call's arguments from the GPU");
  copied.data = memory.data() - first * size;
  return copied;
}

GpuContents::GpuContents(const jit::Context& context, const ForwardInputs& inputs, jit::StreamHandle stream)
    : inputs_(inputs) {
  context.driver().check(context.driver().api().stream_synchronize(stream), "to wait for what is to be validated");
  if (inputs.block_table) inputs_.block_table = to_host(context, *inputs.block_table);
  for (TableBinding& binding : inputs_.tables) binding.data = to_host(context, binding.data);
  if (inputs.device_seed) {
    const auto* numbers = static_cast<const std::int64_t*>(to_host(context, *inputs.device_seed).data);
    inputs_.seed = static_cast<std::uint64_t>(numbers[0]);
    inputs_.seed_offset = static_cast<std::uint64_t>(numbers[1]);
    inputs_.device_seed.reset();
  }
  if (!inputs.device_sequences) return;
  const DeviceSequences& given = *inputs.device_sequences;
  std::vector<Sequence> sequences(static_cast<std::size_t>(given.b));
  const auto read = [&](const std::optional<ConstTensor>& column, auto store) {
    if (!column) return;
    const ConstTensor here = to_host(context, *column);
    for (std::size_t i = 0; i < sequences.size(); ++i)
      store(sequences[i], static_cast<const std::int32_t*>(here.data)[static_cast<std::int64_t>(i) * here.strides[0]]);
  };
  for (Sequence& sequence : sequences) {  // by default those of padded storage
    sequence.s_q = inputs.q.extents[static_cast<std::size_t>(inputs.q.rank - 2)];
    sequence.s_kv = inputs.k.extents[static_cast<std::size_t>(inputs.k.rank - 2)];
  }
  read(given.s_q, [](Sequence& to, std::int64_t value) { to.s_q = value; });
  read(given.s_kv, [](Sequence& to, std::int64_t value) { to.s_kv = value; });
  read(given.query_offset, [](Sequence& to, std::int64_t value) { to.query_offset = value; });
  read(given.key_offset, [](Sequence& to, std::int64_t value) { to.key_offset = value; });
  read(given.key_start, [](Sequence& to, std::int64_t value) { to.key_start = value; });
  read(given.first_query_token, [](Sequence& to, std::int64_t value) { to.first_query_token = value; });
  read(given.first_key_token, [](Sequence& to, std::int64_t value) { to.first_key_token = value; });
  inputs_.sequences = std::move(sequences);
  inputs_.device_sequences.reset();
}

void GpuContents::check(const Variant& variant, const PlanShape& shape) const {
  variant::Call call;
  variant::check_inputs(variant, inputs_, call);
  check_planned(shape, inputs_, call);
  if (prove_planned_reads(variant, shape)) prove_reads(variant, shape, inputs_, call);
  if (!call.keys_paged || binds_anything(variant)) return;
  const tiles::Mask mask = planned_mask(variant, shape);
  tiles::KeySpans spans(mask);
  spans.start(call.problem);
  check_holes(call, spans, mask.follows_head);
}

}  // namespace tilewise::attention
