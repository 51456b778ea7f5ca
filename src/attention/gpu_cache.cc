#include "tilewise/gpu_cache.h"

#include <algorithm>
#include <cmath>

#include "attention/arena.h"
#include "attention/check_plan.h"
#include "attention/cuda_call.h"
#include "core/fail.h"
#include "cuda/launch/append.h"
#include "cuda/launch/pointers.h"

namespace tilewise {
namespace {

const GpuCacheShape& checked(const GpuCacheShape& shape) {
  if (shape.dtype != DType::bfloat16 && shape.dtype != DType::float16 && shape.dtype != DType::float32) {
    fail(ErrorCode::unsupported, "dtype is {}; caches on a GPU are appended to as bfloat16, float16 and float32",
         to_string(shape.dtype));
  }
  const auto expect = [](const char* name, std::int64_t size, std::int64_t most) {
    if (size < 1 || size > most) fail_argument("{} is {}; expected 1 to {}", name, size, most);
  };
  expect("b", shape.b, 65535);
  expect("h_kv", shape.h_kv, 65535);
  expect("d_qk", shape.d_qk, 65536);
  expect("d_v", shape.d_v, 65536);
  if (!shape.rotary) return shape;
  const Rotary& rotary = *shape.rotary;
  if (rotary.columns < 0 || rotary.columns % 2 != 0 || rotary.columns > shape.d_qk)
    fail_argument("rotary.columns is {}; expected an even number from 0 to d_qk, {}", rotary.columns, shape.d_qk);
  if (!(rotary.base > 0) || !std::isfinite(rotary.base))
    fail_argument("rotary.base is {}; expected a finite number above 0", rotary.base);
  return shape;
}

/// Whether all that is known on the host fits together, by the checks of an attention call whose queries are the new
/// keys.
variant::Call checked(const GpuCacheShape& shape, const GpuCacheAppend& call) {
  const auto expect_pages = [&](const char* name, const Tensor& pages, std::int64_t d) {
    if (pages.rank != 4 || pages.extents[1] != shape.h_kv || pages.extents[3] != d || pages.dtype != shape.dtype)
      fail_argument("{} is {} of rank {}; expected {} [pages, {}, page_tokens, {}]", name, to_string(pages.dtype),
                    pages.rank, to_string(shape.dtype), shape.h_kv, d);
  };
  expect_pages("k_pages", call.k_pages, shape.d_qk);
  expect_pages("v_pages", call.v_pages, shape.d_v);
  ForwardInputs inputs;
  inputs.q = call.k;
  inputs.k = call.k_pages;
  inputs.v = call.v_pages;
  inputs.block_table = call.block_table;
  inputs.sequences = call.sequences;
  inputs.device_sequences = call.device_sequences;
  variant::Call checked_call;
  variant::check_inputs(Variant(), inputs, checked_call, variant::TableData::elsewhere);
  for (int axis = 0; axis + 1 < call.k.rank; ++axis) {
    const auto a = static_cast<std::size_t>(axis);
    if (call.v.rank != call.k.rank || call.v.extents[a] != call.k.extents[a])
      fail_argument("v has other extents than k; expected the same but for the last axis");
  }
  if (checked_call.problem.h_q != shape.h_kv || call.v.extents[static_cast<std::size_t>(call.v.rank - 1)] != shape.d_v)
    fail_argument("k has {} heads and v a last axis of {}; expected {} and {}", checked_call.problem.h_q,
                  call.v.extents[static_cast<std::size_t>(call.v.rank - 1)], shape.h_kv, shape.d_v);
  if (call.k.dtype != shape.dtype || call.v.dtype != shape.dtype)
    fail_argument("k is {} and v is {}; expected {}", to_string(call.k.dtype), to_string(call.v.dtype),
                  to_string(shape.dtype));
  if (checked_call.problem.b() > shape.b)
    fail_argument("b is {}; the appender was made for at most {}", checked_call.problem.b(), shape.b);
  return checked_call;
}

cuda::TensorView view_of(const ConstTensor& tensor) {
  void* data = const_cast<void*>(tensor.data);
  const auto& strides = tensor.strides;
  if (tensor.rank == 3) return {data, 0, strides[0], strides[1]};
  return {data, strides[0], strides[1], strides[2]};
}

}  // namespace

struct GpuCacheAppender::State {
  State(const GpuCacheShape& wanted, const Device& on)
      : shape(checked(wanted)),
        device(on),
        context(std::make_shared<const jit::Context>(jit::Driver::instance(), on.ordinal())),
        sequences(jit::Compiler::instance(), context),
        kernel(jit::Compiler::instance(), context, shape.dtype, static_cast<int>(shape.d_qk),
               static_cast<int>(shape.d_v)) {}

  GpuCacheShape shape;
  Device device;
  std::shared_ptr<const jit::Context> context;
  cuda::SequenceWriter sequences;
  cuda::AppendKernel kernel;
};

GpuCacheAppender::GpuCacheAppender(const GpuCacheShape& shape, const Device& device) {
  if (!device.is_cuda()) fail_argument("device is {}; expected a GPU", device.text());
  state_ = std::make_shared<const State>(shape, device);
}

std::int64_t GpuCacheAppender::workspace_bytes() const {
  attention::Arena measure;
  measure.take<cuda::SequenceShape>(state_->shape.b);
  return measure.used();
}

void GpuCacheAppender::append(const GpuCacheAppend& call, Workspace& workspace) const {
  const GpuCacheShape& shape = state_->shape;
  attention::expect_on(workspace, state_->device);
  if (workspace.bytes() < workspace_bytes())
    fail_argument("workspace has {} bytes; expected at least workspace_bytes(), {}", workspace.bytes(),
                  workspace_bytes());
  const variant::Call checked_call = checked(shape, call);
  const jit::CurrentContext current(*state_->context);
  ForwardInputs inputs;
  inputs.q = call.k, inputs.k = call.k_pages, inputs.v = call.v_pages;
  inputs.block_table = call.block_table;
  inputs.device_sequences = call.device_sequences;
  attention::expect_on_gpu(*state_->context, inputs);
  cuda::expect_on_gpu(*state_->context, "v", call.v);
  auto* stream = static_cast<jit::StreamHandle>(workspace.stream());
  auto* sequences = reinterpret_cast<cuda::SequenceShape*>(workspace.data());
  if (call.device_sequences) {
    state_->sequences.gather(attention::sequence_columns(inputs, checked_call), sequences, stream);
  } else {
    state_->sequences.write(checked_call.problem, sequences, stream);
  }
  cuda::AppendArguments arguments{};
  arguments.k = view_of(call.k), arguments.v = view_of(call.v);
  arguments.k_pages = view_of(call.k_pages), arguments.v_pages = view_of(call.v_pages);
  arguments.sequences = sequences;
  arguments.pages = attention::forward_arguments(inputs, {.o = call.v_pages}, checked_call).pages;
  arguments.tokens_packed = checked_call.queries_packed;
  if (shape.rotary) {
    arguments.rotary_columns = static_cast<int>(shape.rotary->columns);
    arguments.rotary_interleaved = shape.rotary->interleaved;
    arguments.rotary_log2_base = -std::log2(shape.rotary->base);
  }
  state_->kernel.launch(arguments, checked_call.problem.b(), shape.h_kv, attention::extent_of(inputs, checked_call).s_q,
                        stream);
}

}  // namespace tilewise
