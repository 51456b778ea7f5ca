// The forward pass of sequences with many queries: one task for each head and tile of queries.
#include <algorithm>

#include "attention/cpu_backend.h"
#include "attention/largest_scores.h"
#include "attention/views.h"
#include "core/element.h"
#include "core/round_up.h"

namespace tilewise::attention {
namespace {

class Forward {
 public:
  Forward(const CpuBackend& backend, CpuState& state, const ForwardInputs& inputs, const ForwardOutputs& outputs)
      : backend_(backend), state_(state), call_(state.call), inputs_(inputs), outputs_(outputs) {}

  void run() {
    state_.first_task.assign(1, 0);
    for (const Sequence& sequence : call_.problem.sequences)
      state_.first_task.push_back(state_.first_task.back() + tiles_of(sequence) * call_.problem.h_q);
    backend_.executor().parallel_for(state_.first_task.back(),
                                     [this](std::int64_t task, int worker) { tile(task, worker); });
  }

 private:
  Cuts cuts_of(const Sequence& sequence) const {
    return backend_.cuts_of(sequence.s_q, sequence.s_kv - sequence.key_start, state_.may_decode);
  }

  std::int64_t tiles_of(const Sequence& sequence) const {
    const Cuts cuts = cuts_of(sequence);
    return cuts.decodes || sequence.s_q == 0 ? 0 : ceil_div(sequence.s_q, cuts.task_queries);
  }

  void tile(std::int64_t task, int worker) {
    const auto& first = state_.first_task;
    const std::int64_t sequence = std::upper_bound(first.begin(), first.end(), task) - first.begin() - 1;
    const Sequence& lengths = call_.problem.sequences[static_cast<std::size_t>(sequence)];
    const std::int64_t tiles = tiles_of(lengths), within = task - first[static_cast<std::size_t>(sequence)];
    // The last tile comes first: where attention is causal it has the most to do.
    compute(sequence, lengths, within / tiles, tiles - 1 - within % tiles, worker);
  }

  void compute(std::int64_t sequence, const Sequence& lengths, std::int64_t head, std::int64_t tile, int number) {
    Worker& worker = state_.workers[static_cast<std::size_t>(number)];
    const std::int64_t kv_head = head / backend_.group(), queries = cuts_of(lengths).task_queries;
    const Side of_queries = query_side(call_, sequence);
    float largest = kNoScore;
    const HeadHooks hooks{
        &worker, sequence, head, lengths.key_start, tiles::Walk::along_keys, outputs_.max_score ? &largest : nullptr};
    const float sink = backend_.programs().sink ? worker.sink(sequence, head) : 0;

    cpu::ForwardTask task;
    task.shape = shape_of(call_, sequence);
    task.query_begin = tile * queries;
    task.query_end = std::min(task.query_begin + queries, lengths.s_q);
    task.q = rows_of(inputs_.q, of_queries, head);
    task.k = source_of(inputs_.k, inputs_.k_scales, call_, sequence, kv_head);
    task.v = source_of(inputs_.v, inputs_.v_scales, call_, sequence, kv_head);
    task.o = rows_of(outputs_.o, of_queries, head);
    task.scale = static_cast<float>(call_.scale);
    task.sink = backend_.programs().sink ? &sink : nullptr;
    task.walk = hooks.tile_walk();
    task.score = hooks.tile_scores();
    task.dropout = hooks.dropout();
    task.workspace = state_.kernel_memory[static_cast<std::size_t>(number)];
    const bool is_float = outputs_.lse && outputs_.lse->dtype == DType::float32;
    if (outputs_.lse) {
      task.lse = is_float ? static_cast<float*>(first_row(*outputs_.lse, of_queries, head))
                          : state_.row_memory[static_cast<std::size_t>(number)];
    }
    backend_.kernels().forward(task);
    if (outputs_.max_score) raise_max_score(outputs_, head, largest);
    if (!outputs_.lse || is_float) return;
    auto* lse = static_cast<double*>(first_row(*outputs_.lse, of_queries, head));
    for (std::int64_t i = task.query_begin; i < task.query_end; ++i) lse[i] = static_cast<double>(task.lse[i]);
  }

  const CpuBackend& backend_;
  CpuState& state_;
  const variant::Call& call_;
  const ForwardInputs& inputs_;
  const ForwardOutputs& outputs_;
};

}  // namespace

void run_forward(const CpuBackend& backend, CpuState& state, const ForwardInputs& inputs,
                 const ForwardOutputs& outputs) {
  Forward(backend, state, inputs, outputs).run();
}

}  // namespace tilewise::attention
