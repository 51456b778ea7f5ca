// The backward pass: query heads are prepared, then keys are split into tasks that leave d_k, d_v and partial sums of
// d_q, which are added up in the splits' order.
#include <algorithm>
#include <array>
#include <cmath>
#include <new>
#include <vector>

#include "attention/cpu_backend.h"
#include "attention/views.h"
#include "core/element.h"
#include "core/round_up.h"

namespace tilewise::attention {
namespace {

class Backward {
 public:
  Backward(const CpuBackend& backend, CpuState& state, const ForwardInputs& inputs, const BackwardInputs& given,
           const BackwardOutputs& outputs)
      : backend_(backend),
        kernels_(backend.kernels()),
        state_(state),
        call_(state.call),
        inputs_(inputs),
        given_(given),
        outputs_(outputs),
        gradients_(*state.gradients) {}

  void run() {
    if (!gradients_.any_wanted()) return pass();
    if (gradients_.any_summed()) gradients_.guess(usual_exponent());
    do {
      gradients_.clear();
      pass();
    } while (!gradients_.settle());
    gradients_.store(backend_.variant(), outputs_);
  }

 private:
  std::int64_t group() const { return backend_.group(); }
  const Sequence& lengths_of(std::int64_t sequence) const {
    return call_.problem.sequences[static_cast<std::size_t>(sequence)];
  }

  /// A bound of the gradients of scores, less some slack: they are sums of d_v products of elements of d_o and v.
  int usual_exponent() {
    std::ranges::fill(state_.largest, 0.0f);
    backend_.executor().parallel_for(call_.problem.b() * call_.problem.h_q, [this](std::int64_t at, int worker) {
      const std::int64_t sequence = at / call_.problem.h_q, head = at % call_.problem.h_q;
      const Side side = query_side(call_, sequence);
      const cpu::Rows d_o = rows_of(given_.d_o, side, head);
      float& largest = state_.largest[static_cast<std::size_t>(worker)];
      const auto look = [&largest](const void* element, DType dtype) {
        const auto magnitude = static_cast<float>(std::fabs(load_real(element, dtype)));
        if (std::isfinite(magnitude)) largest = std::max(largest, magnitude);
      };
      for (std::int64_t row = 0; row < lengths_of(sequence).s_q; ++row) {
        const auto* elements = static_cast<const char*>(d_o.data) + row * d_o.stride * size_of(d_o.dtype);
        for (std::int64_t i = 0; i < call_.d_v; ++i) look(elements + i * size_of(d_o.dtype), d_o.dtype);
        if (!given_.d_lse) continue;
        const auto* d_lse = static_cast<const char*>(first_row(*given_.d_lse, side, head));
        look(d_lse + row * size_of(given_.d_lse->dtype), given_.d_lse->dtype);
      }
    });
    const float largest = *std::ranges::max_element(state_.largest);
    constexpr int kRoom = 16;  // for v, d_v and the variant's derivative
    return largest == 0 ? kRoom : std::ilogb(largest) + kRoom;
  }

  /// Sequences and key heads in waves, each as many as the memory holds.
  void pass() {
    start_wave();
    for (std::int64_t sequence = 0; sequence < call_.problem.b(); ++sequence) {
      for (std::int64_t kv_head = 0; kv_head < call_.problem.h_kv; ++kv_head) add(sequence, kv_head);
    }
    run_wave();
  }

  void start_wave() {
    state_.backward_units.clear();
    arena_ = Arena(state_.shared);
    head_tasks_ = key_tasks_ = 0;
  }

  void add(std::int64_t sequence, std::int64_t kv_head) {
    const cpu::Shape shape = shape_of(call_, sequence);
    const Cuts cuts = backend_.cuts_of(shape.s_q, shape.s_kv, false);
    BackwardUnit unit{.sequence = sequence, .kv_head = kv_head};
    Arena measure;
    backend_.lay_out(unit, shape.s_q, shape.s_kv, cuts, measure);
    if (arena_.used() + measure.used() > static_cast<std::int64_t>(state_.shared.size())) {
      run_wave();
      start_wave();
    }
    backend_.lay_out(unit, shape.s_q, shape.s_kv, cuts, arena_);
    unit.first_head_task = head_tasks_;
    unit.first_key_task = key_tasks_;
    head_tasks_ += group() * unit.blocks;
    key_tasks_ += unit.splits;
    state_.backward_units.push_back(unit);
  }

  void run_wave() {
    if (state_.backward_units.empty()) return;
    Executor& executor = backend_.executor();
    executor.parallel_for(head_tasks_, [this](std::int64_t task, int worker) {
      const BackwardUnit& unit = unit_of(task, &BackwardUnit::first_head_task);
      prepare(unit, task - unit.first_head_task, worker);
    });
    executor.parallel_for(key_tasks_, [this](std::int64_t task, int worker) {
      const BackwardUnit& unit = unit_of(task, &BackwardUnit::first_key_task);
      differentiate(unit, task - unit.first_key_task, worker);
    });
    executor.parallel_for(head_tasks_, [this](std::int64_t task, int worker) {
      const BackwardUnit& unit = unit_of(task, &BackwardUnit::first_head_task);
      finish(unit, task - unit.first_head_task, worker);
    });
  }

  const BackwardUnit& unit_of(std::int64_t task, std::int64_t BackwardUnit::*first) const {
    const auto& units = state_.backward_units;
    return *(std::upper_bound(units.begin(), units.end(), task,
                              [first](std::int64_t wanted, const BackwardUnit& unit) { return wanted < unit.*first; }) -
             1);
  }

  /// The queries of a head task.
  struct Queries {
    std::int64_t in_group, head, begin, end;
  };
  Queries queries_of(const BackwardUnit& unit, std::int64_t task) const {
    const std::int64_t step = kPreparedBlocks * kernels_.backward_queries, in_group = task / unit.blocks;
    const std::int64_t begin = task % unit.blocks * step;
    return {in_group, unit.kv_head * group() + in_group, begin, std::min(begin + step, lengths_of(unit.sequence).s_q)};
  }

  void prepare(const BackwardUnit& unit, std::int64_t task_number, int number) {
    const auto [in_group, head, begin, end] = queries_of(unit, task_number);
    if (begin >= end) return;  // a sequence without queries still has its task, which sums up d_sink
    const std::int64_t s_q = lengths_of(unit.sequence).s_q;
    const Side side = query_side(call_, unit.sequence);
    const HeadHooks hooks{&state_.workers[static_cast<std::size_t>(number)], unit.sequence, head,
                          lengths_of(unit.sequence).key_start, tiles::Walk::along_keys};
    // Clang 14 does not capture structured bindings by themselves.
    const auto as_floats = [&, first = begin, last = end, of = head](const ConstTensor& tensor, float* to) {
      const auto* from = static_cast<const char*>(first_row(tensor, side, of));
      const std::int64_t bytes = size_of(tensor.dtype);
      for (std::int64_t i = first; i < last; ++i) to[i] = static_cast<float>(load_real(from + i * bytes, tensor.dtype));
      return to;
    };

    cpu::PrepareTask task;
    task.shape = shape_of(call_, unit.sequence);
    task.query_begin = begin;
    task.query_end = end;
    task.q = rows_of(inputs_.q, side, head);
    task.o = rows_of(*given_.o, side, head);
    task.d_o = rows_of(given_.d_o, side, head);
    task.lse = as_floats(*given_.lse, unit.lse + in_group * s_q);
    if (given_.d_lse) task.d_lse = as_floats(*given_.d_lse, unit.d_lse + in_group * s_q);
    task.scale = static_cast<float>(call_.scale);
    task.reads_rows = backend_.reads_rows();
    task.score = hooks.tile_scores();
    task.delta = unit.delta + in_group * s_q;
    task.prepared = unit.prepared + in_group * kernels_.prepared_floats(task.shape);
    const bool has_large = std::any_of(task.lse + begin, task.lse + end, [](float lse) {
      return std::isfinite(lse) && std::fabs(lse) >= cpu::kLargeLse;
    });
    if (has_large) find_statistics(unit, hooks, task, number);
    kernels_.prepare(task);
  }

  /// Runs the forward pass of a task's queries once more, for what lse is too short to hold.
  void find_statistics(const BackwardUnit& unit, const HeadHooks& hooks, cpu::PrepareTask& to, int number) {
    const auto worker = static_cast<std::size_t>(number);
    const Side side = key_side(call_, unit.sequence);
    const float sink = backend_.programs().sink ? state_.workers[worker].sink(hooks.sequence, hooks.head) : 0;
    cpu::ForwardTask task;
    task.shape = to.shape;
    task.q = to.q;
    task.k = {rows_of(inputs_.k, side, unit.kv_head)};
    task.v = {rows_of(inputs_.v, side, unit.kv_head)};
    task.o = {state_.row_memory[worker], 0, DType::float32};  // every row in the same place
    task.scale = to.scale;
    task.sink = backend_.programs().sink ? &sink : nullptr;
    task.walk = hooks.tile_walk();
    task.score = to.score;
    task.workspace = state_.kernel_memory[worker];
    float* maximum = state_.statistics[worker];
    float* sum = maximum + kPreparedBlocks * kernels_.backward_queries;
    to.maximum = maximum;
    to.sum = sum;
    for (std::int64_t begin = to.query_begin; begin < to.query_end; begin += kernels_.tile_queries) {
      task.query_begin = begin;
      task.query_end = std::min(begin + kernels_.tile_queries, to.query_end);
      task.maximum = maximum + (begin - to.query_begin);
      task.sum = sum + (begin - to.query_begin);
      kernels_.forward(task);
    }
  }

  void differentiate(const BackwardUnit& unit, std::int64_t split, int number) {
    const Sequence& lengths = lengths_of(unit.sequence);
    const cpu::Shape shape = shape_of(call_, unit.sequence);
    const Side side = key_side(call_, unit.sequence);
    const std::int64_t prepared = kernels_.prepared_floats(shape), d_q = kernels_.d_q_floats(shape);
    HeadHooks* hooks = state_.hooks[static_cast<std::size_t>(number)];
    cpu::BackwardHead* heads = state_.heads[static_cast<std::size_t>(number)];
    for (std::int64_t i = 0; i < group(); ++i) {
      HeadHooks& hook =
          *new (hooks + i) HeadHooks{&state_.workers[static_cast<std::size_t>(number)], unit.sequence,
                                     unit.kv_head * group() + i, lengths.key_start, tiles::Walk::along_queries};
      float* partial = unit.d_q + (split * group() + i) * d_q;
      std::fill_n(partial, kernels_.d_q_flags(shape), 0.0f);
      const Side of_queries = query_side(call_, unit.sequence);
      new (heads + i) cpu::BackwardHead{.prepared = unit.prepared + i * prepared,
                                        .q = rows_of(inputs_.q, of_queries, hook.head),
                                        .d_o = rows_of(given_.d_o, of_queries, hook.head),
                                        .d_q = partial,
                                        .walk = hook.tile_walk(),
                                        .score = hook.tile_scores(),
                                        .adjoint = hook.adjoint(),
                                        .dropout = hook.dropout()};
    }

    cpu::BackwardTask task;
    task.shape = shape;
    task.k = rows_of(inputs_.k, side, unit.kv_head);
    task.v = rows_of(inputs_.v, side, unit.kv_head);
    task.d_k = key_gradient(outputs_.d_k, inputs_.k.dtype, unit, number);
    task.d_v = key_gradient(outputs_.d_v, inputs_.v.dtype, unit, number);
    task.scale = static_cast<float>(call_.scale);
    task.heads = heads;
    task.head_count = static_cast<int>(group());
    task.workspace = state_.kernel_memory[static_cast<std::size_t>(number)];
    for_pieces_of_split(shape.s_kv, unit.step, unit.splits, split, [&](std::int64_t begin, std::int64_t end) {
      task.key_begin = begin;
      task.key_end = end;
      if (begin < end) kernels_.backward(task);
    });
    if (split == 0) clear_absent_keys(unit);
  }

  /// Where d_k or d_v goes; where it is not asked for, every row lands in the same place.
  cpu::MutableRows key_gradient(const std::optional<Tensor>& tensor, DType dtype, const BackwardUnit& unit,
                                int number) const {
    if (!tensor) return {state_.row_memory[static_cast<std::size_t>(number)], 0, dtype};
    return rows_of(*tensor, key_side(call_, unit.sequence), unit.kv_head);
  }

  /// Gradients of keys before key_start are 0.
  void clear_absent_keys(const BackwardUnit& unit) const {
    for (const std::optional<Tensor>* tensor : {&outputs_.d_k, &outputs_.d_v}) {
      if (!*tensor) continue;
      const cpu::MutableRows rows = rows_of(**tensor, key_side(call_, unit.sequence, false), unit.kv_head);
      const std::int64_t bytes = size_of(rows.dtype),
                         width = (*tensor)->extents[static_cast<std::size_t>((*tensor)->rank - 1)];
      for (std::int64_t row = 0; row < lengths_of(unit.sequence).key_start; ++row) {
        std::fill_n(static_cast<char*>(rows.data) + row * rows.stride * bytes, width * bytes, char{0});
      }
    }
  }

  void finish(const BackwardUnit& unit, std::int64_t task_number, int worker) {
    const auto [in_group, head, begin, end] = queries_of(unit, task_number);
    if (begin == 0) differentiate_sink(unit, in_group, head, worker);
    if (!outputs_.d_q || begin >= end) return;
    cpu::FinishTask task;
    task.shape = shape_of(call_, unit.sequence);
    task.query_begin = begin;
    task.query_end = end;
    std::array<float*, kBackwardTasks> partials;
    for (std::int64_t split = 0; split < unit.splits; ++split) {
      partials[static_cast<std::size_t>(split)] =
          unit.d_q + (split * group() + in_group) * kernels_.d_q_floats(task.shape);
    }
    task.partials = partials.data();
    task.partial_count = static_cast<int>(unit.splits);
    task.scale = static_cast<float>(call_.scale);
    task.d_q = rows_of(*outputs_.d_q, query_side(call_, unit.sequence), head);
    kernels_.finish(task);
  }

  /// d(loss)/d(sink) = sum over rows of exp(sink - lse) (d_lse - rowsum(d_o * o)), the latter being -delta.
  void differentiate_sink(const BackwardUnit& unit, std::int64_t in_group, std::int64_t head, int number) {
    if (!gradients_.any_wanted() || !backend_.programs().sink_adjoint) return;
    Worker& worker = state_.workers[static_cast<std::size_t>(number)];
    const double sink = static_cast<double>(worker.sink(unit.sequence, head));
    if (std::isinf(sink) && sink < 0) return;  // a weight of 0
    const std::int64_t s_q = lengths_of(unit.sequence).s_q;
    double sum = 0;
    for (std::int64_t i = in_group * s_q; i < (in_group + 1) * s_q; ++i)
      sum -= std::exp(sink - static_cast<double>(unit.lse[i])) * static_cast<double>(unit.delta[i]);
    worker.differentiate_sink(unit.sequence, head, static_cast<float>(sum));
  }

  const CpuBackend& backend_;
  const cpu::Kernels& kernels_;
  CpuState& state_;
  const variant::Call& call_;
  const ForwardInputs& inputs_;
  const BackwardInputs& given_;
  const BackwardOutputs& outputs_;
  VariantGradients& gradients_;
  Arena arena_;
  std::int64_t head_tasks_ = 0, key_tasks_ = 0;
};

}  // namespace

void CpuBackend::lay_out(BackwardUnit& unit, std::int64_t s_q, std::int64_t s_kv, const Cuts& cuts,
                         Arena& arena) const {
  const cpu::Shape lengths{s_q, s_kv, static_cast<int>(shape().d_qk), static_cast<int>(shape().d_v)};
  unit.splits = cuts.backward_splits;
  unit.step = cuts.backward_step;
  const std::int64_t block = kPreparedBlocks * kernels_.backward_queries;
  unit.blocks = std::max<std::int64_t>(1, ceil_div(s_q, block));
  unit.prepared = arena.take<float>(group() * kernels_.prepared_floats(lengths));
  unit.d_q = arena.take<float>(unit.splits * group() * kernels_.d_q_floats(lengths));
  unit.delta = arena.take<float>(group() * s_q);
  unit.lse = arena.take<float>(group() * s_q);
  unit.d_lse = arena.take<float>(group() * s_q);
}

void run_backward(const CpuBackend& backend, CpuState& state, const ForwardInputs& inputs, const BackwardInputs& given,
                  const BackwardOutputs& outputs) {
  Backward(backend, state, inputs, given, outputs).run();
}

}  // namespace tilewise::attention
