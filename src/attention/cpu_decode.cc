// The forward pass of sequences with few queries: their keys are split, and the splits' results merged in their order.
#include <algorithm>
#include <array>

#include "attention/cpu_backend.h"
#include "attention/views.h"
#include "core/element.h"
#include "tiles/merge.h"

namespace tilewise::attention {
namespace {

/// Rows of a task. Query heads that share keys are computed together, since reading the keys is what costs.
constexpr std::int64_t kMostRows = 16;

class Decode {
 public:
  Decode(const CpuBackend& backend, CpuState& state, const ForwardInputs& inputs, const ForwardOutputs& outputs)
      : backend_(backend), state_(state), call_(state.call), inputs_(inputs), outputs_(outputs) {}

  /// Sequences and key heads in waves, each as many as the memory holds.
  void run() {
    start_wave();
    for (std::int64_t sequence = 0; sequence < call_.problem.b(); ++sequence) {
      const Sequence& lengths = call_.problem.sequences[static_cast<std::size_t>(sequence)];
      const cpu::Shape shape = shape_of(call_, sequence);
      const Cuts cuts = backend_.cuts_of(shape.s_q, shape.s_kv, state_.may_decode);
      if (!cuts.decodes || lengths.s_q == 0) continue;
      for (std::int64_t kv_head = 0; kv_head < call_.problem.h_kv; ++kv_head) add(sequence, kv_head, shape, cuts);
    }
    run_wave();
  }

 private:
  void start_wave() {
    state_.decode_units.clear();
    arena_ = Arena(state_.shared);
    tasks_ = 0;
  }

  void add(std::int64_t sequence, std::int64_t kv_head, const cpu::Shape& shape, const Cuts& cuts) {
    DecodeUnit unit{.sequence = sequence, .kv_head = kv_head};
    Arena measure;
    backend_.lay_out(unit, shape.s_q, cuts, shape.s_kv, measure);
    if (arena_.used() + measure.used() > static_cast<std::int64_t>(state_.shared.size())) {
      run_wave();
      start_wave();
    }
    backend_.lay_out(unit, shape.s_q, cuts, shape.s_kv, arena_);
    unit.first_task = tasks_;
    tasks_ += unit.splits * unit.chunks;
    state_.decode_units.push_back(unit);
  }

  void run_wave() {
    if (state_.decode_units.empty()) return;
    backend_.executor().parallel_for(tasks_, [this](std::int64_t task, int worker) { split(task, worker); });
    backend_.executor().parallel_for(
        static_cast<std::int64_t>(state_.decode_units.size()),
        [this](std::int64_t unit, int worker) { merge(state_.decode_units[static_cast<std::size_t>(unit)], worker); });
  }

  void split(std::int64_t task_number, int number) {
    const auto& units = state_.decode_units;
    const auto after =
        std::upper_bound(units.begin(), units.end(), task_number,
                         [](std::int64_t task, const DecodeUnit& unit) { return task < unit.first_task; });
    const DecodeUnit& unit = *(after - 1);
    const std::int64_t within = task_number - unit.first_task;
    const std::int64_t split = within / unit.chunks, first = within % unit.chunks * kMostRows;
    const auto count = static_cast<int>(std::min(kMostRows, unit.rows - first));

    Worker& worker = state_.workers[static_cast<std::size_t>(number)];
    const Sequence& lengths = call_.problem.sequences[static_cast<std::size_t>(unit.sequence)];
    const Side of_queries = query_side(call_, unit.sequence);
    std::array<HeadHooks, kMostRows> hooks;
    std::array<cpu::DecodeRow, kMostRows> rows;
    for (int i = 0; i < count; ++i) {
      const std::int64_t row = first + i, query = row % lengths.s_q;
      const std::int64_t head = unit.kv_head * backend_.group() + row / lengths.s_q;
      const cpu::Rows q = rows_of(inputs_.q, of_queries, head);
      auto& hook = hooks[static_cast<std::size_t>(i)];
      hook = {&worker, unit.sequence, head, lengths.key_start, tiles::Walk::along_keys};
      rows[static_cast<std::size_t>(i)] = {static_cast<const char*>(q.data) + query * q.stride * size_of(q.dtype),
                                           query, hook.tile_walk(), hook.row_scores()};
    }

    cpu::DecodeTask task;
    task.shape = shape_of(call_, unit.sequence);
    const std::int64_t keys = backend_.cuts_of(lengths.s_q, task.shape.s_kv, state_.may_decode).decode_keys;
    task.key_begin = split * keys;
    task.key_end = std::min(task.key_begin + keys, task.shape.s_kv);
    task.q_dtype = inputs_.q.dtype;
    task.rows = rows.data();
    task.row_count = count;
    task.k = source_of(inputs_.k, inputs_.k_scales, call_, unit.sequence, unit.kv_head);
    task.v = source_of(inputs_.v, inputs_.v_scales, call_, unit.sequence, unit.kv_head);
    task.scale = static_cast<float>(call_.scale);
    task.o = unit.o + (split * unit.rows + first) * call_.d_v;
    task.lse = unit.lse + split * unit.rows + first;
    task.workspace = state_.kernel_memory[static_cast<std::size_t>(number)];
    backend_.kernels().decode(task);
  }

  void merge(const DecodeUnit& unit, int number) {
    Worker& worker = state_.workers[static_cast<std::size_t>(number)];
    const Sequence& lengths = call_.problem.sequences[static_cast<std::size_t>(unit.sequence)];
    const Side side = query_side(call_, unit.sequence);
    for (std::int64_t row = 0; row < unit.rows; ++row) {
      const std::int64_t query = row % lengths.s_q, head = unit.kv_head * backend_.group() + row / lengths.s_q;
      tiles::Partial<float> all{unit.o + row * call_.d_v, unit.lse[row]};
      for (std::int64_t split = 1; split < unit.splits; ++split) {
        const std::int64_t at = split * unit.rows + row;
        tiles::merge(all, tiles::Partial<const float>{unit.o + at * call_.d_v, unit.lse[at]}, call_.d_v);
      }
      if (backend_.programs().sink) tiles::add_sink(all, worker.sink(unit.sequence, head), call_.d_v);
      store_row(side, head, query, all);
    }
  }

  void store_row(const Side& side, std::int64_t head, std::int64_t query, const tiles::Partial<float>& row) const {
    const cpu::MutableRows o = rows_of(outputs_.o, side, head);
    auto* to = static_cast<char*>(o.data) + query * o.stride * size_of(o.dtype);
    for (std::int64_t i = 0; i < call_.d_v; ++i) {
      store_real(to + i * size_of(o.dtype), o.dtype, static_cast<double>(row.o[i]));
    }
    if (!outputs_.lse) return;
    auto* lse = static_cast<char*>(first_row(*outputs_.lse, side, head));
    const DType dtype = outputs_.lse->dtype;
    store_real(lse + query * size_of(dtype), dtype, static_cast<double>(row.lse));
  }

  const CpuBackend& backend_;
  CpuState& state_;
  const variant::Call& call_;
  const ForwardInputs& inputs_;
  const ForwardOutputs& outputs_;
  Arena arena_;
  std::int64_t tasks_ = 0;
};

}  // namespace

void CpuBackend::lay_out(DecodeUnit& unit, std::int64_t s_q, const Cuts& cuts, std::int64_t s_kv, Arena& arena) const {
  unit.rows = group() * s_q;
  unit.chunks = (unit.rows + kMostRows - 1) / kMostRows;
  unit.splits = (s_kv + cuts.decode_keys - 1) / cuts.decode_keys;
  unit.o = arena.take<float>(unit.splits * unit.rows * shape().d_v);
  unit.lse = arena.take<float>(unit.splits * unit.rows);
}

void run_decode(const CpuBackend& backend, CpuState& state, const ForwardInputs& inputs,
                const ForwardOutputs& outputs) {
  Decode(backend, state, inputs, outputs).run();
}

}  // namespace tilewise::attention
