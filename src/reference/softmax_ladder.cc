#include "tilewise/softmax_ladder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/fail.h"
#include "reference/softmax_ladder_steps.h"

namespace tilewise {
namespace {

using reference::Machine;
using reference::SlowProblem;
using reference::Tile;

/// Indexed by LadderStep's values.
constexpr auto kSteps = std::to_array<LadderStepInfo>({
    {LadderStep::plain_sums, "plain_sums", "sums of exp(score): one pass, overflows for scores above 88.7",
     "the definition of softmax"},
    {LadderStep::maximum_first, "maximum_first", "maximum, then sums: never overflows, keys and scores twice",
     "folklore (\"safe softmax\")"},
    {LadderStep::online, "online", "running maximum, sums rescaled to it: one pass, an extra exponential a key",
     "Milakov and Gimelshein, Online normalizer calculation for softmax, 2018"},
    {LadderStep::chunks, "chunks", "statistics of chunks, merged: rescaling a chunk instead of a key",
     "Rabe and Staats, Self-attention does not need O(n^2) memory, 2021"},
    {LadderStep::tiled, "tiled", "chunks shared by a tile of queries: keys and values read once a tile",
     "Dao, Fu, Ermon, Rudra and Re, FlashAttention, 2022"},
});

/// Row i of softmax(q k^T) v in float64.
void truth_row(const SlowProblem& problem, std::int64_t i, std::span<double> o) {
  const auto& [q, k, v, unused] = problem;
  std::vector<double> weights(static_cast<std::size_t>(k.rows));
  for (std::int64_t j = 0; j < k.rows; ++j) {
    for (std::int64_t c = 0; c < k.columns; ++c) {
      weights[j] += double{q.values[i * q.columns + c]} * double{k.values[j * k.columns + c]};
    }
  }
  const double maximum = *std::max_element(weights.begin(), weights.end());
  double denominator = 0;
  for (double& weight : weights) denominator += weight = std::exp(weight - maximum);
  for (std::int64_t j = 0; j < k.rows; ++j) {
    for (std::int64_t c = 0; c < v.columns; ++c) o[c] += weights[j] / denominator * double{v.values[j * v.columns + c]};
  }
}

std::vector<double> truth(const SlowProblem& problem) {
  const auto columns = static_cast<std::size_t>(problem.o.columns);
  std::vector<double> o(problem.o.values.size());
  if (problem.k.rows == 0) return o;
  for (std::int64_t i = 0; i < problem.o.rows; ++i) truth_row(problem, i, std::span(o).subspan(i * columns, columns));
  return o;
}

/// Without keys there is nothing to divide by: a row that keeps nothing is 0.
void run_no_keys(Machine& machine, SlowProblem& problem) {
  for (std::int64_t i = 0; i < problem.o.rows; ++i) {
    machine.store(problem.o, i, Tile(machine, 1, problem.o.columns).row(0));
  }
}

void run(LadderStep step, Machine& machine, SlowProblem& problem, const LadderOptions& options) {
  const reference::TileShape tile = choose_tile(problem, options);
  if (problem.k.rows == 0) return run_no_keys(machine, problem);
  switch (step) {
    case LadderStep::plain_sums: return run_plain_sums(machine, problem);
    case LadderStep::maximum_first: return run_maximum_first(machine, problem);
    case LadderStep::online: return run_online(machine, problem);
    case LadderStep::chunks: return run_chunks(machine, problem, tile.keys);
    case LadderStep::tiled: return run_tiled(machine, problem, tile);
  }
  fail_argument("step has the value {}, which is none of LadderStep's", static_cast<int>(step));
}

LadderResult run_and_compare(LadderStep step, SlowProblem problem, const std::vector<double>& expected,
                             const LadderOptions& options) {
  Machine machine;
  run(step, machine, problem, options);
  LadderResult result;
  result.step = step;
  result.counts = machine.counts();
  result.o = std::move(problem.o.values);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = std::fabs(result.o[i] - expected[i]);
    const double infinity = std::numeric_limits<double>::infinity();
    result.largest_error = std::max(result.largest_error, std::isnan(error) ? infinity : error);
    result.non_finite += !std::isfinite(result.o[i]);
  }
  return result;
}

}  // namespace

std::span<const LadderStepInfo> ladder_steps() { return kSteps; }

std::vector<double> ladder_truth(const LadderProblem& problem) { return truth(reference::to_slow_memory(problem)); }

LadderResult run_ladder_step(LadderStep step, const LadderProblem& problem, const LadderOptions& options) {
  const SlowProblem slow = reference::to_slow_memory(problem);
  return run_and_compare(step, slow, truth(slow), options);
}

std::vector<LadderResult> run_ladder(const LadderProblem& problem, const LadderOptions& options) {
  const SlowProblem slow = reference::to_slow_memory(problem);
  const std::vector<double> expected = truth(slow);
  std::vector<LadderResult> results;
  results.reserve(kSteps.size());
  for (const LadderStepInfo& info : kSteps) results.push_back(run_and_compare(info.step, slow, expected, options));
  return results;
}

}  // namespace tilewise
