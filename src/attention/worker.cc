#include "attention/worker.h"

#include <algorithm>
#include <array>
#include <limits>

#include "attention/dropout_tile.h"
#include "core/round_up.h"
#include "variant/place.h"

namespace tilewise::attention {
namespace {

const HeadHooks& hooks_of(const void* context) { return *static_cast<const HeadHooks*>(context); }

}  // namespace

namespace {

cpu::ReadAhead read_ahead(const void* context, const cpu::ScoreBlock& block) {
  const HeadHooks& at = hooks_of(context);
  const variant::ReadLines lines = at.worker->lines_ahead(at, block);
  return {lines.first, lines.rows, lines.row_bytes, lines.stride_bytes};
}

}  // namespace

cpu::TileWalk HeadHooks::tile_walk() const {
  if (worker->mask_->program.wanted.empty()) return {};
  return {[](const void* context, std::int64_t query_begin, std::int64_t query_end, std::int64_t key_begin,
             std::int64_t key_end) {
            const HeadHooks& at = hooks_of(context);
            return at.worker->span(at, query_begin, query_end, key_begin, key_end);
          },
          this,
          [](const void* context, std::int64_t query_begin, std::int64_t query_end, std::int64_t step,
             std::int64_t key_begin, std::int64_t key_end, cpu::KeySpan* spans) {
            const HeadHooks& at = hooks_of(context);
            at.worker->strip_spans(at, {query_begin, query_end, key_begin, key_end}, step, spans);
          }};
}

void HeadHooks::apply_to_tile(const void* context, const cpu::ScoreBlock& block) {
  const HeadHooks& at = hooks_of(context);
  at.worker->apply(at.worker->full_, at.worker->partial_, at, block, block.stride);
}

void HeadHooks::apply_to_row(const void* context, const cpu::ScoreBlock& block) {
  const HeadHooks& at = hooks_of(context);
  at.worker->apply(at.worker->row_full_, at.worker->row_partial_, at, block, block.keys);
}

cpu::ScoreProgram HeadHooks::tile_scores() const {
  const variant::VariantLanes& lanes = worker->programs_.tiles;
  const auto ahead = lanes.full.reads_at_entries() ? read_ahead : nullptr;
  if (largest != nullptr) {
    return {[](const void* context, const cpu::ScoreBlock& block) {
              const HeadHooks& at = hooks_of(context);
              at.worker->note_largest(at, block, at.worker->programs_.tiles, apply_to_tile);
            },
            this, false, lanes.changes_partial_tiles ? ahead : nullptr};
  }
  if (!lanes.changes_partial_tiles) return {};
  return {apply_to_tile, this, !lanes.changes_full_tiles, ahead};
}

cpu::ScoreProgram HeadHooks::row_scores() const {
  const variant::VariantLanes& lanes = worker->programs_.rows;
  if (largest != nullptr) {
    return {[](const void* context, const cpu::ScoreBlock& block) {
              const HeadHooks& at = hooks_of(context);
              at.worker->note_largest(at, block, at.worker->programs_.rows, apply_to_row);
            },
            this};
  }
  if (!lanes.changes_partial_tiles) return {};
  return {apply_to_row, this, !lanes.changes_full_tiles};
}

cpu::AdjointHook HeadHooks::adjoint() const {
  if (!worker->programs_.has_adjoint()) return {};
  return {[](const void* context, const cpu::AdjointBlock& block) {
            const HeadHooks& at = hooks_of(context);
            at.worker->recompute(at, block);
          },
          [](const void* context, const cpu::AdjointBlock& block) {
            const HeadHooks& at = hooks_of(context);
            at.worker->adjoin(at, block);
          },
          this};
}

cpu::DropoutHook HeadHooks::dropout() const {
  if (!worker->call_->has_dropout()) return {};
  return {[](const void* context, const cpu::ScoreBlock& block) {
            const HeadHooks& at = hooks_of(context);
            const variant::Call& call = *at.worker->call_;
            drop_weights(call.dropout, static_cast<std::uint32_t>(at.sequence * call.problem.h_q + at.head),
                         at.first_key, block, at.worker->dropout_);
          },
          this};
}

Worker::Worker(const Programs& programs, const cpu::Kernels& kernels, int number, Arena& arena)
    : programs_(programs),
      number_(number),
      strip_floats_(std::int64_t{kernels.tile_keys} * kernels.strip_queries),
      full_(programs.tiles.full, arena),
      partial_(programs.tiles.partial, arena),
      row_full_(programs.rows.full, arena),
      row_partial_(programs.rows.partial, arena),
      products_(arena.take<float>(programs.tiles.changes_partial_tiles || programs.tiles.changes_full_tiles
                                      ? std::max(strip_floats_, std::int64_t{kernels.decode_keys})
                                      : 0)),
      dropout_(variant::dropout_function(programs.tiles.full.options().isa)) {
  if (programs.sink) sink_.emplace(*programs.sink, arena);
  if (programs.sink_adjoint && programs.sink_adjoint->program)
    sink_adjoint_.emplace(*programs.sink_adjoint->program, arena);
  if (programs.backward) backward_.emplace(*programs.backward, arena);
  if (programs.backward_with_gradients) backward_with_gradients_.emplace(*programs.backward_with_gradients, arena);
  for (std::size_t i = 0; i < programs.most_taken_over; ++i) taken_over_.push_back(arena.take<float>(strip_floats_));
  for (std::size_t i = 0; i < programs.most_outputs; ++i) outputs_.push_back(arena.take<float>(strip_floats_));
  strips_.resize(programs.most_outputs);
  inputs_.resize(1 + programs.most_taken_over);
}

Worker::Backward::Backward(const variant::BackwardLanes& its_lanes, Arena& arena)
    : lanes(&its_lanes), full(its_lanes.full, arena), partial(its_lanes.partial, arena) {
  if (its_lanes.adjoint) adjoint.emplace(*its_lanes.adjoint, arena);
}

void Worker::start(const variant::Call& call, const tiles::Mask& mask, bool is_new_mask, VariantGradients* gradients) {
  call_ = &call;
  gradients_ = gradients;
  const auto forget = [](Runner& runner) { runner.sequence = runner.head = -1; };
  for (Runner* runner : {&full_, &partial_, &row_full_, &row_partial_}) forget(*runner);
  if (sink_) forget(*sink_);
  if (sink_adjoint_) forget(*sink_adjoint_);
  active_ = nullptr;
  const bool wants_gradients = gradients != nullptr && gradients->any_wanted();
  if (backward_) active_ = wants_gradients ? &*backward_with_gradients_ : &*backward_;
  if (active_ != nullptr) {
    forget(active_->full);
    forget(active_->partial);
    if (active_->adjoint) forget(*active_->adjoint);
  }
  if (is_new_mask || !spans_) spans_.emplace(mask);
  mask_ = &mask;
  spans_->start(call.problem);
}

variant::LaneRunner& Worker::enter(Runner& runner, std::int64_t sequence, std::int64_t head) {
  if (!runner.runner) runner.runner.emplace(*runner.program, runner.memory);
  if (runner.sequence != sequence || runner.head != head) {
    runner.runner->enter(call_->bound, variant::place_of(call_->problem, sequence, head, 0, 0));
    runner.sequence = sequence;
    runner.head = head;
  }
  return *runner.runner;
}

namespace {

constexpr std::int64_t kMostStrips = 16;  // at a time

/// A span with its keys counted from the first that exists.
cpu::KeySpan counted_from(std::int64_t first, const tiles::KeySpan& span) {
  return {span.begin - first, span.full_begin - first, span.full_end - first, span.end - first};
}

}  // namespace

cpu::KeySpan Worker::span(const HeadHooks& head, std::int64_t query_begin, std::int64_t query_end,
                          std::int64_t key_begin, std::int64_t key_end) {
  const std::int64_t first = head.first_key;
  spans_->enter(head.sequence, head.head, head.walk);
  return counted_from(first, (*spans_)({query_begin, query_end, first + key_begin, first + key_end}));
}

void Worker::strip_spans(const HeadHooks& head, const Box& box, std::int64_t step, cpu::KeySpan* spans) {
  const std::int64_t first = head.first_key, strips = ceil_div(box.query_end - box.query_begin, step);
  std::array<tiles::KeySpan, kMostStrips> found;
  spans_->enter(head.sequence, head.head, head.walk);
  for (std::int64_t strip = 0; strip < strips; strip += kMostStrips) {
    const std::int64_t query = box.query_begin + strip * step;
    const std::int64_t count = std::min<std::int64_t>(kMostStrips, strips - strip);
    spans_->strips({query, std::min(query + count * step, box.query_end), first + box.key_begin, first + box.key_end},
                   step, found.data());
    for (std::int64_t i = 0; i < count; ++i) spans[strip + i] = counted_from(first, found[static_cast<std::size_t>(i)]);
  }
}

namespace {

Box box_of(const HeadHooks& head, const cpu::ScoreBlock& block) {
  const std::int64_t key = head.first_key + block.key_begin;
  return {block.query_begin, block.query_begin + block.queries, key, key + block.keys};
}

}  // namespace

/// Applies the variant to a block, and raises the head's largest score to that of the entries that are left.
void Worker::note_largest(const HeadHooks& head, const cpu::ScoreBlock& block, const variant::VariantLanes& lanes,
                          void (*run)(const void* head, const cpu::ScoreBlock& block)) {
  constexpr float kRemoved = -std::numeric_limits<float>::infinity();
  const auto value = [&](int key, int query) { return block.values[key * block.stride + query]; };
  const bool changes = block.partial ? lanes.changes_partial_tiles : lanes.changes_full_tiles;
  if (changes) {
    for (int key = 0; key < block.keys; ++key)
      std::copy_n(&block.values[key * block.stride], block.queries, products_ + std::int64_t{key} * block.queries);
    run(&head, block);
  }
  float largest = *head.largest;
  for (int key = 0; key < block.keys; ++key) {
    for (int query = 0; query < block.queries; ++query) {
      const float product = changes ? products_[std::int64_t{key} * block.queries + query] : value(key, query);
      if (value(key, query) != kRemoved && product > largest) largest = product;
    }
  }
  *head.largest = largest;
}

void Worker::apply(Runner& full, Runner& partial, const HeadHooks& head, const cpu::ScoreBlock& block,
                   std::int64_t stride) {
  const variant::TileStrip scores{block.values, stride};
  enter(block.partial ? partial : full, head.sequence, head.head).run(box_of(head, block), scores, {}, {&scores, 1});
}

variant::ReadLines Worker::lines_ahead(const HeadHooks& head, const cpu::ScoreBlock& block) {
  return enter(block.partial ? partial_ : full_, head.sequence, head.head).lines_ahead(box_of(head, block));
}

/// The variant's scores, and what its adjoint takes over.
void Worker::recompute(const HeadHooks& head, const cpu::AdjointBlock& block) {
  const std::int64_t stride = block.scores.stride;
  Runner& runner = block.scores.partial ? active_->partial : active_->full;
  const std::size_t count = runner.program->outputs();
  inputs_[0] = {block.results, stride};
  for (std::size_t i = 1; i < count; ++i) inputs_[i] = {taken_over_[i - 1] + block.row * stride, stride};
  enter(runner, head.sequence, head.head)
      .run(box_of(head, block.scores), {block.scores.values, stride}, {}, std::span(inputs_.data(), count));
}

/// Takes d_scores to the gradient of the scores before the variant, in place, and what entries give tables and
/// parameters to their sums.
void Worker::adjoin(const HeadHooks& head, const cpu::AdjointBlock& block) {
  const variant::BackwardLanes& lanes = *active_->lanes;
  const std::int64_t stride = block.scores.stride, keys = block.scores.keys, queries = block.scores.queries;
  const variant::TileStrip seed{block.d_scores, block.d_stride};
  const bool in_place = lanes.adjoint && lanes.adjoint->outputs() == 1 && lanes.gradients.empty();
  if (lanes.adjoint) {
    const std::size_t count = lanes.adjoint->outputs(), taken = lanes.full.outputs() - 1;
    for (std::size_t i = 0; i < count; ++i) strips_[i] = in_place ? seed : variant::TileStrip{outputs_[i], stride};
    for (std::size_t i = 0; i < taken; ++i) inputs_[i] = {taken_over_[i], stride};
    enter(*active_->adjoint, head.sequence, head.head)
        .run(box_of(head, block.scores), {block.scores.values, stride}, seed, std::span(strips_.data(), count),
             std::span(inputs_.data(), taken));
    add_gradients(head, block);
  }
  using DScore = variant::BackwardLanes::DScore;
  if (lanes.d_score == DScore::seed || in_place) return;
  for (std::int64_t key = 0; key < keys; ++key) {
    float* row = block.d_scores + key * block.d_stride;
    if (lanes.d_score == DScore::zero) {
      std::fill_n(row, queries, 0.0f);
    } else {
      std::copy_n(outputs_[0] + key * stride, queries, row);
    }
  }
}

void Worker::add_gradients(const HeadHooks& head, const cpu::AdjointBlock& block) {
  const variant::BackwardLanes& lanes = *active_->lanes;
  for (const variant::EntryGradient& gradient : lanes.gradients) {
    if (!gradients_->wants(gradient)) continue;
    GradientTile tile{
        .values = block.d_scores, .stride = block.d_stride, .keys = block.scores.keys, .queries = block.scores.queries};
    if (gradient.value) {
      tile.values = outputs_[*gradient.value];
      tile.stride = block.scores.stride;
    }
    for (std::size_t axis = 0; axis < gradient.indices.size(); ++axis) {
      const variant::GradientIndex& index = gradient.indices[axis];
      tile.indices[axis] = {index.hoist,
                            index.hoist == variant::Hoist::entry
                                ? reinterpret_cast<const std::int32_t*>(outputs_[index.place])
                                : active_->adjoint->runner->strip(index.place),
                            block.scores.stride};
    }
    gradients_->add(gradient, tile, number_);
  }
  static_cast<void>(head);
}

float Worker::sink(std::int64_t sequence, std::int64_t head) {
  float logit = 0;
  const variant::TileStrip to{&logit, 1};
  enter(*sink_, sequence, head).run({0, 1, 0, 1}, {}, {}, {&to, 1});
  return logit;
}

void Worker::differentiate_sink(std::int64_t sequence, std::int64_t head, float d_sink) {
  if (!sink_adjoint_) return;
  const variant::StageAdjoint& adjoint = programs_.sink_adjoint->adjoint;
  const std::size_t count = sink_adjoint_->program->outputs();
  for (std::size_t i = 0; i < count; ++i) strips_[i] = {outputs_[i], 1};
  // A sink reads no score, and its result is not clamped.
  float no_score = 0;
  enter(*sink_adjoint_, sequence, head)
      .run({0, 1, 0, 1}, {&no_score, 1}, {&d_sink, 1}, std::span(strips_.data(), count));
  std::size_t next = 0;
  const auto add = [&](bool is_table, std::int32_t slot, std::size_t axes) {
    GradientTile tile{.values = outputs_[next++], .stride = 1, .keys = 1, .queries = 1};
    for (std::size_t axis = 0; axis < axes; ++axis)
      tile.indices[axis] = {variant::Hoist::uniform, reinterpret_cast<const std::int32_t*>(outputs_[next++]), 1};
    const variant::EntryGradient gradient{
        .is_table = is_table, .slot = slot, .hoist = variant::Hoist::uniform, .value = {}, .indices = {}};
    if (gradients_ != nullptr && gradients_->wants(gradient)) gradients_->add(gradient, tile, number_);
  };
  for (const variant::TableGradient& gradient : adjoint.tables)
    add(true, gradient.table, adjoint.graph[gradient.read].operand_count);
  for (const variant::ParameterGradient& gradient : adjoint.parameters) add(false, gradient.parameter, 0);
}

}  // namespace tilewise::attention
