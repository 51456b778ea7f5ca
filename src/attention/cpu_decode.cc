// The forward pass of sequences with few queries: their keys are split, and the splits' results merged in their order.
#include <algorithm>
#include <array>
#include <cstring>

#include "attention/cpu_backend.h"
#include "attention/largest_scores.h"
#include "attention/views.h"
#include "core/element.h"
#include "core/round_up.h"
#include "tiles/merge.h"

namespace tilewise::attention {
namespace {

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
      if (!backend_.cuts_of(shape.s_q, shape.s_kv, state_.may_decode).decodes || lengths.s_q == 0) continue;
      DecodeUnit unit{.sequence = sequence, .splits = splits_of(sequence, lengths)};
      const std::int64_t heads = backend_.decode_heads(unit.splits.count());
      for (; unit.kv_head < call_.problem.h_kv; unit.kv_head += heads) {
        unit.kv_heads = std::min(heads, call_.problem.h_kv - unit.kv_head);
        add(unit);
      }
    }
    run_wave();
  }

 private:
  DecodeSplits splits_of(std::int64_t sequence, const Sequence& lengths) {
    // A look takes some microseconds, and one for every head would take longer than what holes cost.
    if (state_.last_mask->follows_head || state_.last_mask->program.wanted.empty())
      return split_all(lengths.s_kv - lengths.key_start, backend_.decode_rules());
    tiles::KeySpans& spans = state_.workers.front().spans();
    spans.enter(sequence, 0, tiles::Walk::along_keys);
    return split_kept(spans, {0, lengths.s_q, lengths.key_start, lengths.s_kv}, backend_.decode_rules());
  }

  void start_wave() {
    state_.decode_units.clear();
    arena_ = Arena(state_.shared);
    tasks_ = heads_ = 0;
  }

  void add(DecodeUnit unit) {
    const std::int64_t s_q = call_.problem.sequences[static_cast<std::size_t>(unit.sequence)].s_q;
    Arena measure;
    backend_.lay_out(unit, s_q, measure);
    if (arena_.used() + measure.used() > static_cast<std::int64_t>(state_.shared.size())) {
      run_wave();
      start_wave();
    }
    backend_.lay_out(unit, s_q, arena_);
    unit.first_task = tasks_;
    unit.first_head = heads_;
    heads_ += unit.kv_heads;
    tasks_ += unit.splits.count() * unit.chunks;
    state_.decode_units.push_back(unit);
  }

  void run_wave() {
    if (state_.decode_units.empty()) return;
    // What one task computes whole it also merges: of short sequences that is all, and the second round falls away.
    const auto is_whole = [](const DecodeUnit& unit) { return unit.splits.count() * unit.chunks == 1; };
    backend_.executor().parallel_for(tasks_, [&](std::int64_t task, int worker) {
      const DecodeUnit& unit = unit_of(task, &DecodeUnit::first_task);
      split(unit, task - unit.first_task, worker);
      if (!is_whole(unit)) return;
      for (std::int64_t head = 0; head < unit.kv_heads; ++head) merge(unit, head, worker);
    });
    if (std::ranges::all_of(state_.decode_units, is_whole)) return;
    backend_.executor().parallel_for(heads_, [&](std::int64_t head, int worker) {
      const DecodeUnit& unit = unit_of(head, &DecodeUnit::first_head);
      if (!is_whole(unit)) merge(unit, head - unit.first_head, worker);
    });
  }

  const DecodeUnit& unit_of(std::int64_t number, std::int64_t DecodeUnit::*first) const {
    const auto& units = state_.decode_units;
    return *(std::upper_bound(units.begin(), units.end(), number,
                              [first](std::int64_t wanted, const DecodeUnit& unit) { return wanted < unit.*first; }) -
             1);
  }

  /// A chunk of the rows of each head of a unit against one split of the keys.
  void split(const DecodeUnit& unit, std::int64_t task_number, int number) {
    const std::int64_t split = task_number / unit.chunks, first = task_number % unit.chunks * kMostDecodeRows;
    const auto count = static_cast<int>(std::min(kMostDecodeRows, unit.rows - first));
    const tiles::KeyRange keys = unit.splits.at(split);
    std::array<HeadRows, cpu::kMostDecodeTasks> heads;
    std::array<cpu::DecodeTask, cpu::kMostDecodeTasks> tasks;
    for (std::int64_t in_unit = 0; in_unit < unit.kv_heads; ++in_unit) {
      const std::int64_t kv_head = unit.kv_head + in_unit;
      HeadRows& head = heads[static_cast<std::size_t>(in_unit)];
      fill(head, unit.sequence, kv_head, first, count, number);

      cpu::DecodeTask& task = tasks[static_cast<std::size_t>(in_unit)];
      task.shape = shape_of(call_, unit.sequence);
      task.key_begin = keys.begin;
      task.key_end = keys.end;
      task.q_dtype = inputs_.q.dtype;
      task.rows = head.rows.data();
      task.row_count = count;
      task.k = source_of(inputs_.k, inputs_.k_scales, call_, unit.sequence, kv_head);
      task.v = source_of(inputs_.v, inputs_.v_scales, call_, unit.sequence, kv_head);
      task.scale = static_cast<float>(call_.scale);
      const std::int64_t row = (in_unit * unit.splits.count() + split) * unit.rows + first;
      task.o = unit.o + row * call_.d_v;
      task.lse = unit.lse + row;
      task.workspace = state_.kernel_memory[static_cast<std::size_t>(number)] +
                       in_unit * backend_.kernels().decode_floats(task.shape, count);
    }
    backend_.kernels().decode(tasks.data(), static_cast<int>(unit.kv_heads));
    if (!outputs_.max_score) return;
    for (std::int64_t in_unit = 0; in_unit < unit.kv_heads; ++in_unit) {
      const HeadRows& head = heads[static_cast<std::size_t>(in_unit)];
      for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i)
        raise_max_score(outputs_, head.hooks[i].head, head.largest[i]);
    }
  }

  /// A chunk of the rows that share a key head.
  struct HeadRows {
    std::array<HeadHooks, kMostDecodeRows> hooks;
    std::array<cpu::DecodeRow, kMostDecodeRows> rows;
    std::array<float, kMostDecodeRows> largest;  // where it is asked for
  };

  void fill(HeadRows& to, std::int64_t sequence, std::int64_t kv_head, std::int64_t first, int count, int number) {
    Worker& worker = state_.workers[static_cast<std::size_t>(number)];
    const Sequence& lengths = call_.problem.sequences[static_cast<std::size_t>(sequence)];
    const Side of_queries = query_side(call_, sequence);
    for (int i = 0; i < count; ++i) {
      const std::int64_t row = first + i, query = row % lengths.s_q;
      const std::int64_t head = kv_head * backend_.group() + row / lengths.s_q;
      const cpu::Rows q = rows_of(inputs_.q, of_queries, head);
      auto& hook = to.hooks[static_cast<std::size_t>(i)];
      float& largest = to.largest[static_cast<std::size_t>(i)];
      largest = kNoScore;
      hook = {
          &worker, sequence, head, lengths.key_start, tiles::Walk::along_keys, outputs_.max_score ? &largest : nullptr};
      to.rows[static_cast<std::size_t>(i)] = {static_cast<const char*>(q.data) + query * q.stride * size_of(q.dtype),
                                              query, hook.tile_walk(), hook.row_scores()};
    }
  }

  void merge(const DecodeUnit& unit, std::int64_t in_unit, int number) {
    Worker& worker = state_.workers[static_cast<std::size_t>(number)];
    const Sequence& lengths = call_.problem.sequences[static_cast<std::size_t>(unit.sequence)];
    const Side side = query_side(call_, unit.sequence);
    const std::int64_t splits = unit.splits.count();
    for (std::int64_t row = 0; row < unit.rows; ++row) {
      const std::int64_t query = row % lengths.s_q;
      const std::int64_t head = (unit.kv_head + in_unit) * backend_.group() + row / lengths.s_q;
      const std::int64_t first = in_unit * splits * unit.rows + row;
      tiles::Partial<float> all{unit.o + first * call_.d_v, unit.lse[first]};
      for (std::int64_t split = 1; split < splits; ++split) {
        const std::int64_t at = first + split * unit.rows;
        tiles::merge(all, tiles::Partial<const float>{unit.o + at * call_.d_v, unit.lse[at]}, call_.d_v);
      }
      if (backend_.programs().sink) tiles::add_sink(all, worker.sink(unit.sequence, head), call_.d_v);
      store_row(side, head, query, all);
    }
  }

  void store_row(const Side& side, std::int64_t head, std::int64_t query, const tiles::Partial<float>& row) const {
    const cpu::MutableRows o = rows_of(outputs_.o, side, head);
    auto* to = static_cast<char*>(o.data) + query * o.stride * size_of(o.dtype);
    if (o.dtype == DType::float32) {
      std::memcpy(to, row.o, static_cast<std::size_t>(call_.d_v) * sizeof(float));
    } else {
      for (std::int64_t i = 0; i < call_.d_v; ++i) {
        store_real(to + i * size_of(o.dtype), o.dtype, static_cast<double>(row.o[i]));
      }
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
  std::int64_t tasks_ = 0, heads_ = 0;  // of the wave
};

}  // namespace

void CpuBackend::lay_out(DecodeUnit& unit, std::int64_t s_q, Arena& arena) const {
  const std::int64_t splits = unit.splits.count();
  unit.rows = group() * s_q;
  unit.chunks = ceil_div(unit.rows, kMostDecodeRows);
  unit.o = arena.take<float>(unit.kv_heads * splits * unit.rows * shape().d_v);
  unit.lse = arena.take<float>(unit.kv_heads * splits * unit.rows);
}

void run_decode(const CpuBackend& backend, CpuState& state, const ForwardInputs& inputs,
                const ForwardOutputs& outputs) {
  Decode(backend, state, inputs, outputs).run();
}

}  // namespace tilewise::attention
