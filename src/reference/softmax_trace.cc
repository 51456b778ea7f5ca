#include <algorithm>
#include <cmath>

#include "core/fail.h"
#include "reference/slow_problem.h"
#include "reference/softmax_statistics.h"
#include "tilewise/softmax_ladder.h"

namespace tilewise {
namespace {

using reference::Machine;
using reference::SlowProblem;
using reference::Statistics;
using reference::Tile;

/// The state after merging one block into the statistics of the blocks before.
LadderTraceBlock merge_traced(Machine& machine, Statistics& total, const Statistics& part) {
  LadderTraceBlock block;
  const float previous_maximum = total.maximum();
  merge(machine, total, part);
  block.maximum = total.maximum();
  block.rescale = std::exp(previous_maximum - total.maximum());
  block.denominator = total.denominator();
  block.numerator.assign(total.numerator().begin(), total.numerator().end());
  for (float sum : block.numerator) block.output.push_back(sum / block.denominator);
  return block;
}

/// The blocks of query i.
void trace_query(Machine& machine, const SlowProblem& problem, std::int64_t i, std::int64_t block,
                 std::vector<LadderTraceBlock>& trace) {
  const auto& [q, k, v, o] = problem;
  const Tile q_i = machine.load(q, i, 1);
  Statistics total(machine, v.columns);
  for (std::int64_t j = 0; j < k.rows; j += block) {
    const std::int64_t keys = std::min(block, k.rows - j);
    const Tile k_j = machine.load(k, j, keys), v_j = machine.load(v, j, keys);
    LadderTraceBlock state = merge_traced(machine, total, statistics_of(machine, q_i.row(0), k_j, v_j));
    state.query = i;
    state.first_key = j;
    for (std::int64_t key = 0; key < keys; ++key) state.scores.push_back(machine.dot(q_i.row(0), k_j.row(key)));
    trace.push_back(std::move(state));
  }
}

}  // namespace

std::vector<LadderTraceBlock> trace_ladder(const LadderProblem& problem, std::int64_t block) {
  if (block < 1) fail_argument("block is {}; expected at least 1 key", block);
  const SlowProblem slow = reference::to_slow_memory(problem);
  Machine machine;
  std::vector<LadderTraceBlock> trace;
  for (std::int64_t i = 0; i < slow.q.rows; ++i) trace_query(machine, slow, i, block, trace);
  return trace;
}

}  // namespace tilewise
