#include "attention/cuda_backend.h"

#include <algorithm>

#include "attention/check_plan.h"
#include "attention/cuda_call.h"
#include "attention/cuda_validate.h"
#include "attention/planned_mask.h"
#include "core/fail.h"
#include "cuda/launch/bound_variant.h"
#include "cuda/launch/choice.h"
#include "cuda/launch/kernel_text.h"
#include "cuda/plan/hopper_plan.h"

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

/// Sequences that lie on the GPU are as long as the plan's at most.
void limit_lengths(const PlanShape& shape, const ForwardInputs& inputs, variant::Call& call) {
  if (!inputs.device_sequences) return;
  for (Sequence& sequence : call.problem.sequences) {
    sequence.s_q = std::min(sequence.s_q, shape.s_q);
    sequence.s_kv = std::min(sequence.s_kv, shape.s_kv);
  }
}

}  // namespace

CudaBackend::CudaBackend(const Variant& variant, const PlanShape& shape, const Device& device)
    : Backend(variant, shape),
      device_(device),
      context_(jit::shared_context(device.ordinal())),
      must_prove_reads_(prove_planned_reads(variant, shape)) {
  check_cuda_shape(shape);
  const tiles::Mask mask = planned_mask(variant, shape);
  const jit::CompileAhead ahead(jit::Compiler::instance(), programs_ahead(mask));
  sequences_.emplace(jit::Compiler::instance(), context_);
  if (!mask.program.wanted.empty()) lister_.emplace(jit::Compiler::instance(), context_, variant, mask);
  upload_frozen_tables();
  if (shape.b > 0) {
    const Problem longest = Problem::uniform(shape.b, shape.h_q, shape.h_kv, shape.s_q, shape.s_kv);
    longest_ = cuda::DeviceMemory::of(context_, cuda::sequence_shapes(longest));
  }
  has_small_parts_ = find_small_parts();
  has_long_rows_ = has_long_key_rows();
  if (!cuda::needs_wide_decode(kernel_shape({}))) {
    forward_.emplace([this](const Form& form) {
      std::vector<std::string> of_form;
      auto made = cuda::make_forward(making(kernel_shape(form)), of_form);
      if (form == Form()) note_refusals("forward", of_form);  // the plan's: calls may run beside each other
      return made;
    });
  }
  make_decoder();
  if (shape.backward) {
    gradients_.emplace(variant, shape, jit::Compiler::instance(), context_);
    backward_.emplace([this](const Form& form) {
      std::vector<std::string> of_form;
      auto made = cuda::make_backward(making(kernel_shape(form)), of_form);
      if (form == Form()) note_refusals("backward", of_form);
      return made;
    });
  }
  if (lister_) measure_lists();
  measure_decoding();
  keep_lists();
  Arena measure;
  memory_in(measure);
  workspace_bytes_ = measure.used();
}

/// What the plan's usual kernels will ask for, as far as it is known before lists have been made: where a mask keeps so
/// little of the usual tiles that smaller ones are taken, the forward kernel is another one, and where some rows are
/// far longer than most, the backward kernel.
std::vector<jit::CompileAhead::Make> CudaBackend::programs_ahead(const tiles::Mask& mask) const {
  cuda::ForwardShape kernel = kernel_shape({});
  kernel.has_lists = !mask.program.wanted.empty();
  std::vector<jit::CompileAhead::Make> programs;
  if (kernel.has_lists) {
    programs.push_back([this, removes = mask.removes] {
      return cuda::tile_program(variant(), variant::cuda_text(variant()), removes, context_->device().architecture());
    });
  }
  if (!cuda::needs_wide_decode(kernel))
    programs.push_back([this, kernel] { return cuda::forward_program(making(kernel)); });
  if (shape().backward) programs.push_back([this, kernel] { return cuda::backward_program(making(kernel)); });
  const std::optional<cuda::DecodePlan> decode = may_decode(mask.follows_head) ? plan_decoding(kernel) : std::nullopt;
  if (decode) {
    programs.push_back([this, kernel, decode] {
      return cuda::decode_program(variant(), variant::cuda_text(variant()), kernel, *decode,
                                  context_->device().architecture());
    });
  }
  return programs;
}

/// Few queries are decoded: a tile of the forward kernel would be mostly empty, and each of a key head's heads would
/// read the keys again. Not where a backward pass follows, whose weights would not be quite those of the forward pass,
/// nor where heads' masks differ.
bool CudaBackend::may_decode(bool mask_follows_head) const {
  return !shape().backward && shape().s_q <= kDecodeQueries && !mask_follows_head;
}

/// Head dimensions beyond 256 are decoded only.
void CudaBackend::make_decoder() {
  const bool decodes = may_decode(lister_ && lister_->follows_head()) && decode_plan({}).has_value();
  if (!decodes && !forward_) {
    fail(ErrorCode::unsupported,
         "d_qk is {} and d_v is {}; beyond 256 the GPU's kernels only decode: plans without backward, for at most {} "
         "queries, without dropout, and with a mask that is the same for all heads",
         shape().d_qk, shape().d_v, kDecodeQueries);
  }
  if (!decodes) return;
  cuda::validate_decode(kernel_shape({}));
  decode_.emplace([this](const Form& form) {
    return std::make_unique<const cuda::DecodeKernels>(jit::Compiler::instance(), context_, this->variant(),
                                                       kernel_shape(form), decode_plan(form).value());
  });
}

std::optional<cuda::DecodePlan> CudaBackend::decode_plan(const Form& form) const {
  return plan_decoding(kernel_shape(form));
}

std::optional<cuda::DecodePlan> CudaBackend::plan_decoding(const cuda::ForwardShape& kernel) const {
  const jit::DeviceInfo& device = context_->device();
  const std::int64_t heads_per_kv = shape().h_q / shape().h_kv,
                     units = shape().b * shape().h_kv * cuda::decode_row_tiles({}, heads_per_kv, shape().s_q);
  const auto candidates = cuda::decode_candidates(kernel, cuda::limits_of(device), heads_per_kv * shape().s_q,
                                                  cuda::decodes_by_wgmma(*context_), cuda::changes_scores(variant()),
                                                  units >= 2 * std::int64_t{device.multiprocessors});
  if (candidates.empty()) return std::nullopt;
  return cuda::chosen(device, "decoding", kernel, cuda::changes_scores(variant()), candidates);
}

bool CudaBackend::decodes(const Form& form, const cuda::ForwardExtent& extent) const {
  if (!forward_ && !form.is_aligned) {
    fail(ErrorCode::unsupported,
         "rows of q, k, v or o do not begin at multiples of 16 bytes; expected it with head dimensions beyond 256");
  }
  if (!forward_ && form.has_max_score)
    fail(ErrorCode::unsupported, "max_score is asked for; expected head dimensions up to 256 with it on a GPU");
  return decode_ && form.is_aligned && !form.has_max_score &&
         (!forward_ || extent.s_q * (extent.h_q / extent.h_kv) <= kDecodeRows);
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
          .has_small_parts = has_small_parts_,
          .has_long_rows = has_long_rows_,
          .has_dropout = variant().has_dropout(),
          .has_max_score = form.has_max_score,
          .is_paged = form.is_paged,
          .page_multiple = form.page_multiple,
          .values_in_keys = form.values_in_keys,
          .has_gradients = form.has_gradients,
          .is_deterministic = shape().deterministic,
          .is_aligned = form.is_aligned,
          .o_dtype = o_dtype_of(shape()),
          .short_keys = cuda::ForwardShape::short_keys_of(shape().s_kv)};
}

cuda::Making CudaBackend::making(const cuda::ForwardShape& kernel) const {
  return {jit::Compiler::instance(), context_, variant(), kernel};
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

/// Those whose plans of decoding differ.
std::vector<Form> CudaBackend::decode_forms() const {
  if (!decode_) return {};
  if (forward_) return {Form(), Form{.is_paged = true}, Form{.is_paged = true, .page_multiple = 16}};
  return {Form(), Form{.values_in_keys = true}, Form{.is_paged = true, .values_in_keys = true}};
}

void CudaBackend::measure_decoding() {
  for (const Form& form : decode_forms()) {
    partial_rows_ = std::max(
        partial_rows_, cuda::DecodeKernels::partial_rows(*decode_plan(form), context_->device(), largest_extent()));
  }
}

CudaMemory CudaBackend::memory_in(Arena& arena) const {
  CudaMemory memory;
  memory.written_sequences = arena.take<cuda::SequenceShape>(shape().b);
  if (lister_) {
    memory.tiles = arena.take<int>(most_tiles_);
    memory.tile_counts = arena.take<int>(most_lists_);
    memory.tile_order = arena.take<cuda::RowStart>(most_lists_);
  }
  memory.partial_o = arena.take<float>(partial_rows_ * shape().d_v);
  memory.partial_lse = arena.take<float>(partial_rows_);
  if (shape().dtype == DType::float8_e4m3) {
    const std::int64_t heads = shape().b * shape().h_kv;
    memory.float8_values = arena.take<unsigned char>(heads * cuda::float8_value_bytes(shape().s_kv, shape().d_v));
    memory.float8_blocks = arena.take<cuda::Float8Block>(heads * cuda::float8_blocks(shape().s_kv));
  }
  if (!shape().backward) return memory;
  const std::int64_t rows = cuda::BackwardRunner::row_floats(shape().b, shape().h_q, shape().s_q);
  memory.reference = arena.take<float>(rows);
  memory.delta = arena.take<float>(rows);
  const std::int64_t parts = shape().deterministic ? cuda::deterministic_parts(shape().s_kv) : 1;
  memory.d_q_sums =
      arena.take<float>(parts * cuda::BackwardRunner::d_q_floats(shape().b, shape().h_q, shape().s_q, shape().d_qk));
  memory.d_q_turns = arena.take<int>(cuda::BackwardRunner::turn_ints(shape().b, shape().h_q, shape().s_q));
  if (shape().deterministic && lister_) memory.tile_turns = arena.take<int>(cuda::ListExtent::kOrders * most_tiles_);
  memory.gradients = gradients_->memory_in(arena);
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
  variant::pack_arguments(variant().data().graph, state.call.bound,
                          forward_ ? forward_->usual().layout() : decode_->usual().layout(), state.bound);
}

/// Whether all sequences are as long as the plan's, one behind the other, which it has written once.
bool CudaBackend::are_longest(const ForwardInputs& inputs, const variant::Call& call) const {
  const std::vector<Sequence>& sequences = call.problem.sequences;
  if (!longest_ || inputs.device_sequences || static_cast<std::int64_t>(sequences.size()) > shape().b) return false;
  std::int64_t number = 0;
  return std::ranges::all_of(sequences, [&](const Sequence& sequence) {
    const std::int64_t i = number++;
    return sequence.s_q == shape().s_q && sequence.s_kv == shape().s_kv && sequence.key_start == 0 &&
           sequence.key_offset == 0 && sequence.first_query_position() == shape().s_kv - shape().s_q &&
           sequence.first_query_token == i * shape().s_q && sequence.first_key_token == i * shape().s_kv;
  });
}

void CudaBackend::write_sequences(const ForwardInputs& inputs, const variant::Call& call, CudaMemory& memory,
                                  jit::StreamHandle stream) const {
  memory.sequences = memory.written_sequences;
  if (are_longest(inputs, call)) {
    memory.sequences = longest_->as<const cuda::SequenceShape>();
  } else if (inputs.device_sequences) {
    sequences_->gather(sequence_columns(inputs, call), memory.written_sequences, stream);
  } else {
    sequences_->write(call.problem, memory.written_sequences, stream);
  }
}

void CudaBackend::forward(const ForwardInputs& inputs, const ForwardOutputs& outputs, Workspace& workspace) const {
  CudaState& state = state_in(workspace);
  variant::Call& call = state.call;
  auto* stream = static_cast<jit::StreamHandle>(workspace.stream());
  variant::check_forward(variant(), inputs, outputs, call, variant::TableData::elsewhere);
  limit_lengths(shape(), inputs, call);
  check_planned(shape(), inputs, call);
  check_outputs(shape(), outputs);
  const jit::CurrentContext current(*context_);
  expect_on_gpu(*context_, inputs);
  expect_on_gpu(*context_, outputs);
  if (must_prove_reads_ && !inputs.device_sequences) prove_reads(variant(), shape(), inputs, call);
  if (inputs.validate) validate(inputs, stream);

  const Form form{.is_aligned = all_aligned(inputs, outputs),
                  .is_paged = call.keys_paged,
                  .page_multiple = call.keys_paged ? cuda::ForwardShape::page_multiple_of(call.page_tokens) : 1,
                  .values_in_keys = !forward_ && values_in_keys(inputs),
                  .has_max_score = outputs.max_score.has_value()};
  const cuda::ForwardExtent extent = extent_of(inputs, call);
  const bool is_decoding = decodes(form, extent);
  Arena arena({workspace.data(), static_cast<std::size_t>(workspace.bytes())});
  CudaMemory memory = memory_in(arena);
  bind(state);
  // Writing lengths costs the host as much as decoding with them.
  std::optional<cuda::SequenceShape> alike;
  if (is_decoding && !lister_ && !inputs.device_sequences) alike = cuda::common_shape(call.problem);
  if (!alike) write_sequences(inputs, call, memory, stream);
  cuda::ForwardArguments arguments = forward_arguments(inputs, outputs, call);
  arguments.sequences = memory.sequences;
  if (is_decoding) {
    const cuda::DecodeKernels& kernels = decode_->get(form);
    if (lister_) arguments.lists = list_tiles(state, memory, {kernels.tile(kDecodeQueries), false}, extent, stream);
    kernels.launch(arguments, alike.value_or(cuda::SequenceShape{}), memory.partial_o, memory.partial_lse, state.bound,
                   extent, stream);
    return;
  }
  arguments.float8.values = memory.float8_values;
  arguments.float8.blocks = memory.float8_blocks;
  arguments.float8.key_blocks = static_cast<int>(cuda::float8_blocks(extent.s_kv));
  const cuda::ForwardRunner& kernel = forward_->get(form);
  if (outputs.max_score) clear_max_scores(*context_, *outputs.max_score, stream);
  if (lister_) arguments.lists = list_tiles(state, memory, {kernel.tile(), false}, extent, stream);
  arguments.planned = longest_ && memory.sequences == longest_->as<const cuda::SequenceShape>() &&
                      (!lister_ || arguments.lists.tiles != memory.tiles);
  arguments.partial_o = memory.partial_o, arguments.partial_lse = memory.partial_lse;
  kernel.launch(arguments, state.bound, extent, stream);
}

void CudaBackend::backward(const ForwardInputs& inputs, const BackwardInputs& given, const BackwardOutputs& outputs,
                           Workspace& workspace) const {
  CudaState& state = state_in(workspace);
  variant::Call& call = state.call;
  auto* stream = static_cast<jit::StreamHandle>(workspace.stream());
  variant::check_backward(variant(), inputs, given, outputs, call, variant::TableData::elsewhere);
  limit_lengths(shape(), inputs, call);
  check_planned(shape(), inputs, call);
  check_gradients(shape(), given, outputs);
  const jit::CurrentContext current(*context_);
  expect_on_gpu(*context_, inputs);
  expect_on_gpu(*context_, given, outputs);
  gradients_->check(call, outputs);
  if (must_prove_reads_ && !inputs.device_sequences) prove_reads(variant(), shape(), inputs, call);
  if (inputs.validate) validate(inputs, stream);

  const bool has_gradients = !outputs.d_tables.empty() || !outputs.d_parameters.empty();
  const cuda::BackwardRunner& kernels =
      backward_->get({.is_aligned = all_aligned(inputs, given, outputs), .has_gradients = has_gradients});
  bind(state);
  Arena arena({workspace.data(), static_cast<std::size_t>(workspace.bytes())});
  CudaMemory memory = memory_in(arena);
  write_sequences(inputs, call, memory, stream);
  const cuda::ForwardExtent extent = extent_of(inputs, call);
  cuda::BackwardArguments arguments = backward_arguments(inputs, given, outputs, call);
  arguments.reference = memory.reference;
  arguments.delta = memory.delta;
  arguments.d_q_sums = memory.d_q_sums;
  arguments.d_q_turns = memory.d_q_turns;
  arguments.d_q_parts = shape().deterministic ? cuda::deterministic_parts(shape().s_kv) : 0;
  arguments.sequences = memory.sequences;
  if (lister_) arguments.lists = list_tiles(state, memory, {kernels.tile(), true}, extent, stream);
  if (!has_gradients) return kernels.launch(arguments, state.bound, extent, state.backward, stream);
  gradients_->run(memory.gradients, outputs, stream, [&](const cuda::GradientSums& sums, bool is_last) {
    cuda::BackwardArguments pass = arguments;
    pass.gradients = sums;
    if (!is_last) pass.d_q.data = pass.d_k.data = pass.d_v.data = nullptr;
    kernels.launch(pass, state.bound, extent, state.backward, stream);
  });
}

void CudaBackend::validate(const ForwardInputs& inputs, jit::StreamHandle stream) const {
  const GpuContents contents(*context_, inputs, stream);
  contents.check(variant(), shape());
}

std::shared_ptr<Backend> make_cuda_backend(const Variant& variant, const PlanShape& shape, const Device& device) {
  return std::make_shared<CudaBackend>(variant, shape, device);
}

}  // namespace tilewise::attention
