// What one worker of a call has: its memory, and the variant's programs, moved from head to head as kernels ask.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "attention/arena.h"
#include "attention/programs.h"
#include "attention/variant_gradients.h"
#include "cpu/kernels.h"
#include "tiles/key_spans.h"
#include "variant/call.h"
#include "variant/lanes/dropout_strip.h"
#include "variant/lanes/runner.h"

namespace tilewise::attention {

class Worker;

/// One query head of a sequence as kernels see it: its keys count from the first that exists. What hooks point to.
struct HeadHooks {
  Worker* worker = nullptr;
  std::int64_t sequence = 0, head = 0;
  std::int64_t first_key = 0;  // key_start
  tiles::Walk walk = tiles::Walk::along_keys;
  float* largest = nullptr;  // raised to the largest score before the variant; null: not asked for

  cpu::TileWalk tile_walk() const;
  cpu::ScoreProgram tile_scores() const;
  cpu::ScoreProgram row_scores() const;  // for decoding
  cpu::AdjointHook adjoint() const;
  cpu::DropoutHook dropout() const;

 private:
  static void apply_to_tile(const void* context, const cpu::ScoreBlock& block);
  static void apply_to_row(const void* context, const cpu::ScoreBlock& block);
};

class Worker {
 public:
  /// Keeps references. The arena's memory may be absent, to measure; then nothing else may be called.
  Worker(const Programs& programs, const cpu::Kernels& kernels, int number, Arena& arena);

  /// Begins a call. Keeps references; `gradients` may be null. `is_new_mask`: the mask is not that of the last call,
  /// even if it lies where that lay.
  void start(const variant::Call& call, const tiles::Mask& mask, bool is_new_mask, VariantGradients* gradients);

  /// Of the call that was begun.
  tiles::KeySpans& spans() { return *spans_; }

  /// The sink's logit of a head.
  float sink(std::int64_t sequence, std::int64_t head);

  /// What the score program of a block will read of a table.
  variant::ReadLines lines_ahead(const HeadHooks& head, const cpu::ScoreBlock& block);

  /// Adds what d(loss)/d(the sink's logit) gives tables and parameters.
  void differentiate_sink(std::int64_t sequence, std::int64_t head, float d_sink);

 private:
  friend struct HeadHooks;

  /// A runner and the head that it has been moved to.
  struct Runner {
    Runner(const variant::LaneProgram& of, Arena& arena)
        : program(&of), memory(arena.take_bytes(of.workspace_bytes())) {}
    const variant::LaneProgram* program;
    std::span<std::byte> memory;
    std::optional<variant::LaneRunner> runner;
    std::int64_t sequence = -1, head = -1;
  };

  /// A backward pass's programs, ready to run.
  struct Backward {
    Backward(const variant::BackwardLanes& its_lanes, Arena& arena);
    const variant::BackwardLanes* lanes;
    Runner full, partial;
    std::optional<Runner> adjoint;
  };

  variant::LaneRunner& enter(Runner& runner, std::int64_t sequence, std::int64_t head);
  cpu::KeySpan span(const HeadHooks& head, std::int64_t query_begin, std::int64_t query_end, std::int64_t key_begin,
                    std::int64_t key_end);
  void strip_spans(const HeadHooks& head, const Box& box, std::int64_t step, cpu::KeySpan* spans);
  void note_largest(const HeadHooks& head, const cpu::ScoreBlock& block, const variant::VariantLanes& lanes,
                    void (*run)(const void* head, const cpu::ScoreBlock& block));
  void apply(Runner& full, Runner& partial, const HeadHooks& head, const cpu::ScoreBlock& block, std::int64_t stride);
  void recompute(const HeadHooks& head, const cpu::AdjointBlock& block);
  void adjoin(const HeadHooks& head, const cpu::AdjointBlock& block);
  void add_gradients(const HeadHooks& head, const cpu::AdjointBlock& block);

  const Programs& programs_;
  int number_;
  std::int64_t strip_floats_;  // of an output of an adjoint on a tile
  Runner full_, partial_, row_full_, row_partial_;
  float* products_;                   // [a block's keys and queries], scores before the variant
  variant::DropoutFunction dropout_;  // may be null
  std::optional<Runner> sink_;
  std::optional<Runner> sink_adjoint_;
  std::optional<Backward> backward_, backward_with_gradients_;
  Backward* active_ = nullptr;                       // of the call
  std::vector<float*> taken_over_;                   // [most taken over], each strip_floats_: what the adjoint is left
  std::vector<float*> outputs_;                      // [most outputs], each strip_floats_
  std::vector<variant::TileStrip> strips_, inputs_;  // [most outputs], and [1 + most taken over]
  const variant::Call* call_ = nullptr;
  const tiles::Mask* mask_ = nullptr;
  VariantGradients* gradients_ = nullptr;
  std::optional<tiles::KeySpans> spans_;
};

}  // namespace tilewise::attention
