#include "attention/worker.h"

#include <algorithm>
#include <array>

#include "attention/dropout_tile.h"
#include "variant/place.h"

namespace tilewise::attention {
namespace {

/// The least finite score: a stage's result below it was clamped, and its derivative is 0.
constexpr float kLeastScore = -0x1p126f;

const HeadHooks& hooks_of(const void* context) { return *static_cast<const HeadHooks*>(context); }

}  // namespace

cpu::TileWalk HeadHooks::tile_walk() const {
  if (worker->mask_->program.wanted.empty()) return {};
  return {[](const void* context, std::int64_t query_begin, std::int64_t query_end, std::int64_t key_begin,
             std::int64_t key_end) {
            const HeadHooks& at = hooks_of(context);
            return at.worker->span(at, query_begin, query_end, key_begin, key_end);
          },
          this};
}

cpu::ScoreProgram HeadHooks::tile_scores() const {
  const variant::VariantLanes& lanes = worker->programs_.tiles;
  if (!lanes.changes_partial_tiles) return {};
  return {[](const void* context, const cpu::ScoreBlock& block) {
            const HeadHooks& at = hooks_of(context);
            at.worker->apply(at.worker->full_, at.worker->partial_, at, block, block.stride);
          },
          this, !lanes.changes_full_tiles};
}

cpu::ScoreProgram HeadHooks::row_scores() const {
  const variant::VariantLanes& lanes = worker->programs_.rows;
  if (!lanes.changes_partial_tiles) return {};
  return {[](const void* context, const cpu::ScoreBlock& block) {
            const HeadHooks& at = hooks_of(context);
            at.worker->apply(at.worker->row_full_, at.worker->row_partial_, at, block, block.keys);
          },
          this, !lanes.changes_full_tiles};
}

cpu::AdjointHook HeadHooks::adjoint() const {
  if (!worker->programs_.has_adjoint()) return {};
  return {[](const void* context, const cpu::AdjointBlock& block) {
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
      dropout_(variant::dropout_function(programs.tiles.full.options().isa)) {
  if (programs.sink) sink_.emplace(*programs.sink, arena);
  const auto make = [&arena](const AdjointProgram& stage) {
    Adjoint adjoint{&stage, {}};
    if (stage.program) adjoint.runner.emplace(*stage.program, arena);
    return adjoint;
  };
  for (const variant::LaneProgram& stage : programs.stages) {
    stages_.emplace_back(stage, arena);
    stage_scores_.push_back(arena.take<float>(strip_floats_));
  }
  for (const AdjointProgram& stage : programs.adjoints) adjoints_.push_back(make(stage));
  if (programs.sink_adjoint) sink_adjoint_.emplace(make(*programs.sink_adjoint));
  for (std::size_t i = 0; i < programs.most_outputs; ++i) outputs_.push_back(arena.take<float>(strip_floats_));
  strips_.resize(programs.most_outputs);
}

void Worker::start(const variant::Call& call, const tiles::Mask& mask, bool is_new_mask, VariantGradients* gradients) {
  call_ = &call;
  gradients_ = gradients;
  const auto forget = [](Runner& runner) { runner.sequence = runner.head = -1; };
  for (Runner* runner : {&full_, &partial_, &row_full_, &row_partial_}) forget(*runner);
  if (sink_) forget(*sink_);
  for (Runner& stage : stages_) forget(stage);
  for (Adjoint& adjoint : adjoints_) {
    if (adjoint.runner) forget(*adjoint.runner);
  }
  if (sink_adjoint_ && sink_adjoint_->runner) forget(*sink_adjoint_->runner);
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

cpu::KeySpan Worker::span(const HeadHooks& head, std::int64_t query_begin, std::int64_t query_end,
                          std::int64_t key_begin, std::int64_t key_end) {
  const std::int64_t first = head.first_key;
  spans_->enter(head.sequence, head.head, head.walk);
  const tiles::KeySpan span = (*spans_)({query_begin, query_end, first + key_begin, first + key_end});
  return {span.begin - first, span.full_begin - first, span.full_end - first, span.end - first};
}

namespace {

Box box_of(const HeadHooks& head, const cpu::ScoreBlock& block) {
  const std::int64_t key = head.first_key + block.key_begin;
  return {block.query_begin, block.query_begin + block.queries, key, key + block.keys};
}

}  // namespace

void Worker::apply(Runner& full, Runner& partial, const HeadHooks& head, const cpu::ScoreBlock& block,
                   std::int64_t stride) {
  const variant::TileStrip scores{block.values, stride};
  enter(block.partial ? partial : full, head.sequence, head.head).run(box_of(head, block), scores, {}, {&scores, 1});
}

/// The scores that enter a stage.
const float* Worker::score_before(const HeadHooks& head, std::size_t stage, const cpu::ScoreBlock& block) {
  if (stage == 0) return block.values;
  const float* before = score_before(head, stage - 1, block);
  float* scores = stage_scores_[stage - 1];
  const variant::TileStrip from{const_cast<float*>(before), block.stride}, to{scores, block.stride};
  enter(stages_[stage - 1], head.sequence, head.head).run(box_of(head, block), from, {}, {&to, 1});
  for (std::int64_t i = 0; i < block.keys * block.stride; ++i) {
    if (scores[i] < kLeastScore) scores[i] = kLeastScore;
  }
  return scores;
}

void Worker::adjoin(const HeadHooks& head, const cpu::AdjointBlock& block) {
  const Box box = box_of(head, block.scores);
  score_before(head, adjoints_.size() - 1, block.scores);  // of every stage
  for (std::size_t stage = adjoints_.size(); stage-- > 0;) {
    const float* score = stage == 0 ? block.scores.values : stage_scores_[stage - 1];
    run_adjoint(adjoints_[stage], head.sequence, head.head, box, score, block.d_scores, block.scores.stride);
  }
}

/// Takes the seed to the gradient of the stage's own score, in place, and what the stage gives tables and parameters to
/// their sums.
void Worker::run_adjoint(Adjoint& adjoint, std::int64_t sequence, std::int64_t head, const Box& box, const float* score,
                         float* seed, std::int64_t stride) {
  const std::int64_t keys = box.key_end - box.key_begin, queries = box.query_end - box.query_begin;
  const variant::StageAdjoint& stage = adjoint.stage->adjoint;
  if (!adjoint.runner) return static_cast<void>(std::fill_n(seed, keys * stride, 0.0f));
  const std::size_t count = adjoint.runner->program->outputs();
  for (std::size_t i = 0; i < count; ++i) strips_[i] = {outputs_[i], stride};
  enter(*adjoint.runner, sequence, head)
      .run(box, {const_cast<float*>(score), stride}, {seed, stride}, std::span(strips_.data(), count));

  const float* result = outputs_[0];
  const auto passes = [&](float* values) {  // nothing, where the result was clamped or the entry removed
    for (std::int64_t i = 0; i < keys * stride; ++i) values[i] = result[i] < kLeastScore ? 0.0f : values[i];
  };
  std::size_t next = 1;
  float* d_score = stage.d_score == variant::kNoNode ? nullptr : outputs_[next++];
  for (const variant::TableGradient& gradient : stage.tables) {
    float* values = outputs_[next++];
    std::array<const std::int32_t*, kMaxRank> indices{};
    const std::size_t rank = stage.graph[gradient.read].operand_count;
    for (std::size_t axis = 0; axis < rank; ++axis) {
      indices[axis] = reinterpret_cast<const std::int32_t*>(outputs_[next++]);
    }
    if (gradients_ == nullptr || !gradients_->wants_table(gradient.table)) continue;
    passes(values);
    gradients_->add_to_table(gradient.table, values, std::span(indices.data(), rank), keys, queries, stride, number_);
  }
  for (const variant::ParameterGradient& gradient : stage.parameters) {
    float* values = outputs_[next++];
    if (gradients_ == nullptr || !gradients_->wants_parameter(gradient.parameter)) continue;
    passes(values);
    gradients_->add_to_parameter(gradient.parameter, values, keys, queries, stride, number_);
  }
  if (d_score == nullptr) return static_cast<void>(std::fill_n(seed, keys * stride, 0.0f));
  passes(d_score);
  std::copy_n(d_score, keys * stride, seed);
}

float Worker::sink(std::int64_t sequence, std::int64_t head) {
  float logit = 0;
  const variant::TileStrip to{&logit, 1};
  enter(*sink_, sequence, head).run({0, 1, 0, 1}, {}, {}, {&to, 1});
  return logit;
}

void Worker::differentiate_sink(std::int64_t sequence, std::int64_t head, float d_sink) {
  if (!sink_adjoint_->runner) return;
  // A sink reads no score, and its result is not clamped: it is below the least score only where its weight is 0.
  const float no_score = 0;
  run_adjoint(*sink_adjoint_, sequence, head, {0, 1, 0, 1}, &no_score, &d_sink, 1);
}

}  // namespace tilewise::attention
