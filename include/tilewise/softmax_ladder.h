// The softmax ladder: five ways to compute softmax(q k^T) v, from the plain sums to FlashAttention, each of them run
// and counted. It teaches where the tiled algorithm comes from; nothing is computed with it in earnest.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tilewise/tensor.h"

namespace tilewise {

/// The steps, in the order in which each removes a fault of the one before.
enum class LadderStep : std::uint8_t { plain_sums, maximum_first, online, chunks, tiled };

/// What is said about a step beside its numbers.
struct LadderStepInfo {
  LadderStep step;
  const char* name;     ///< As in the enumeration, such as "maximum_first".
  const char* summary;  ///< What it does and what it costs, in one line.
  const char* source;   ///< Where it comes from.
};

/// All five, in order.
std::span<const LadderStepInfo> ladder_steps();

/// One head without a variant: o = softmax(q k^T) v for each row of q. A scale is q's to carry.
/// All three are float32, of rank 2, with any strides, and belong to the caller.
struct LadderProblem {
  ConstTensor q;  // [s_q, d_qk]
  ConstTensor k;  // [s_kv, d_qk]
  ConstTensor v;  // [s_kv, d_v]
};

/// The machine that the steps run on, and the one choice that they leave open.
struct LadderOptions {
  /// Bytes of fast memory, M. The default is what the paper on FlashAttention calls typical ("around 100KB").
  std::int64_t fast_memory = std::int64_t{100} * 1024;
  /// Keys taken together by `chunks` and `tiled`.
  std::int64_t chunk = 32;
};

/// What a step did, counted while it ran on a machine with two levels of memory (Hong and Kung, 1981): q, k, v and o
/// lie in slow memory; arithmetic reaches only what has been copied to fast memory, which holds at most M bytes.
///
/// A step copies whole rows and keeps them exactly as long as it says; there is no cache that might keep them longer:
///   - `plain_sums`, `maximum_first` and `online` keep a row of q and its statistics (maximum, denominator and
///     numerator: 2 + d_v numbers), and read one key and value at a time;
///   - `chunks` keeps the same, and reads `chunk` keys and values at a time, with their scores and statistics beside;
///   - `tiled` keeps as many rows of q, with statistics each, as fit into M, and reads a chunk once for all of them.
/// Elements are float32: 4 bytes. Loop counters and single numbers between two operations are registers: not counted.
struct LadderCounts {
  std::int64_t bytes_read = 0;     ///< From slow memory.
  std::int64_t bytes_written = 0;  ///< To slow memory.
  std::int64_t multiply_adds = 0;  ///< Multiplications and divisions, each with the addition that takes its result.
  std::int64_t exponentials = 0;
  std::int64_t extra_bytes = 0;  ///< Most bytes in use at once besides q, k, v and o; all of it in fast memory.

  bool operator==(const LadderCounts&) const = default;
};

/// One step's run.
struct LadderResult {
  LadderStep step = LadderStep::plain_sums;
  std::vector<float> o;  // [s_q, d_v]
  LadderCounts counts;
  double largest_error = 0;     ///< Largest |o - float64 result|; infinity where an output is not finite.
  std::int64_t non_finite = 0;  ///< Elements of o that are infinite or NaN.
};

/// softmax(q k^T) v in float64: scores, their maximum, weights, weighted sum. The truth that steps are held to.
/// Rows are 0 where there are no keys, as for every row that keeps nothing.
/// Throws Error(invalid_argument) where the problem's dtypes or shapes do not fit together.
std::vector<double> ladder_truth(const LadderProblem& problem);  // [s_q, d_v]

/// Runs one step in float32. Scores too large for a step are no error: the result shows them as non-finite outputs.
/// Throws Error(invalid_argument) where the problem's shapes do not fit together, `chunk` is below 1, or fast memory
/// cannot hold one query with a chunk (the message says how many bytes would do).
LadderResult run_ladder_step(LadderStep step, const LadderProblem& problem, const LadderOptions& options = {});

/// All five steps, in order; throws as run_ladder_step.
std::vector<LadderResult> run_ladder(const LadderProblem& problem, const LadderOptions& options = {});

/// The state of one query after one more block of keys.
struct LadderTraceBlock {
  std::int64_t query = 0;
  std::int64_t first_key = 0;
  std::vector<float> scores;     // [keys of the block], q . k
  float maximum = 0;             ///< Largest score so far.
  float rescale = 0;             ///< exp(previous maximum - maximum), by which the earlier sums shrank; 0 at first.
  float denominator = 0;         ///< Sum of exp(score - maximum) so far.
  std::vector<float> numerator;  // [d_v], sum of exp(score - maximum) v so far
  std::vector<float> output;     // [d_v], numerator / denominator: exact for the keys so far
};

/// Step by step through `online` (block = 1) or `chunks` (block > 1), in float32: the blocks of query 0, then of query
/// 1, and so on. Throws Error(invalid_argument) as run_ladder_step, or when block is below 1.
std::vector<LadderTraceBlock> trace_ladder(const LadderProblem& problem, std::int64_t block = 1);

/// Inputs that own their memory; `problem()` views them.
struct LadderInputs {
  std::int64_t s_q = 0, s_kv = 0, d_qk = 0, d_v = 0;
  std::vector<float> q;  // [s_q, d_qk]
  std::vector<float> k;  // [s_kv, d_qk]
  std::vector<float> v;  // [s_kv, d_v]

  LadderProblem problem() const;
};

/// Random inputs, the same for a seed on every platform: k and v uniform in [-1, 1), q uniform about 0 and scaled so
/// that scores have the standard deviation `score_deviation`. With about 1 they are ordinary; with 1000, exp overflows.
/// Throws Error(invalid_argument) for a negative extent or a deviation that is negative or not finite.
LadderInputs random_ladder_inputs(std::int64_t s_q, std::int64_t s_kv, std::int64_t d_qk, std::int64_t d_v,
                                  double score_deviation, std::uint64_t seed);

}  // namespace tilewise
