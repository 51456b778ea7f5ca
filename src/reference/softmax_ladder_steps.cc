#include "reference/softmax_ladder_steps.h"

#include <algorithm>
#include <vector>

#include "core/fail.h"
#include "reference/softmax_statistics.h"

namespace tilewise::reference {
namespace {

/// o_i = numerator / denominator, the end of every step.
void store_output(Machine& machine, SlowMatrix& o, std::int64_t i, Statistics& statistics) {
  machine.divide(statistics.numerator(), statistics.denominator());
  machine.store(o, i, statistics.numerator());
}

}  // namespace

// o_i = sum_j exp(s_ij) v_j / sum_j exp(s_ij).
// One pass, but exp overflows float32 for scores above 88.7 and vanishes below -103.9. The subtracted maximum is a
// fixed 0.
void run_plain_sums(Machine& machine, SlowProblem& problem) {
  auto& [q, k, v, o] = problem;
  for (std::int64_t i = 0; i < q.rows; ++i) {
    const Tile q_i = machine.load(q, i, 1);
    Statistics statistics(machine, v.columns);
    statistics.maximum() = 0;
    for (std::int64_t j = 0; j < k.rows; ++j) {
      const Tile k_j = machine.load(k, j, 1), v_j = machine.load(v, j, 1);
      const float score = machine.dot(q_i.row(0), k_j.row(0));
      statistics.add(machine, machine.exp(score), v_j.row(0));
    }
    store_output(machine, o, i, statistics);
  }
}

// m_i = max_j s_ij, then o_i = sum_j exp(s_ij - m_i) v_j / sum_j exp(s_ij - m_i).
// No weight exceeds 1, but keys are read and scores computed twice.
void run_maximum_first(Machine& machine, SlowProblem& problem) {
  auto& [q, k, v, o] = problem;
  for (std::int64_t i = 0; i < q.rows; ++i) {
    const Tile q_i = machine.load(q, i, 1);
    Statistics statistics(machine, v.columns);
    for (std::int64_t j = 0; j < k.rows; ++j) {
      const Tile k_j = machine.load(k, j, 1);
      statistics.maximum() = std::max(statistics.maximum(), machine.dot(q_i.row(0), k_j.row(0)));
    }
    for (std::int64_t j = 0; j < k.rows; ++j) {
      const Tile k_j = machine.load(k, j, 1), v_j = machine.load(v, j, 1);
      const float score = machine.dot(q_i.row(0), k_j.row(0));
      statistics.add(machine, machine.exp(score - statistics.maximum()), v_j.row(0));
    }
    store_output(machine, o, i, statistics);
  }
}

// Milakov and Gimelshein 2018: the maximum so far, and sums relative to it that shrink by exp(m - m') when it moves
// from m to m'. One pass again, for one more exponential and one more scaling of the sums a key.
void run_online(Machine& machine, SlowProblem& problem) {
  auto& [q, k, v, o] = problem;
  for (std::int64_t i = 0; i < q.rows; ++i) {
    const Tile q_i = machine.load(q, i, 1);
    Statistics statistics(machine, v.columns);
    for (std::int64_t j = 0; j < k.rows; ++j) {
      const Tile k_j = machine.load(k, j, 1), v_j = machine.load(v, j, 1);
      const float score = machine.dot(q_i.row(0), k_j.row(0));
      const float maximum = std::max(statistics.maximum(), score);
      machine.scale(statistics.sums(), machine.exp(statistics.maximum() - maximum));
      statistics.maximum() = maximum;
      statistics.add(machine, machine.exp(score - maximum), v_j.row(0));
    }
    store_output(machine, o, i, statistics);
  }
}

// Each chunk of keys has statistics of its own, merged in any order: one rescaling a chunk instead of one a key, and
// chunks that could go to different processors.
void run_chunks(Machine& machine, SlowProblem& problem, std::int64_t chunk) {
  auto& [q, k, v, o] = problem;
  for (std::int64_t i = 0; i < q.rows; ++i) {
    const Tile q_i = machine.load(q, i, 1);
    Statistics total(machine, v.columns);
    for (std::int64_t j = 0; j < k.rows; j += chunk) {
      const std::int64_t keys = std::min(chunk, k.rows - j);
      const Tile k_j = machine.load(k, j, keys), v_j = machine.load(v, j, keys);
      merge(machine, total, statistics_of(machine, q_i.row(0), k_j, v_j));
    }
    store_output(machine, o, i, total);
  }
}

// FlashAttention (Dao, Fu, Ermon, Rudra and Re 2022), queries in the outer loop (Dao 2023) so that outputs stay in fast
// memory: a chunk is read once for a whole tile of queries, and slow memory sees O(s_q s_kv d^2 / M) numbers.
void run_tiled(Machine& machine, SlowProblem& problem, TileShape tile) {
  auto& [q, k, v, o] = problem;
  for (std::int64_t i = 0; i < q.rows; i += tile.rows) {
    const Tile q_i = machine.load(q, i, std::min(tile.rows, q.rows - i));
    std::vector<Statistics> totals;
    for (std::int64_t row = 0; row < q_i.rows(); ++row) totals.emplace_back(machine, v.columns);
    for (std::int64_t j = 0; j < k.rows; j += tile.keys) {
      const std::int64_t keys = std::min(tile.keys, k.rows - j);
      const Tile k_j = machine.load(k, j, keys), v_j = machine.load(v, j, keys);
      for (std::int64_t row = 0; row < q_i.rows(); ++row) {
        merge(machine, totals[row], statistics_of(machine, q_i.row(row), k_j, v_j));
      }
    }
    for (std::int64_t row = 0; row < q_i.rows(); ++row) store_output(machine, o, i + row, totals[row]);
  }
}

std::int64_t tiled_bytes(TileShape tile, std::int64_t d_qk, std::int64_t d_v) {
  const std::int64_t statistics = 2 + d_v;
  const std::int64_t queries = tile.rows * (d_qk + statistics);
  const std::int64_t chunk = tile.keys * (d_qk + d_v);
  const std::int64_t part = tile.keys + statistics;
  return (queries + chunk + part) * static_cast<std::int64_t>(sizeof(float));
}

TileShape choose_tile(const SlowProblem& problem, const LadderOptions& options) {
  if (options.chunk < 1) fail_argument("chunk is {}; expected at least 1 key", options.chunk);
  const std::int64_t d_qk = problem.q.columns, d_v = problem.v.columns;
  TileShape tile{.rows = 1, .keys = std::min(options.chunk, problem.k.rows)};
  const std::int64_t smallest = tiled_bytes(tile, d_qk, d_v);
  if (smallest > options.fast_memory) {
    fail_argument(
        "fast_memory is {} bytes, but one query of {}/{} with a chunk of {} keys takes {}; give at least that or a "
        "smaller chunk",
        options.fast_memory, d_qk, d_v, tile.keys, smallest);
  }
  const std::int64_t bytes_per_row = tiled_bytes({.rows = 2, .keys = tile.keys}, d_qk, d_v) - smallest;
  const std::int64_t most_rows = 1 + (options.fast_memory - smallest) / bytes_per_row;
  tile.rows = std::clamp<std::int64_t>(most_rows, 1, std::max<std::int64_t>(problem.q.rows, 1));
  return tile;
}

}  // namespace tilewise::reference
