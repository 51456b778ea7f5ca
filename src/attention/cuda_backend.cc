#include "attention/cuda_backend.h"

#include <algorithm>
#include <bit>

#include "attention/check_plan.h"
#include "attention/planned_mask.h"
#include "core/fail.h"
#include "cuda/launch/bound_variant.h"
#include "cuda/launch/pointers.h"

namespace tilewise::attention {
namespace {

constexpr std::int64_t kMostBlocks = 65535;  // of a grid, along its second and third axis

/// Sequences of at most this many queries are decoded, where all heads of a key head make at most that many rows: each
/// 16 rows read the keys anew.
constexpr std::int64_t kDecodeQueries = 16, kDecodeRows = 128;

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

template <class Handle>
std::size_t number_of(const std::vector<Handle>& handles, const Handle& handle) {
  return static_cast<std::size_t>(std::ranges::find(handles, handle) - handles.begin());
}

cuda::DropoutArguments dropout_of(const variant::Call& call) {
  return {call.dropout.seed, call.dropout.offset, call.dropout.keep_below, static_cast<float>(call.dropout.scale()), 0};
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

/// All but what lies in the workspace.
cuda::ForwardArguments arguments_of(const ForwardInputs& inputs, const ForwardOutputs& outputs,
                                    const variant::Call& call) {
  cuda::ForwardArguments arguments{};
  arguments.q = view_of(inputs.q, call.queries_packed);
  arguments.k = view_of(inputs.k, call.keys_packed);
  arguments.v = view_of(inputs.v, call.keys_packed);
  arguments.o = view_of(ConstTensor(outputs.o), call.queries_packed);
  arguments.lse = view_of(outputs.lse, call.queries_packed);
  arguments.dropout = dropout_of(call);
  arguments.queries_packed = call.queries_packed;
  arguments.keys_packed = call.keys_packed;
  arguments.heads_per_kv = static_cast<int>(call.problem.h_q / call.problem.h_kv);
  arguments.scale = static_cast<float>(call.scale);
  if (call.keys_paged) arguments.pages = pages_of(inputs, call);
  return arguments;
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
  forward_.emplace([this](const Form& form) {
    return cuda::make_forward({jit::Compiler::instance(), context_, this->variant(), kernel_shape(form)}, refusals);
  });
  make_decoder();
  if (shape.backward) {
    plan_gradients();
    backward_.emplace([this](const Form& form) {
      return cuda::make_backward({jit::Compiler::instance(), context_, this->variant(), kernel_shape(form)}, refusals);
    });
  }
  if (lister_) measure_lists();
  Arena measure;
  memory_in(measure);
  workspace_bytes_ = measure.used();
}

/// Few queries are decoded: a tile of the forward kernel would be mostly empty, and each of a key head's heads would
/// read the keys again. Not where a backward pass follows, whose weights would not be quite those of the forward pass.
void CudaBackend::make_decoder() {
  if (shape().backward || shape().s_q > kDecodeQueries || (lister_ && lister_->follows_head())) return;
  const jit::DeviceInfo& device = context_->device();
  const cuda::Multiprocessor limits{device.shared_bytes_per_multiprocessor, device.shared_bytes_per_block,
                                    device.registers_per_multiprocessor};
  const auto plan = cuda::choose_decode(kernel_shape({}), limits);
  if (!plan) return;
  decode_.emplace([this, plan](const Form& form) {
    return std::make_unique<const cuda::DecodeKernels>(jit::Compiler::instance(), context_, this->variant(),
                                                       kernel_shape(form), *plan);
  });
}

bool CudaBackend::decodes(const Form& form, const cuda::ForwardExtent& extent) const {
  return decode_ && form.is_aligned && extent.s_q * (extent.h_q / extent.h_kv) <= kDecodeRows;
}

cuda::ForwardExtent CudaBackend::largest_extent() const {
  return {.b = shape().b, .h_q = shape().h_q, .s_q = shape().s_q, .h_kv = shape().h_kv, .s_kv = shape().s_kv};
}

cuda::ForwardShape CudaBackend::kernel_shape(const Form& form) const {
  const auto dimension = [](std::int64_t d) { return static_cast<int>(std::min<std::int64_t>(d, 1 << 20)); };
  return {.dtype = shape().dtype,
          .d_qk = dimension(shape().d_qk),
          .d_v = dimension(shape().d_v),
          .has_lists = lister_.has_value(),
          .has_dropout = variant().has_dropout(),
          .is_paged = form.is_paged,
          .pages_of_eights = form.pages_of_eights,
          .has_gradients = form.has_gradients,
          .is_aligned = form.is_aligned};
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

/// Calls of other forms than the usual one may run on kernels of another family, with other tiles, as decoding does:
/// the workspace has room for the lists of all of them.
void CudaBackend::measure_lists() {
  const auto room_for = [&](const Direction& direction) {
    const cuda::ListExtent lists =
        lister_->extent(shape().b, shape().h_q, shape().s_q, shape().s_kv, direction.tile, direction.by_key);
    most_tiles_ = std::max(most_tiles_, lists.tile_ints());
    most_lists_ = std::max(most_lists_, lists.lists());
  };
  const auto making = [&](const cuda::ForwardShape& kernel) {
    return cuda::Making{jit::Compiler::instance(), context_, variant(), kernel};
  };
  for (const bool is_aligned : {true, false}) {
    for (const Form& form : {Form{is_aligned}, Form{is_aligned, true, true}, Form{is_aligned, true, false}})
      room_for({cuda::forward_tile(making(kernel_shape(form))), false});
    if (!backward_) continue;
    for (const bool has_gradients : {false, true})
      room_for({cuda::backward_tile(making(kernel_shape({is_aligned, false, false, has_gradients}))), true});
  }
  if (decode_) room_for({cuda::DecodeKernels::tile(kDecodeQueries), false});
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
    memory.tiles = arena.take<int>(most_tiles_);
    memory.tile_counts = arena.take<int>(most_lists_);
    memory.tile_order = arena.take<int>(most_lists_);
  }
  if (decode_) {
    const auto floats = decode_->usual().partial_floats(largest_extent());
    memory.partial_o = arena.take<float>(floats.o);
    memory.partial_lse = arena.take<float>(floats.lse);
  }
  if (!shape().backward) return memory;
  const std::int64_t rows = cuda::BackwardRunner::row_floats(shape().b, shape().h_q, shape().s_q);
  memory.reference = arena.take<float>(rows);
  memory.delta = arena.take<float>(rows);
  memory.d_q_sums =
      arena.take<float>(cuda::BackwardRunner::d_q_floats(shape().b, shape().h_q, shape().s_q, shape().d_qk));
  memory.gradient_sums = arena.take<float>(sums_);
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

/// The variant's bytes, the same for all of its kernels. Tables must lie on the GPU.
void CudaBackend::bind(CudaState& state) const {
  for (const FrozenTable& table : frozen_) state.call.bound.tables[table.number] = table.view;
  variant::pack_arguments(variant().data().graph, state.call.bound, forward_->usual().layout(), state.bound);
}

void CudaBackend::expect_inputs(const ForwardInputs& inputs) const {
  cuda::expect_on_gpu(*context_, "q", inputs.q);
  cuda::expect_on_gpu(*context_, "k", inputs.k);
  cuda::expect_on_gpu(*context_, "v", inputs.v);
  if (inputs.block_table) cuda::expect_on_gpu(*context_, "block_table", *inputs.block_table);
  for (const TableBinding& binding : inputs.tables) {
    cuda::expect_on_gpu(*context_, binding.table.name(), binding.data);
  }
}

/// Lays out the sums of all gradients that calls may ask for: of real tables that the plan was told the extents of, and
/// of real parameters.
void CudaBackend::plan_gradients() {
  const auto& tables = variant().tables();
  const auto& parameters = variant().parameters();
  for (const Table& table : tables) {
    const auto planned = std::ranges::find(shape().tables, table, &TableShape::table);
    const bool has_gradient = table.type() == Type::real && !table.frozen_data() && planned != shape().tables.end();
    first_sum_.push_back(has_gradient ? sums_ : -1);
    if (!has_gradient) continue;
    std::int64_t elements = 1;
    for (const std::int64_t extent : planned->extents) elements *= extent;
    sums_ += elements;
  }
  for (const Parameter& parameter : parameters) {
    first_sum_.push_back(parameter.type() == Type::real ? sums_ : -1);
    sums_ += parameter.type() == Type::real ? 1 : 0;
  }
  constexpr auto kMost = static_cast<std::size_t>(cuda::GradientSums::kMost);
  if (sums_ == 0) return;
  if (tables.size() > kMost || parameters.size() > kMost) {
    fail(ErrorCode::unsupported,
         "the variant has {} tables and {} parameters; the GPU's backward kernels take up to {}", tables.size(),
         parameters.size(), kMost);
  }
  gradients_.emplace(jit::Compiler::instance(), context_);
}

/// Expects that the plan has room for every gradient of a table that is asked for, and that all lie on the GPU.
void CudaBackend::check_variant_gradients(const variant::Call& call, const BackwardOutputs& outputs) const {
  for (const auto& [table, gradient] : outputs.d_tables) {
    const std::size_t number = number_of(variant().tables(), table);
    const auto planned = std::ranges::find(shape().tables, table, &TableShape::table);
    if (planned == shape().tables.end()) {
      fail_argument("d_tables names '{}', whose extents the plan does not have; expected it in PlanShape::tables",
                    table.name());
    }
    for (std::size_t axis = 0; axis < planned->extents.size(); ++axis) {
      if (call.bound.tables[number].extents[axis] > planned->extents[axis]) {
        fail_argument("table '{}': axis {} has extent {}; the plan was made for at most {}", table.name(), axis,
                      call.bound.tables[number].extents[axis], planned->extents[axis]);
      }
    }
    cuda::expect_on_gpu(*context_, table.name(), gradient);
  }
  for (const auto& [parameter, gradient] : outputs.d_parameters)
    cuda::expect_on_gpu(*context_, parameter.name(), gradient);
}

cuda::GradientSums CudaBackend::sums_in(float* memory, const BackwardOutputs& outputs) const {
  cuda::GradientSums sums{};
  for (const auto& [table, gradient] : outputs.d_tables) {
    const std::size_t number = number_of(variant().tables(), table);
    sums.tables[number] = memory + first_sum_[number];
  }
  for (const auto& [parameter, gradient] : outputs.d_parameters) {
    const std::size_t number = number_of(variant().parameters(), parameter);
    sums.parameters[number] = memory + first_sum_[variant().tables().size() + number];
  }
  return sums;
}

void CudaBackend::forward(const ForwardInputs& inputs, const ForwardOutputs& outputs, Workspace& workspace) const {
  CudaState& state = state_in(workspace);
  variant::Call& call = state.call;
  variant::check_forward(variant(), inputs, outputs, call, variant::TableData::elsewhere);
  check_planned(shape(), inputs, call);
  check_dtype("o", outputs.o, shape().dtype);
  if (outputs.lse) expect_float("lse", *outputs.lse);
  const jit::CurrentContext current(*context_);
  expect_inputs(inputs);
  cuda::expect_on_gpu(*context_, "o", outputs.o);
  if (outputs.lse) cuda::expect_on_gpu(*context_, "lse", *outputs.lse);
  if (must_prove_reads_) prove_reads(variant(), shape(), inputs, call);

  const Form form{all_aligned(inputs.q, inputs.k, inputs.v, outputs.o), call.keys_paged,
                  call.keys_paged && call.page_tokens % 8 == 0};
  const cuda::ForwardExtent extent = extent_of(call);
  Arena arena({workspace.data(), static_cast<std::size_t>(workspace.bytes())});
  const CudaMemory memory = memory_in(arena);
  auto* stream = static_cast<jit::StreamHandle>(workspace.stream());
  cuda::ForwardArguments arguments = arguments_of(inputs, outputs, call);
  arguments.sequences = memory.sequences;
  if (decodes(form, extent)) {
    const cuda::DecodeKernels& kernels = decode_->get(form);
    bind(state);
    sequences_.write(call.problem, memory.sequences, stream);
    if (lister_)
      arguments.lists = list_tiles(state, memory, {cuda::DecodeKernels::tile(kDecodeQueries), false}, extent, stream);
    kernels.launch(arguments, memory.partial_o, memory.partial_lse, state.bound, extent, stream);
    return;
  }
  const cuda::ForwardRunner& kernel = forward_->get(form);
  bind(state);
  sequences_.write(call.problem, memory.sequences, stream);
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
  expect_float("lse", *given.lse);
  if (given.d_lse) expect_float("d_lse", *given.d_lse);
  const jit::CurrentContext current(*context_);
  expect_inputs(inputs);
  cuda::expect_on_gpu(*context_, "o", *given.o);
  cuda::expect_on_gpu(*context_, "lse", *given.lse);
  cuda::expect_on_gpu(*context_, "d_o", given.d_o);
  if (given.d_lse) cuda::expect_on_gpu(*context_, "d_lse", *given.d_lse);
  check_variant_gradients(call, outputs);
  if (outputs.d_q) cuda::expect_on_gpu(*context_, "d_q", *outputs.d_q);
  if (outputs.d_k) cuda::expect_on_gpu(*context_, "d_k", *outputs.d_k);
  if (outputs.d_v) cuda::expect_on_gpu(*context_, "d_v", *outputs.d_v);
  if (must_prove_reads_) prove_reads(variant(), shape(), inputs, call);

  const bool has_gradients = !outputs.d_tables.empty() || !outputs.d_parameters.empty();
  const bool aligned = all_aligned(inputs.q, inputs.k, inputs.v, given.d_o) && cuda::is_aligned(*given.o) &&
                       is_aligned(outputs.d_q) && is_aligned(outputs.d_k) && is_aligned(outputs.d_v);
  const cuda::BackwardRunner& kernels = backward_->get({aligned, false, false, has_gradients});
  bind(state);
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
  if (!has_gradients) return kernels.launch(arguments, state.bound, extent, stream);
  gradients_->clear(memory.gradient_sums, sums_, stream);
  arguments.gradients = sums_in(memory.gradient_sums, outputs);
  kernels.launch(arguments, state.bound, extent, stream);
  for (const auto& [table, gradient] : outputs.d_tables)
    gradients_->store(arguments.gradients.tables[number_of(variant().tables(), table)], gradient, stream);
  for (const auto& [parameter, gradient] : outputs.d_parameters)
    gradients_->store(arguments.gradients.parameters[number_of(variant().parameters(), parameter)], gradient, stream);
}

std::string CudaBackend::explain() const {
  std::string text = fmt::format("backend: {}, {}\n", device_.text(), context_->device().name);
  text += fmt::format("forward: {}\n", forward_->usual().text());
  if (backward_) text += fmt::format("backward: {}\n", backward_->usual().text());
  if (decode_) text += fmt::format("decoding, up to {} queries: {}\n", kDecodeQueries, decode_->usual().text());
  text += fmt::format("mask: {}\n", lister_ ? "tiles are classified on the GPU, before each kernel" : "none");
  return text;
}

std::shared_ptr<Backend> make_cuda_backend(const Variant& variant, const PlanShape& shape, const Device& device) {
  return std::make_shared<CudaBackend>(variant, shape, device);
}

}  // namespace tilewise::attention
