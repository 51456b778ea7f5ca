#include "tilewise/gpu_cache.h"

#include <cmath>

#include "attention/arena.h"
#include "attention/check_append.h"
#include "attention/check_plan.h"
#include "attention/cuda_call.h"
#include "core/fail.h"
#include "cuda/launch/append.h"
#include "cuda/launch/pointers.h"

namespace tilewise {

struct GpuCacheAppender::State {
  State(const GpuCacheShape& wanted, const Device& on)
      : shape(attention::check_append_shape(wanted)),
        device(on),
        context(jit::shared_context(on.ordinal())),
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
  const variant::Call checked_call = attention::check_append(shape, call);
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
  arguments.k = attention::view_of(call.k, checked_call.queries_packed);
  arguments.v = attention::view_of(call.v, checked_call.queries_packed);
  arguments.k_pages = attention::view_of(call.k_pages, false);
  arguments.v_pages = attention::view_of(call.v_pages, false);
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
