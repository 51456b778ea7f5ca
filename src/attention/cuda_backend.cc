#include "attention/cuda_backend.h"

#include <algorithm>

#include "attention/check_plan.h"
#include "attention/planned_mask.h"
#include "core/fail.h"
#include "cuda/launch/bound_variant.h"
#include "cuda/launch/pointers.h"

namespace tilewise::attention {
namespace {

constexpr std::int64_t kMostBlocks = 65535;  // of a grid, along its second and third axis

void check_cuda_shape(const PlanShape& shape) {
  if (kv_dtype_of(shape) != shape.dtype) {
    fail(ErrorCode::unsupported, "dtype is {} and kv_dtype is {}; the GPU's kernels take one dtype for all",
         to_string(shape.dtype), to_string(kv_dtype_of(shape)));
  }
  if (shape.b > kMostBlocks || shape.h_q > kMostBlocks) {
    fail(ErrorCode::unsupported, "b is {} and h_q is {}; the GPU's kernels take up to {} of each", shape.b, shape.h_q,
         kMostBlocks);
  }
}

/// A tensor of a call as kernels see it: [b, h, s, ...], or packed [h, s, ...].
cuda::TensorView view_of(const ConstTensor& tensor, bool is_packed) {
  void* data = const_cast<void*>(tensor.data);  // kernels write through those of outputs alone
  const auto& strides = tensor.strides;
  if (is_packed) return {data, 0, strides[0], strides[1]};
  return {data, strides[0], strides[1], strides[2]};
}
cuda::TensorView view_of(const std::optional<ConstTensor>& tensor, bool is_packed) {
  return tensor ? view_of(*tensor, is_packed) : cuda::TensorView{};
}
cuda::TensorView view_of(const std::optional<Tensor>& tensor, bool is_packed) {
  return tensor ? view_of(ConstTensor(*tensor), is_packed) : cuda::TensorView{};
}

template <class... Tensors>
bool all_aligned(const Tensors&... tensors) {
  return (cuda::is_aligned(tensors) && ...);
}

bool is_aligned(const std::optional<Tensor>& tensor) { return !tensor || cuda::is_aligned(*tensor); }

/// The kernels read and write lse as float32.
void expect_float(const char* name, const ConstTensor& tensor) {
  if (tensor.dtype != DType::float32)
    fail_argument("{} has dtype {}; expected float32 on a GPU", name, to_string(tensor.dtype));
}

cuda::ForwardExtent extent_of(const variant::Call& call) {
  cuda::ForwardExtent extent{.b = call.problem.b(), .h_q = call.problem.h_q, .s_q = 0, .h_kv = call.problem.h_kv};
  extent.q_rows = extent.kv_rows = 0;
  for (const Sequence& sequence : call.problem.sequences) {
    extent.s_q = std::max(extent.s_q, sequence.s_q);
    extent.s_kv = std::max(extent.s_kv, sequence.s_kv);
    extent.q_rows = std::max(extent.q_rows, sequence.s_q + (call.queries_packed ? sequence.first_query_token : 0));
    extent.kv_rows = std::max(extent.kv_rows, sequence.s_kv + (call.keys_packed ? sequence.first_key_token : 0));
  }
  return extent;
}

}  // namespace

CudaBackend::CudaBackend(const Variant& variant, const PlanShape& shape, const Device& device)
    : Backend(variant, shape),
      device_(device),
      context_(std::make_shared<const jit::Context>(jit::Driver::instance(), device.ordinal())),
      must_prove_reads_(prove_planned_reads(variant, shape)),
      sequences_(jit::Compiler::instance(), context_) {
  check_cuda_shape(shape);
  const tiles::Mask mask = planned_mask(variant, shape);
  if (!mask.program.wanted.empty()) lister_.emplace(jit::Compiler::instance(), context_, variant, mask);
  upload_frozen_tables();
  forward_.emplace([this](bool is_aligned) {
    return cuda::make_forward({jit::Compiler::instance(), context_, this->variant(), kernel_shape(is_aligned)},
                              refusals);
  });
  if (shape.backward) {
    backward_.emplace([this](bool is_aligned) {
      return cuda::make_backward({jit::Compiler::instance(), context_, this->variant(), kernel_shape(is_aligned)},
                                 refusals);
    });
  }
  Arena measure;
  memory_in(measure);
  workspace_bytes_ = measure.used();
}

cuda::ForwardShape CudaBackend::kernel_shape(bool is_aligned) const {
  const auto dimension = [](std::int64_t d) { return static_cast<int>(std::min<std::int64_t>(d, 1 << 20)); };
  return {.dtype = shape().dtype,
          .d_qk = dimension(shape().d_qk),
          .d_v = dimension(shape().d_v),
          .has_lists = lister_.has_value(),
          .has_dropout = variant().has_dropout(),
          .is_aligned = is_aligned};
}

void CudaBackend::upload_frozen_tables() {
  for (std::size_t i = 0; i < variant().tables().size(); ++i) {
    const Table& table = variant().tables()[i];
    if (!table.frozen_data()) continue;
    variant::BoundTable view = variant::view_of(table, *table.frozen_data());
    cuda::move_to_gpu(context_, view, frozen_memory_);
    frozen_.push_back({i, view});
  }
}

cuda::ListExtent CudaBackend::largest_lists(const Direction& direction) const {
  return lister_->extent(shape().b, shape().h_q, shape().s_q, shape().s_kv, direction.tile, direction.by_key);
}

/// Queues the making of a call's lists.
cuda::TileLists CudaBackend::list_tiles(const CudaState& state, const CudaMemory& memory, const Direction& direction,
                                        const cuda::ForwardExtent& extent, jit::StreamHandle stream) const {
  const cuda::ListExtent lists =
      lister_->extent(extent.b, extent.h_q, extent.s_q, extent.s_kv, direction.tile, direction.by_key);
  return lister_->make(memory.sequences, lists, direction.tile, direction.by_key, extent.h_q / extent.h_kv,
                       memory.tiles, memory.tile_counts, memory.tile_order, state.bound, stream);
}

CudaMemory CudaBackend::memory_in(Arena& arena) const {
  CudaMemory memory;
  memory.sequences = arena.take<cuda::SequenceShape>(shape().b);
  if (lister_) {
    cuda::ListExtent lists = largest_lists({forward_->aligned().tile(), false});
    std::int64_t ints = lists.tile_ints(), rows = lists.lists();
    if (backward_) {
      lists = largest_lists({backward_->aligned().tile(), true});
      ints = std::max(ints, lists.tile_ints()), rows = std::max(rows, lists.lists());
    }
    memory.tiles = arena.take<int>(ints);
    memory.tile_counts = arena.take<int>(rows);
    memory.tile_order = arena.take<int>(rows);
  }
  if (!shape().backward) return memory;
  const std::int64_t rows = cuda::BackwardRunner::row_floats(shape().b, shape().h_q, shape().s_q);
  memory.reference = arena.take<float>(rows);
  memory.delta = arena.take<float>(rows);
  memory.d_q_sums =
      arena.take<float>(cuda::BackwardRunner::d_q_floats(shape().b, shape().h_q, shape().s_q, shape().d_qk));
  return memory;
}

CudaState& CudaBackend::state_in(Workspace& workspace) const {
  expect_on(workspace, device_);
  if (workspace.bytes() < workspace_bytes_) {
    fail_argument("workspace has {} bytes; expected at least Plan::workspace_bytes(), {}", workspace.bytes(),
                  workspace_bytes_);
  }
  return workspace.states().of<CudaState>(shared_from_this(), [] { return std::make_unique<CudaState>(); });
}

/// The variant's bytes for a kernel. Tables must lie on the GPU.
void CudaBackend::bind(CudaState& state, const variant::ArgumentLayout& layout) const {
  for (const FrozenTable& table : frozen_) state.call.bound.tables[table.number] = table.view;
  variant::pack_arguments(variant().data().graph, state.call.bound, layout, state.bound);
}

void CudaBackend::expect_inputs(const ForwardInputs& inputs) const {
  cuda::expect_on_gpu(*context_, "q", inputs.q);
  cuda::expect_on_gpu(*context_, "k", inputs.k);
  cuda::expect_on_gpu(*context_, "v", inputs.v);
  for (const TableBinding& binding : inputs.tables) {
    cuda::expect_on_gpu(*context_, binding.table.name(), binding.data);
  }
}

cuda::DropoutArguments CudaBackend::dropout_of(const variant::Call& call) const {
  return {call.dropout.seed, call.dropout.offset, call.dropout.keep_below, static_cast<float>(call.dropout.scale()), 0};
}

void CudaBackend::forward(const ForwardInputs& inputs, const ForwardOutputs& outputs, Workspace& workspace) const {
  CudaState& state = state_in(workspace);
  variant::Call& call = state.call;
  variant::check_forward(variant(), inputs, outputs, call, variant::TableData::elsewhere);
  check_planned(shape(), inputs, call);
  if (call.keys_paged)
    fail(ErrorCode::unsupported, "block_table is given; the GPU's kernels take keys and values that are not paged");
  check_dtype("o", outputs.o, shape().dtype);
  if (outputs.lse) expect_float("lse", *outputs.lse);
  const jit::CurrentContext current(*context_);
  expect_inputs(inputs);
  cuda::expect_on_gpu(*context_, "o", outputs.o);
  if (outputs.lse) cuda::expect_on_gpu(*context_, "lse", *outputs.lse);
  if (must_prove_reads_) prove_reads(variant(), shape(), inputs, call);

  const cuda::ForwardRunner& kernel = forward_->get(all_aligned(inputs.q, inputs.k, inputs.v, outputs.o));
  bind(state, kernel.layout());
  Arena arena({workspace.data(), static_cast<std::size_t>(workspace.bytes())});
  const CudaMemory memory = memory_in(arena);
  auto* stream = static_cast<jit::StreamHandle>(workspace.stream());
  sequences_.write(call.problem, memory.sequences, stream);
  cuda::ForwardArguments arguments{};
  arguments.q = view_of(inputs.q, call.queries_packed);
  arguments.k = view_of(inputs.k, call.keys_packed);
  arguments.v = view_of(inputs.v, call.keys_packed);
  arguments.o = view_of(ConstTensor(outputs.o), call.queries_packed);
  arguments.lse = view_of(outputs.lse, call.queries_packed);
  arguments.sequences = memory.sequences;
  arguments.dropout = dropout_of(call);
  arguments.queries_packed = call.queries_packed;
  arguments.keys_packed = call.keys_packed;
  arguments.heads_per_kv = static_cast<int>(call.problem.h_q / call.problem.h_kv);
  arguments.scale = static_cast<float>(call.scale);
  const cuda::ForwardExtent extent = extent_of(call);
  if (lister_) arguments.lists = list_tiles(state, memory, {kernel.tile(), false}, extent, stream);
  kernel.launch(arguments, state.bound, extent, stream);
}

void CudaBackend::backward(const ForwardInputs& inputs, const BackwardInputs& given, const BackwardOutputs& outputs,
                           Workspace& workspace) const {
  CudaState& state = state_in(workspace);
  variant::Call& call = state.call;
  variant::check_backward(variant(), inputs, given, outputs, call, variant::TableData::elsewhere);
  check_planned(shape(), inputs, call);
  check_gradients(shape(), given, outputs);
  if (!outputs.d_tables.empty() || !outputs.d_parameters.empty())
    fail(ErrorCode::unsupported, "the GPU's kernels give no gradients of tables and parameters");
  expect_float("lse", *given.lse);
  if (given.d_lse) expect_float("d_lse", *given.d_lse);
  const jit::CurrentContext current(*context_);
  expect_inputs(inputs);
  cuda::expect_on_gpu(*context_, "o", *given.o);
  cuda::expect_on_gpu(*context_, "lse", *given.lse);
  cuda::expect_on_gpu(*context_, "d_o", given.d_o);
  if (given.d_lse) cuda::expect_on_gpu(*context_, "d_lse", *given.d_lse);
  if (outputs.d_q) cuda::expect_on_gpu(*context_, "d_q", *outputs.d_q);
  if (outputs.d_k) cuda::expect_on_gpu(*context_, "d_k", *outputs.d_k);
  if (outputs.d_v) cuda::expect_on_gpu(*context_, "d_v", *outputs.d_v);
  if (must_prove_reads_) prove_reads(variant(), shape(), inputs, call);

  const bool aligned = all_aligned(inputs.q, inputs.k, inputs.v, given.d_o) && cuda::is_aligned(*given.o) &&
                       is_aligned(outputs.d_q) && is_aligned(outputs.d_k) && is_aligned(outputs.d_v);
  const cuda::BackwardRunner& kernels = backward_->get(aligned);
  bind(state, kernels.layout());
  Arena arena({workspace.data(), static_cast<std::size_t>(workspace.bytes())});
  const CudaMemory memory = memory_in(arena);
  auto* stream = static_cast<jit::StreamHandle>(workspace.stream());
  sequences_.write(call.problem, memory.sequences, stream);
  const cuda::ForwardExtent extent = extent_of(call);
  cuda::BackwardArguments arguments{};
  arguments.q = view_of(inputs.q, call.queries_packed);
  arguments.k = view_of(inputs.k, call.keys_packed);
  arguments.v = view_of(inputs.v, call.keys_packed);
  arguments.o = view_of(given.o, call.queries_packed);
  arguments.d_o = view_of(given.d_o, call.queries_packed);
  arguments.lse = view_of(given.lse, call.queries_packed);
  arguments.d_lse = view_of(given.d_lse, call.queries_packed);
  arguments.d_q = view_of(outputs.d_q, call.queries_packed);
  arguments.d_k = view_of(outputs.d_k, call.keys_packed);
  arguments.d_v = view_of(outputs.d_v, call.keys_packed);
  arguments.reference = memory.reference;
  arguments.delta = memory.delta;
  arguments.d_q_sums = memory.d_q_sums;
  arguments.sequences = memory.sequences;
  arguments.dropout = dropout_of(call);
  arguments.queries_packed = call.queries_packed;
  arguments.keys_packed = call.keys_packed;
  arguments.heads_per_kv = static_cast<int>(call.problem.h_q / call.problem.h_kv);
  arguments.h_q = static_cast<int>(call.problem.h_q);
  arguments.s_q = static_cast<int>(extent.s_q);
  arguments.scale = static_cast<float>(call.scale);
  if (lister_) arguments.lists = list_tiles(state, memory, {kernels.tile(), true}, extent, stream);
  kernels.launch(arguments, state.bound, extent, stream);
}

std::string CudaBackend::explain() const {
  std::string text = fmt::format("backend: {}, {}\n", device_.text(), context_->device().name);
  text += fmt::format("forward: {}\n", forward_->aligned().text());
  if (backward_) text += fmt::format("backward: {}\n", backward_->aligned().text());
  text += fmt::format("mask: {}\n", lister_ ? "tiles are classified on the GPU, before each kernel" : "none");
  return text;
}

std::shared_ptr<Backend> make_cuda_backend(const Variant& variant, const PlanShape& shape, const Device& device) {
  return std::make_shared<CudaBackend>(variant, shape, device);
}

}  // namespace tilewise::attention
