// Attention by the processor's kernels: what a plan fixes, what a call prepares, and the three ways to run.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "attention/backend.h"
#include "attention/call_masks.h"
#include "attention/call_reads.h"
#include "attention/call_state.h"
#include "attention/decode_splits.h"
#include "attention/programs.h"
#include "attention/strip_choice.h"
#include "attention/variant_gradients.h"
#include "attention/worker.h"
#include "core/round_up.h"

namespace tilewise::attention {

/// Tasks that a sequence should give, however few its heads: enough to share. Forward, their number is a multiple of
/// this, so that many cores end together; each packs the values once more, which costs 1% where 16 tasks share 2048
/// queries of d 64.
inline constexpr std::int64_t kForwardTasks = 8, kBackwardTasks = 16;

/// Rows of a decode task. Query heads that share keys are computed together, since reading the keys is what costs.
inline constexpr std::int64_t kMostDecodeRows = 16;

/// Blocks of queries in a task that prepares or finishes a backward pass.
inline constexpr std::int64_t kPreparedBlocks = 1;

/// How a sequence is cut into tasks. What decides the order of sums follows from its own lengths and the heads alone,
/// so that results do not depend on threads or on the rest of a batch. Of a sequence that is decoded the splits of its
/// kept keys decide it (decode_splits.h), and not how many heads share a task.
struct Cuts {
  bool decodes = false;              // few queries: its keys are split
  std::int64_t task_queries = 0;     // of a forward task
  std::int64_t backward_splits = 1;  // of the keys, in a backward pass
  std::int64_t backward_step = 1;    // their pieces begin at multiples of so many keys
};

/// Parts of the shared memory of a decoded sequence and some of its key heads: partial results of its splits.
struct DecodeUnit {
  std::int64_t sequence = 0, kv_head = 0, kv_heads = 0;  // the first, and how many
  std::int64_t first_task = 0;                           // among the wave's: rows in chunks, times splits
  std::int64_t first_head = 0;                           // among the wave's key heads
  DecodeSplits splits;
  std::int64_t chunks = 0, rows = 0;
  float* o = nullptr;    // [kv_heads, splits, rows, d_v]; row = query head within the group * s_q + query
  float* lse = nullptr;  // [kv_heads, splits, rows]
};

/// Likewise of a backward pass.
struct BackwardUnit {
  std::int64_t sequence = 0, kv_head = 0;
  std::int64_t first_head_task = 0;  // among the wave's tasks of query heads and blocks of queries
  std::int64_t first_key_task = 0;   // and among those of splits of the keys
  std::int64_t splits = 0, step = 0, blocks = 0;
  float* prepared = nullptr;  // [group] times Kernels::prepared_floats
  float* d_q = nullptr;       // [splits, group] times Kernels::d_q_floats
  float* delta = nullptr;     // [group, s_q]
  float* lse = nullptr;       // [group, s_q]
  float* d_lse = nullptr;     // [group, s_q]
};

/// What a call of one plan works with, besides the plan: made once for a workspace, used again by each call in it.
struct CpuState final : CallState {
  variant::Call call;
  bool may_decode = false;
  ProvenReads proven_reads;
  AnalysedMask mask;                       // where it depends on what the call binds
  const tiles::Mask* last_mask = nullptr;  // of the last call: of the plan, or in `mask`
  std::vector<Worker> workers;
  std::vector<float*> kernel_memory;      // [workers]
  std::vector<HeadHooks*> hooks;          // [workers], of a backward task: [group] each
  std::vector<cpu::BackwardHead*> heads;  // likewise
  std::vector<float*> row_memory;         // [workers], s_q or d floats each
  std::vector<float*> statistics;         // [workers], maxima and sums of the rows of a task that prepares
  std::optional<VariantGradients> gradients;
  std::span<std::byte> shared;
  std::vector<std::int64_t> first_task;  // [b + 1], of the forward pass
  std::vector<DecodeUnit> decode_units;
  std::vector<BackwardUnit> backward_units;
  std::vector<float> largest;  // [workers], scratch
};

class CpuBackend final : public Backend {
 public:
  /// `kernels`: of the chosen instruction set; the plan's are these or their narrow form.
  CpuBackend(const Variant& variant, const PlanShape& shape, const cpu::Kernels& kernels, Executor& executor);

  void forward(const ForwardInputs& inputs, const ForwardOutputs& outputs, Workspace& workspace) const override;
  void backward(const ForwardInputs& inputs, const BackwardInputs& given, const BackwardOutputs& outputs,
                Workspace& workspace) const override;
  std::int64_t workspace_bytes() const override { return workspace_bytes_; }
  std::int64_t touched_bytes() const override;
  std::string instruction_set() const override { return kernels_.name; }
  std::string explain() const override;

  const cpu::Kernels& kernels() const { return kernels_; }
  Executor& executor() const { return executor_; }
  const Programs& programs() const { return programs_; }
  std::int64_t group() const { return shape().h_q / shape().h_kv; }

  /// `may_decode`: the call is one that decoding serves.
  Cuts cuts_of(std::int64_t s_q, std::int64_t s_kv, bool may_decode) const;

  /// Whether key tiles of a backward pass read rows of queries where they lie.
  bool reads_rows() const { return strips_.visits_few_keys; }

  SplitRules decode_rules() const;
  /// Key heads of a decode task of sequences that have so many splits.
  std::int64_t decode_heads(std::int64_t splits) const;

  /// A unit's memory, or how much it needs.
  void lay_out(DecodeUnit& unit, std::int64_t s_q, Arena& arena) const;
  void lay_out(BackwardUnit& unit, std::int64_t s_q, std::int64_t s_kv, const Cuts& cuts, Arena& arena) const;

 private:
  void take_memory(Arena& arena, CpuState& state) const;
  void mark_touched(const Problem& problem, const Cuts& cuts, std::int64_t sequence, std::int64_t kv_head,
                    std::int64_t strips, std::vector<bool>& touched) const;
  CpuState& state_in(Workspace& workspace) const;
  void start(CpuState& state, VariantGradients* gradients) const;
  std::int64_t shared_bytes() const;

  CallMasks masks_;
  StripChoice strips_;
  const cpu::Kernels& kernels_;  // of strips_
  Executor& executor_;
  Programs programs_;
  CallReads reads_;
  std::int64_t workspace_bytes_ = 0;
};

/// The keys of a backward split: one piece from either end. Under a causal mask the work of a key falls evenly from the
/// first to the last, and all splits have the same. Pieces begin at multiples of `step`; the steps of two splits differ
/// by one at most. visit(first key, end).
template <class Visit>
void for_pieces_of_split(std::int64_t s_kv, std::int64_t step, std::int64_t splits, std::int64_t split,
                         const Visit& visit) {
  const std::int64_t steps = ceil_div(s_kv, step);
  const auto from_front = [&](std::int64_t of) { return steps * of / (2 * splits); };  // of the splits before it
  const auto from_back = [&](std::int64_t of) { return steps * of / splits - from_front(of); };
  const auto key = [&](std::int64_t at) { return std::min(at * step, s_kv); };
  visit(key(from_front(split)), key(from_front(split + 1)));
  visit(key(steps - from_back(split + 1)), key(steps - from_back(split)));
}

/// The forward pass of the sequences that are not decoded, and of those that are.
void run_forward(const CpuBackend& backend, CpuState& state, const ForwardInputs& inputs,
                 const ForwardOutputs& outputs);
void run_decode(const CpuBackend& backend, CpuState& state, const ForwardInputs& inputs, const ForwardOutputs& outputs);
void run_backward(const CpuBackend& backend, CpuState& state, const ForwardInputs& inputs, const BackwardInputs& given,
                  const BackwardOutputs& outputs);

/// Lengths of a sequence without the keys that do not exist.
inline cpu::Shape shape_of(const variant::Call& call, std::int64_t sequence) {
  const Sequence& lengths = call.problem.sequences[static_cast<std::size_t>(sequence)];
  return {lengths.s_q, lengths.s_kv - lengths.key_start, static_cast<int>(call.d_qk), static_cast<int>(call.d_v)};
}

}  // namespace tilewise::attention
