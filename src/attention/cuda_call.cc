#include "attention/cuda_call.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "core/fail.h"
#include "cuda/launch/pointers.h"

namespace tilewise::attention {
namespace {

template <class AnyTensor>
cuda::TensorView view_if_given(const std::optional<AnyTensor>& tensor, bool is_packed) {
  return tensor ? view_of(*tensor, is_packed) : cuda::TensorView{};
}

/// Scales of float8_e4m3, [h] or [b, h, blocks], as [b, h, blocks].
cuda::TensorView scales_of(const std::optional<ConstTensor>& scales) {
  if (!scales) return {};
  void* data = const_cast<void*>(scales->data);
  const auto& strides = scales->strides;
  if (scales->rank == 1) return {data, 0, strides[0], 0};
  return {data, strides[0], strides[1], strides[2]};
}

void expect(const jit::Context& context, const char* name, const std::optional<ConstTensor>& tensor) {
  if (tensor) cuda::expect_on_gpu(context, name, *tensor);
}

/// The kernels read and write lse as float32.
void expect_floats(const jit::Context& context, const char* name, const std::optional<ConstTensor>& tensor) {
  if (tensor && tensor->dtype != DType::float32)
    fail_argument("{} has dtype {}; expected float32 on a GPU", name, to_string(tensor->dtype));
  expect(context, name, tensor);
}

template <class... Tensors>
bool are_aligned(const Tensors&... tensors) {
  return (cuda::is_aligned(tensors) && ...);
}
bool is_aligned(const std::optional<Tensor>& tensor) { return !tensor || cuda::is_aligned(*tensor); }

cuda::DropoutArguments dropout_of(const ForwardInputs& inputs, const variant::Call& call) {
  return {call.dropout.seed,
          call.dropout.offset,
          call.dropout.keep_below,
          static_cast<float>(call.dropout.scale()),
          0,
          inputs.device_seed ? static_cast<const long long*>(inputs.device_seed->data) : nullptr};
}

/// Where the pages of a call's sequences are listed.
cuda::PageTable pages_of(const ForwardInputs& inputs, const variant::Call& call) {
  const auto page_tokens = static_cast<std::uint64_t>(call.page_tokens);
  const int shift = std::has_single_bit(page_tokens) ? std::countr_zero(page_tokens) : -1;
  return {static_cast<const int*>(call.block_table.data),
          call.block_table.strides[0],
          static_cast<int>(inputs.k.extents[0]),
          static_cast<int>(call.page_tokens),
          shift,
          0};
}

std::int64_t rows_of(const ConstTensor& tensor) { return tensor.extents[static_cast<std::size_t>(tensor.rank - 2)]; }

}  // namespace

cuda::TensorView view_of(const ConstTensor& tensor, bool is_packed) {
  void* data = const_cast<void*>(tensor.data);  // kernels write through those of outputs alone
  const auto& strides = tensor.strides;
  if (is_packed) return {data, 0, strides[0], strides[1]};
  return {data, strides[0], strides[1], strides[2]};
}

void expect_on_gpu(const jit::Context& context, const ForwardInputs& inputs) {
  cuda::expect_on_gpu(context, "q", inputs.q);
  cuda::expect_on_gpu(context, "k", inputs.k);
  cuda::expect_on_gpu(context, "v", inputs.v);
  expect(context, "q_scales", inputs.q_scales);
  expect(context, "k_scales", inputs.k_scales);
  expect(context, "v_scales", inputs.v_scales);
  expect(context, "block_table", inputs.block_table);
  for (const TableBinding& binding : inputs.tables) cuda::expect_on_gpu(context, binding.table.name(), binding.data);
  expect(context, "device_seed", inputs.device_seed);
  if (inputs.device_seed && inputs.device_seed->strides[0] != 1)
    fail_argument("device_seed has a stride of {}; expected 1", inputs.device_seed->strides[0]);
  if (!inputs.device_sequences) return;
  const DeviceSequences& sequences = *inputs.device_sequences;
  expect(context, "device_sequences.s_q", sequences.s_q);
  expect(context, "device_sequences.s_kv", sequences.s_kv);
  expect(context, "device_sequences.query_offset", sequences.query_offset);
  expect(context, "device_sequences.key_offset", sequences.key_offset);
  expect(context, "device_sequences.key_start", sequences.key_start);
  expect(context, "device_sequences.first_query_token", sequences.first_query_token);
  expect(context, "device_sequences.first_key_token", sequences.first_key_token);
}

void expect_on_gpu(const jit::Context& context, const ForwardOutputs& outputs) {
  cuda::expect_on_gpu(context, "o", outputs.o);
  expect_floats(context, "lse", outputs.lse);
  expect_floats(context, "max_score", outputs.max_score);
}

void clear_max_scores(const jit::Context& context, const Tensor& max_score, jit::StreamHandle stream) {
  const unsigned no_score = std::bit_cast<unsigned>(-std::numeric_limits<float>::infinity());
  const jit::Driver& driver = context.driver();
  driver.check(driver.api().fill_words(reinterpret_cast<jit::DevicePointer>(max_score.data), no_score,
                                       static_cast<std::size_t>(max_score.extents[0]), stream),
               "to clear max_score");
}

void expect_on_gpu(const jit::Context& context, const BackwardInputs& given, const BackwardOutputs& outputs) {
  expect_floats(context, "lse", given.lse);
  expect_floats(context, "d_lse", given.d_lse);
  expect(context, "o", given.o);
  cuda::expect_on_gpu(context, "d_o", given.d_o);
  expect(context, "d_q", outputs.d_q);
  expect(context, "d_k", outputs.d_k);
  expect(context, "d_v", outputs.d_v);
}

bool all_aligned(const ForwardInputs& inputs, const ForwardOutputs& outputs) {
  return are_aligned(inputs.q, inputs.k, inputs.v, outputs.o);
}

bool all_aligned(const ForwardInputs& inputs, const BackwardInputs& given, const BackwardOutputs& outputs) {
  return are_aligned(inputs.q, inputs.k, inputs.v, *given.o, given.d_o) && is_aligned(outputs.d_q) &&
         is_aligned(outputs.d_k) && is_aligned(outputs.d_v);
}

bool values_in_keys(const ForwardInputs& inputs) {
  const ConstTensor &k = inputs.k, &v = inputs.v;
  const auto last = static_cast<std::size_t>(k.rank - 1);
  if (k.data != v.data || v.extents[last] > k.extents[last]) return false;
  for (std::size_t axis = 0; axis < last; ++axis) {
    if (k.extents[axis] > 1 && k.strides[axis] != v.strides[axis]) return false;
  }
  return true;
}

cuda::ForwardExtent extent_of(const ForwardInputs& inputs, const variant::Call& call) {
  cuda::ForwardExtent extent{.b = call.problem.b(), .h_q = call.problem.h_q, .s_q = 0, .h_kv = call.problem.h_kv};
  extent.q_rows = extent.kv_rows = 0;
  for (const Sequence& sequence : call.problem.sequences) {
    extent.s_q = std::max(extent.s_q, sequence.s_q);
    extent.s_kv = std::max(extent.s_kv, sequence.s_kv);
    extent.q_rows = std::max(extent.q_rows, sequence.s_q + (call.queries_packed ? sequence.first_query_token : 0));
    extent.kv_rows = std::max(extent.kv_rows, sequence.s_kv + (call.keys_packed ? sequence.first_key_token : 0));
  }
  if (inputs.device_sequences) {
    if (call.queries_packed) extent.q_rows = rows_of(inputs.q);
    if (call.keys_packed) extent.kv_rows = rows_of(inputs.k);
  }
  return extent;
}

cuda::ForwardArguments forward_arguments(const ForwardInputs& inputs, const ForwardOutputs& outputs,
                                         const variant::Call& call) {
  cuda::ForwardArguments arguments{};
  arguments.q = view_of(inputs.q, call.queries_packed);
  arguments.k = view_of(inputs.k, call.keys_packed);
  arguments.v = view_of(inputs.v, call.keys_packed);
  arguments.o = view_of(outputs.o, call.queries_packed);
  arguments.lse = view_if_given(outputs.lse, call.queries_packed);
  arguments.dropout = dropout_of(inputs, call);
  arguments.queries_packed = call.queries_packed;
  arguments.keys_packed = call.keys_packed;
  arguments.heads_per_kv = static_cast<int>(call.problem.h_q / call.problem.h_kv);
  arguments.scale = static_cast<float>(call.scale);
  if (outputs.max_score) arguments.max_score = static_cast<float*>(outputs.max_score->data);
  if (call.keys_paged) arguments.pages = pages_of(inputs, call);
  arguments.float8.q_scales = scales_of(inputs.q_scales);
  arguments.float8.k_scales = scales_of(inputs.k_scales);
  arguments.float8.v_scales = scales_of(inputs.v_scales);
  arguments.float8.h_kv = static_cast<int>(call.problem.h_kv);
  return arguments;
}

cuda::BackwardArguments backward_arguments(const ForwardInputs& inputs, const BackwardInputs& given,
                                           const BackwardOutputs& outputs, const variant::Call& call) {
  cuda::BackwardArguments arguments{};
  arguments.q = view_of(inputs.q, call.queries_packed);
  arguments.k = view_of(inputs.k, call.keys_packed);
  arguments.v = view_of(inputs.v, call.keys_packed);
  arguments.o = view_if_given(given.o, call.queries_packed);
  arguments.d_o = view_of(given.d_o, call.queries_packed);
  arguments.lse = view_if_given(given.lse, call.queries_packed);
  arguments.d_lse = view_if_given(given.d_lse, call.queries_packed);
  arguments.d_q = view_if_given(outputs.d_q, call.queries_packed);
  arguments.d_k = view_if_given(outputs.d_k, call.keys_packed);
  arguments.d_v = view_if_given(outputs.d_v, call.keys_packed);
  arguments.dropout = dropout_of(inputs, call);
  arguments.queries_packed = call.queries_packed;
  arguments.keys_packed = call.keys_packed;
  arguments.heads_per_kv = static_cast<int>(call.problem.h_q / call.problem.h_kv);
  arguments.h_q = static_cast<int>(call.problem.h_q);
  arguments.s_q = static_cast<int>(extent_of(inputs, call).s_q);
  arguments.scale = static_cast<float>(call.scale);
  return arguments;
}

cuda::SequenceColumns sequence_columns(const ForwardInputs& inputs, const variant::Call& call) {
  const auto column = [](const std::optional<ConstTensor>& tensor) -> cuda::SequenceColumns::Column {
    if (!tensor) return {nullptr, 0};
    return {static_cast<const int*>(tensor->data), tensor->strides[0]};
  };
  const DeviceSequences& given = *inputs.device_sequences;
  const cuda::ForwardExtent extent = extent_of(inputs, call);
  return {.queries = column(given.s_q),
          .keys = column(given.s_kv),
          .key_start = column(given.key_start),
          .query_offset = column(given.query_offset),
          .key_offset = column(given.key_offset),
          .query_token = column(given.first_query_token),
          .key_token = column(given.first_key_token),
          .b = static_cast<int>(given.b),
          .most_queries = static_cast<int>(extent.s_q),
          .most_keys = static_cast<int>(extent.s_kv),
          .query_tokens = call.queries_packed ? static_cast<int>(extent.q_rows) : -1,
          .key_tokens = call.keys_packed ? static_cast<int>(extent.kv_rows) : -1};
}

}  // namespace tilewise::attention
