#include "attention/cpu_backend.h"
#include "attention/largest_scores.h"

#include <algorithm>
#include <limits>

#include "attention/check_holes.h"
#include "attention/check_plan.h"
#include "core/fail.h"
#include "core/isa.h"
#include "core/round_up.h"
#include "cpu/select.h"

namespace tilewise::attention {
namespace {

/// A sequence of at most this many queries is decoded: a strip of the forward kernels would be less than half full.
constexpr std::int64_t kDecodeQueries = 8;

/// Splits of a decoded sequence, over all its key heads: enough for a core each on large processors and for tasks of
/// several heads on small ones, none so short that merging shows. A task begins with memory that nobody asked for: with
/// twice as many, four cores of a Xeon (Sapphire Rapids) decode at 0.96 to 0.98 of the rate. With half as many, b 1 has
/// tasks of two heads, and pages 0.91 of one piece's rate.
constexpr std::int64_t kDecodeSplits = 256, kLeastDecodeKeys = 512;

std::int64_t most_decode_splits(const PlanShape& shape) {
  return std::clamp<std::int64_t>(kDecodeSplits / shape.h_kv, 4, 64);
}

/// Decode tasks for each worker that are enough for all to end at about the same time. With more, tasks take several
/// key heads, which read pages better the more they are.
constexpr std::int64_t kDecodeTasksOfWorker = 16;

/// Keys that a split of a backward pass has, but for the first four splits: with one or two tiles, clearing and adding
/// up the partial sums of d_q costs 3% of the pass (d64, s 2048, one core of a Zen 4).
constexpr std::int64_t kSplitKeys = 480;

/// More splits come in multiples of this: six of 4096 keys kept four cores busy for 0.76 of the time.
constexpr std::int64_t kLikelyWorkers = 4;

/// Keys that pieces of splits are best multiples of, since masks of blocks have blocks of so many: a block across two
/// tiles is computed as two (bigbird: 5% of a backward pass with AVX-512, 8% with AVX2). The first that no split has
/// more than 1.04 of its share by. s 2048 is 21 tiles of 96 and a third; splits of 5 and 6 tiles would keep four cores
/// busy for 0.89 of the time.
constexpr std::int64_t kBackwardSteps[] = {64, 32, 16};
constexpr double kMostUneven = 1.04;

std::int64_t backward_step(const cpu::Kernels& kernels, std::int64_t s_kv, std::int64_t splits) {
  for (const std::int64_t step : kBackwardSteps) {
    if (step % kernels.backward_step != 0) continue;
    const std::int64_t steps = ceil_div(s_kv, step), most = ceil_div(steps, splits);
    if (static_cast<double>(most * splits) <= kMostUneven * static_cast<double>(steps)) return step;
  }
  return kernels.backward_step;
}

/// Shared memory that is used for more units at a time than the threads need.
constexpr std::int64_t kWaveBytes = std::int64_t{64} << 20;

cpu::Shape largest_shape(const PlanShape& shape) {
  return {shape.s_q, shape.s_kv, static_cast<int>(shape.d_qk), static_cast<int>(shape.d_v)};
}

}  // namespace

CpuBackend::CpuBackend(const Variant& variant, const PlanShape& shape, const cpu::Kernels& kernels, Executor& executor)
    : Backend(variant, shape),
      masks_(variant, shape),
      strips_(choose_strips(kernels, masks_.planned(), shape)),
      kernels_(*strips_.kernels),
      executor_(executor),
      programs_(variant, kernels_, shape.backward, shape.s_q + shape.s_kv),
      reads_(variant, shape) {
  Arena measure;
  CpuState state;
  take_memory(measure, state);
  workspace_bytes_ = measure.used();
}

Cuts CpuBackend::cuts_of(std::int64_t s_q, std::int64_t s_kv, bool may_decode) const {
  Cuts cuts;
  cuts.decodes = may_decode && s_q <= kDecodeQueries && s_kv > 0;
  // Four strips share each key tile that is packed; fewer would pay for the packing.
  const std::int64_t queries = s_q * shape().h_q;
  const std::int64_t tasks = round_up(ceil_div(queries, kernels_.tile_queries), kForwardTasks);
  cuts.task_queries =
      std::clamp(round_up((queries + tasks - 1) / std::max<std::int64_t>(1, tasks), kernels_.strip_queries),
                 std::int64_t{4} * kernels_.strip_queries, kernels_.tile_queries);
  // Every split holds partial sums of d_q of the whole group, which must not outgrow the rest of the memory.
  const std::int64_t tiles = ceil_div(s_kv, kernels_.backward_keys);
  const std::int64_t wanted = std::min(kBackwardTasks, ceil_div(2 * kBackwardTasks, shape().h_kv));
  const std::int64_t most = std::max<std::int64_t>(4, std::min(s_kv / kSplitKeys, 64 / group()));
  cuts.backward_splits = std::max<std::int64_t>(1, std::min({wanted, tiles, most}));
  if (cuts.backward_splits > kLikelyWorkers) cuts.backward_splits -= cuts.backward_splits % kLikelyWorkers;
  cuts.backward_step = backward_step(kernels_, s_kv, cuts.backward_splits);
  return cuts;
}

SplitRules CpuBackend::decode_rules() const {
  return {kernels_.decode_keys, kLeastDecodeKeys, most_decode_splits(shape())};
}

std::int64_t CpuBackend::decode_heads(std::int64_t splits) const {
  return std::clamp<std::int64_t>(shape().b * shape().h_kv * splits / (kDecodeTasksOfWorker * executor_.workers()), 1,
                                  std::min<std::int64_t>(cpu::kMostDecodeTasks, shape().h_kv));
}

/// Bytes for as many units at a time as keep the threads busy.
std::int64_t CpuBackend::shared_bytes() const {
  const auto wave = [&](std::int64_t units, std::int64_t unit_bytes, std::int64_t tasks_of_unit) {
    const std::int64_t needed = ceil_div(std::int64_t{4} * executor_.workers(), tasks_of_unit);
    const std::int64_t held = kWaveBytes / std::max<std::int64_t>(1, unit_bytes);
    return std::clamp<std::int64_t>(std::max(needed, held), 1, std::max<std::int64_t>(1, units)) * unit_bytes;
  };
  // Of any length up to the longest: a shorter sequence may have more splits, never more than these.
  const std::int64_t splits = std::min(most_decode_splits(shape()), ceil_div(shape().s_kv, kLeastDecodeKeys));
  const std::int64_t rows = group() * std::min(shape().s_q, kDecodeQueries);
  const std::int64_t heads = std::min<std::int64_t>(cpu::kMostDecodeTasks, shape().h_kv);
  Arena decode;
  decode.take<float>(heads * splits * rows * shape().d_v);
  decode.take<float>(heads * splits * rows);
  std::int64_t bytes =
      wave(shape().b * ceil_div(shape().h_kv, heads), decode.used(), std::max<std::int64_t>(1, splits));
  if (shape().backward) {
    const Cuts cuts = cuts_of(shape().s_q, shape().s_kv, false);
    BackwardUnit unit;
    Arena backward;
    lay_out(unit, shape().s_q, shape().s_kv, cuts, backward);
    bytes = std::max(bytes, wave(shape().b * shape().h_kv, backward.used(), cuts.backward_splits));
  }
  return bytes;
}

void CpuBackend::take_memory(Arena& arena, CpuState& state) const {
  const cpu::Shape largest = largest_shape(shape());
  cpu::Shape task =
      largest;  // of the forward kernels, which get no keys where all sequences that have some are decoded
  task.kv_dtype = kv_dtype_of(shape());
  task.s_q = std::min(task.s_q, cuts_of(shape().s_q, shape().s_kv, false).task_queries);
  if (shape().s_q <= kDecodeQueries && !variant().has_dropout() && !shape().backward) task.s_kv = 0;
  const std::int64_t decode_heads = std::min<std::int64_t>(cpu::kMostDecodeTasks, shape().h_kv);
  const std::int64_t decode_rows = std::min(group() * std::min(shape().s_q, kDecodeQueries), kMostDecodeRows);
  std::int64_t floats = std::max(kernels_.forward_floats(task),
                                 decode_heads * kernels_.decode_floats(largest, static_cast<int>(decode_rows)));
  if (shape().backward) floats = std::max(floats, kernels_.backward_floats(largest));
  for (int worker = 0; worker < executor_.workers(); ++worker) {
    state.kernel_memory.push_back(arena.take<float>(floats));
    state.row_memory.push_back(arena.take<float>(std::max({shape().s_q, shape().d_qk, shape().d_v})));
    state.workers.emplace_back(programs_, kernels_, worker, arena);
    if (!shape().backward) continue;
    state.hooks.push_back(arena.take<HeadHooks>(group()));
    state.heads.push_back(arena.take<cpu::BackwardHead>(group()));
    state.statistics.push_back(arena.take<float>(2 * kPreparedBlocks * kernels_.backward_queries));
  }
  if (shape().backward) state.gradients.emplace(variant(), shape(), programs_, executor_.workers(), arena);
  state.shared = arena.take_bytes(shared_bytes());
}

CpuState& CpuBackend::state_in(Workspace& workspace) const {
  expect_on(workspace, device());
  if (workspace.bytes() < workspace_bytes_) {
    fail_argument("workspace has {} bytes; expected at least Plan::workspace_bytes(), {}", workspace.bytes(),
                  workspace_bytes_);
  }
  return workspace.states().of<CpuState>(shared_from_this(), [&] {
    auto state = std::make_unique<CpuState>();
    Arena arena({workspace.data(), static_cast<std::size_t>(workspace.bytes())});
    take_memory(arena, *state);
    state->call.problem.sequences.reserve(static_cast<std::size_t>(shape().b));
    state->first_task.reserve(static_cast<std::size_t>(shape().b + 1));
    state->decode_units.reserve(static_cast<std::size_t>(shape().b * shape().h_kv));
    if (shape().backward) state->backward_units.reserve(static_cast<std::size_t>(shape().b * shape().h_kv));
    state->largest.resize(static_cast<std::size_t>(executor_.workers()));
    return state;
  });
}

/// What the forward and the backward pass prepare alike, once the arguments are known to be right.
void CpuBackend::start(CpuState& state, VariantGradients* gradients) const {
  bool is_new = false;
  const tiles::Mask& mask = masks_.of(state.call, state.mask, &is_new);
  is_new = is_new || state.last_mask != &mask;
  state.last_mask = &mask;
  for (Worker& worker : state.workers) worker.start(state.call, mask, is_new, gradients);
}

void CpuBackend::forward(const ForwardInputs& inputs, const ForwardOutputs& outputs, Workspace& workspace) const {
  CpuState& state = state_in(workspace);
  variant::check_forward(variant(), inputs, outputs, state.call);
  check_planned(shape(), inputs, state.call);
  check_outputs(shape(), outputs);
  reads_.prove(shape(), inputs, state.call, state.proven_reads);
  // Decoding adds up scores in another order than the backward pass, whose weights exp(score - lse) would not sum to
  // one: a call whose lse may go there is not decoded.
  const bool may_differentiate = shape().backward && outputs.lse && !state.call.keys_paged;
  state.may_decode = !state.call.has_dropout() && !may_differentiate;
  start(state, nullptr);
  check_holes(state.call, state.workers.front().spans(), state.last_mask->follows_head);
  clear_max_scores(outputs);
  run_forward(*this, state, inputs, outputs);
  run_decode(*this, state, inputs, outputs);
}

void CpuBackend::backward(const ForwardInputs& inputs, const BackwardInputs& given, const BackwardOutputs& outputs,
                          Workspace& workspace) const {
  CpuState& state = state_in(workspace);
  variant::check_backward(variant(), inputs, given, outputs, state.call);
  check_planned(shape(), inputs, state.call);
  check_gradients(shape(), given, outputs);
  state.gradients->start(variant(), state.call, outputs);
  reads_.prove(shape(), inputs, state.call, state.proven_reads);
  start(state, &*state.gradients);
  run_backward(*this, state, inputs, given, outputs);
}

std::string CpuBackend::explain() const {
  const Cuts cuts = cuts_of(shape().s_q, shape().s_kv, true);
  const std::int64_t decode_keys = split_all(shape().s_kv, decode_rules()).keys;
  std::string text = fmt::format("backend: cpu, instruction set {}, {} workers\n", kernels_.name, executor_.workers());
  text += fmt::format("forward: tasks of {} queries of a head, strips of {} queries, tiles of {} keys\n",
                      cuts.task_queries, kernels_.strip_queries, kernels_.tile_keys);
  if (strips_.wide.visited > 0) {
    text += fmt::format(
        "strips: of {} queries; a sample of the mask's tiles costs {:.2f} in strips of {} of what it does in {}\n",
        kernels_.strip_queries, strips_.narrow.total() / strips_.wide.total(), strips_.narrow.queries,
        strips_.wide.queries);
  }
  text += fmt::format(
      "decode: sequences of up to {} queries without dropout{}; {} kept keys in splits of {}, merged in their order\n",
      kDecodeQueries, shape().backward ? ", where lse is not asked for" : "", shape().s_kv, decode_keys);
  if (shape().backward) {
    text += fmt::format("backward: tiles of {} keys x {} queries, {} splits of the keys of a key head\n",
                        kernels_.backward_keys, kernels_.backward_queries, cuts.backward_splits);
  }
  text += fmt::format("scores: {}\n", programs_.tiles.changes_full_tiles
                                          ? "a program on every kept tile, with keeps on partial ones"
                                      : programs_.tiles.changes_partial_tiles ? "keeps on partial tiles"
                                                                              : "as they are, everything kept");
  text += fmt::format("mask: {}\n", masks_.follows_bindings()
                                        ? "analysed where calls bind something new, on which it may depend"
                                    : masks_.is_empty() ? "none"
                                                        : "analysed with the plan");
  return text;
}

std::shared_ptr<Backend> make_cpu_backend(const Variant& variant, const PlanShape& shape, const Device& device) {
  const DType kv = kv_dtype_of(shape);
  if (shape.dtype == DType::float8_e4m3 || kv == DType::float8_e4m3)
    fail(ErrorCode::unsupported, "has no products of float8_e4m3, which are for GPUs of compute capability 9.0");
  if (shape.dtype == DType::float64 || kv == DType::float64)
    fail(ErrorCode::unsupported, "computes in float32; float64 would lose half of its digits");
  const cpu::Kernels* chosen = nullptr;
  std::vector<std::string> passed_over;
  const bool of_codes = shape.dtype == DType::float32 && kv == DType::int8;
  const auto all = cpu::compiled_kernels();
  for (auto at = all.rbegin(); at != all.rend(); ++at) {  // views::reverse fails in Clang 14 with GCC 12's library
    const cpu::CompiledKernels& compiled = *at;
    const cpu::Kernels* kernels = cpu::kernels_for(compiled.isa, of_codes);
    if (kernels == nullptr) {
      passed_over.push_back(fmt::format("cpu {}: {}", to_string(compiled.isa), why_unavailable(compiled.isa)));
    } else if (compiled.isa > chosen_isa()) {
      passed_over.push_back(fmt::format("cpu {}: TILEWISE_ISA asks for {}", kernels->name, to_string(chosen_isa())));
    } else if (kernels->operand == DType::bfloat16 && (shape.dtype != DType::bfloat16 || kv != DType::bfloat16)) {
      passed_over.push_back(fmt::format("cpu {}: multiplies bfloat16, to which {} would be rounded", kernels->name,
                                        to_string(shape.dtype == DType::bfloat16 ? kv : shape.dtype)));
    } else {
      chosen = kernels;
      break;
    }
  }
  if (const int workers = device.executor().workers(); workers < 1)
    fail_argument("the executor has {} workers; expected at least 1", workers);
  auto backend = std::make_shared<CpuBackend>(variant, shape, *chosen, device.executor());
  backend->refusals = std::move(passed_over);
  return backend;
}

}  // namespace tilewise::attention
