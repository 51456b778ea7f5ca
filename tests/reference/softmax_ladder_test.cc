// Every step of the ladder against float64, on ordinary scores and on scores where exp leaves float32's range.
#include "tilewise/softmax_ladder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "tests/refusal.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

constexpr double kUnit = 0x1p-24;  // u, float32's unit roundoff

/// How far a correct step's output may lie from float64's.
///
/// Let n be s_kv and d be d_qk. A score computed from left to right is off by at most delta = d u / (1 - d u) times
/// sum_c |q_c k_c|. A computed weight exp(s - m) is off, relatively, by delta from the score, u |s - m| from the
/// subtraction and 2 u from exp (glibc's is within 1 ulp). Every rescaling, at most n for `online`, costs another 2 u
/// from exp and u from the product, and subtractions that add up to no more than the range R of the scores: u R. Sums
/// of n positive terms cost n u, the product with v one u. In all, each weight in numerator and denominator is off by
/// at most
///   rho = delta + u (2 R + 4 n + 4)
/// and so the output by 2 rho / (1 - rho) max|v| (terms of second order are far below what worst cases leave over),
/// plus its own division's u max|v|. Weights below 2^-126 lose absolute accuracy only: 2^-149 each beside a denominator
/// of at least 1, which 1 u more covers a thousand times.
double error_bound(const LadderInputs& in) {
  double delta = 0, lowest = INFINITY, highest = -INFINITY, largest_v = 0;
  for (std::int64_t i = 0; i < in.s_q; ++i) {
    for (std::int64_t j = 0; j < in.s_kv; ++j) {
      double score = 0, magnitude = 0;
      for (std::int64_t c = 0; c < in.d_qk; ++c) {
        const double product = double{in.q[i * in.d_qk + c]} * double{in.k[j * in.d_qk + c]};
        score += product;
        magnitude += std::fabs(product);
      }
      const double d_u = static_cast<double>(in.d_qk) * kUnit;
      delta = std::max(delta, d_u / (1 - d_u) * magnitude);
      lowest = std::min(lowest, score);
      highest = std::max(highest, score);
    }
  }
  for (float value : in.v) largest_v = std::max(largest_v, double{std::fabs(value)});
  const double rho = delta + kUnit * (2 * (highest - lowest) + 4 * static_cast<double>(in.s_kv) + 4);
  return (2 * rho / (1 - rho) + 2 * kUnit) * largest_v;
}

/// q and k of small whole numbers times `step`, so that scores are exact in float32 and their error takes no part.
LadderInputs whole_inputs(double step) {
  LadderInputs in = random_ladder_inputs(9, 70, 4, 3, 1, 11);
  for (float& value : in.q) value = static_cast<float>(std::round(value * 4) * step);
  for (float& value : in.k) value = std::round(value * 4);
  return in;
}

void expect_accurate(const LadderInputs& inputs, const LadderOptions& options, bool plain_too) {
  const double bound = error_bound(inputs);
  for (const LadderResult& result : run_ladder(inputs.problem(), options)) {
    if (result.step == LadderStep::plain_sums && !plain_too) continue;
    EXPECT_LE(result.largest_error, bound) << "step " << static_cast<int>(result.step);
    EXPECT_EQ(result.non_finite, 0);
  }
}

TEST(SoftmaxLadder, TruthIsTheDefinition) {
  // Two keys with scores 0 and ln 3: weights 1/4 and 3/4.
  LadderInputs in{.s_q = 1, .s_kv = 2, .d_qk = 1, .d_v = 2, .q = {1}, .k = {0, 0}, .v = {4, 8, 0, -4}};
  in.k[1] = static_cast<float>(std::log(3.0));
  const std::vector<double> o = ladder_truth(in.problem());
  EXPECT_NEAR(o[0], 1, 2 * kUnit);   // 4/4; ln 3 is rounded to float32
  EXPECT_NEAR(o[1], -1, 8 * kUnit);  // 8/4 - 12/4
}

TEST(SoftmaxLadder, EveryStepIsAccurateOnOrdinaryScores) {
  const LadderInputs inputs = random_ladder_inputs(37, 130, 16, 8, 1.5, 5);
  EXPECT_LT(error_bound(inputs), 2e-4);  // a bound that could fail
  for (std::int64_t chunk : {1, 7, 32, 130, 1000}) {
    for (std::int64_t fast_memory : {32 * 1024, 1024 * 1024}) {
      expect_accurate(inputs, {.fast_memory = fast_memory, .chunk = chunk}, true);
    }
  }
}

TEST(SoftmaxLadder, EveryStepIsAccurateOnExactScores) {
  const LadderInputs inputs = whole_inputs(0.125);
  expect_accurate(inputs, {.fast_memory = 4096, .chunk = 9}, true);
}

TEST(SoftmaxLadder, OnlyPlainSumsFailOnScoresInTheThousands) {
  for (const LadderInputs& inputs : {whole_inputs(200), random_ladder_inputs(37, 130, 16, 8, 2000, 5)}) {
    EXPECT_LT(error_bound(inputs), 0.05);
    expect_accurate(inputs, {.fast_memory = 16 * 1024, .chunk = 9}, false);
    const LadderResult plain = run_ladder_step(LadderStep::plain_sums, inputs.problem());
    EXPECT_GT(plain.non_finite, 0);
    EXPECT_EQ(plain.largest_error, INFINITY);
  }
}

TEST(SoftmaxLadder, PlainSumsOverflowAboveAndVanishBelow) {
  for (float score : {2000.0f, -2000.0f}) {
    const LadderInputs in{.s_q = 1, .s_kv = 2, .d_qk = 1, .d_v = 1, .q = {1}, .k = {score, score}, .v = {1, 3}};
    const std::vector<LadderResult> results = run_ladder(in.problem());
    EXPECT_TRUE(std::isnan(results[0].o[0])) << score;  // inf / inf, 0 / 0
    EXPECT_EQ(results[0].non_finite, 1);
    for (std::size_t step = 1; step < results.size(); ++step) EXPECT_EQ(results[step].o[0], 2.0f) << step;
  }
}

TEST(SoftmaxLadder, RisingScoresRescaleEveryTime) {
  // The worst case of the online steps: each key is a new maximum.
  LadderInputs in = random_ladder_inputs(2, 300, 1, 4, 1, 2);
  in.q = {1, -1};  // for the second query scores fall
  for (std::int64_t j = 0; j < in.s_kv; ++j) in.k[j] = static_cast<float>(j) * 0.25f;
  expect_accurate(in, {.chunk = 7}, true);
}

TEST(SoftmaxLadder, StepsAreListedInOrder) {
  const auto steps = ladder_steps();
  ASSERT_EQ(steps.size(), 5u);
  for (std::size_t i = 0; i < steps.size(); ++i) EXPECT_EQ(static_cast<std::size_t>(steps[i].step), i);
  EXPECT_STREQ(steps[2].name, "online");
  const LadderInputs in = random_ladder_inputs(1, 1, 1, 1, 1, 1);
  const auto results = run_ladder(in.problem());
  ASSERT_EQ(results.size(), 5u);
  for (std::size_t i = 0; i < results.size(); ++i) EXPECT_EQ(results[i].step, steps[i].step);
}

TEST(SoftmaxLadder, StridesAreFollowed) {
  // k stored transposed, v reversed, q as every other row: the same problem, so the same bits.
  const LadderInputs in = random_ladder_inputs(3, 4, 2, 2, 1, 9);
  std::vector<float> q(12, NAN), k(8), v(8);
  for (std::size_t i = 0; i < 3; ++i) std::copy_n(&in.q[2 * i], 2, &q[4 * i]);
  for (std::size_t i = 0; i < 8; ++i) k[(i % 2) * 4 + i / 2] = in.k[i];
  std::reverse_copy(in.v.begin(), in.v.end(), v.begin());
  using Pair = std::array<std::int64_t, 2>;
  const LadderProblem strided{.q = ConstTensor(q.data(), DType::float32, Pair{3, 2}, Pair{4, 1}),
                              .k = ConstTensor(k.data(), DType::float32, Pair{4, 2}, Pair{1, 4}),
                              .v = ConstTensor(v.data() + 7, DType::float32, Pair{4, 2}, Pair{-2, -1})};
  const auto expected = run_ladder(in.problem()), results = run_ladder(strided);
  for (std::size_t i = 0; i < results.size(); ++i) EXPECT_EQ(results[i].o, expected[i].o);
}

TEST(SoftmaxLadder, WrongProblemsAreRefused) {
  const LadderInputs in = random_ladder_inputs(3, 4, 2, 2, 1, 9);
  const auto refused = [&](auto change) {
    LadderProblem problem = in.problem();
    change(problem);
    return refusal([&] { run_ladder(problem); });
  };
  EXPECT_EQ(refused([](LadderProblem& p) { p.q.dtype = DType::float16; }),
            "q has dtype float16; the softmax ladder takes float32");
  EXPECT_EQ(refused([](LadderProblem& p) { p.v.rank = 1; }),
            "v has rank 1; the softmax ladder takes matrices (rank 2)");
  EXPECT_EQ(refused([](LadderProblem& p) { p.k.extents[1] = 1; }),
            "q has 2 columns and k has 1; expected d_qk of both");
  EXPECT_EQ(refused([](LadderProblem& p) { p.v.extents[0] = 3; }), "k has 4 rows and v has 3; expected s_kv of both");
}

TEST(SoftmaxLadder, WrongOptionsAreRefused) {
  const LadderInputs in = random_ladder_inputs(3, 40, 2, 2, 1, 9);
  const auto refused = [&](LadderOptions options) {
    return refusal([&] { run_ladder_step(LadderStep::plain_sums, in.problem(), options); });
  };
  EXPECT_EQ(refused({.chunk = 0}), "chunk is 0; expected at least 1 key");
  // q_i 2, statistics 4 twice, a chunk of 10 keys 40 and its scores 10: 60 numbers.
  EXPECT_NE(refused({.fast_memory = 239, .chunk = 10}).find("takes 240;"), std::string::npos);
  EXPECT_NO_THROW(run_ladder(in.problem(), {.fast_memory = 240, .chunk = 10}));
  EXPECT_NE(refusal([&] { run_ladder_step(static_cast<LadderStep>(9), in.problem()); }).find("9"), std::string::npos);
  EXPECT_EQ(refusal([&] { trace_ladder(in.problem(), 0); }), "block is 0; expected at least 1 key");
}

TEST(SoftmaxLadder, RandomInputsHaveTheScoresAskedFor) {
  constexpr double kDeviation = 50;
  const LadderInputs in = random_ladder_inputs(200, 200, 12, 3, kDeviation, 4);
  double sum_of_squares = 0;
  for (std::int64_t i = 0; i < in.s_q; ++i) {
    for (std::int64_t j = 0; j < in.s_kv; ++j) {
      double score = 0;
      for (std::int64_t c = 0; c < in.d_qk; ++c) score += double{in.q[i * 12 + c]} * double{in.k[j * 12 + c]};
      sum_of_squares += score * score;
    }
  }
  // Rows of q differ in length (a relative deviation of 0.26 of the squares of 12 uniform numbers), and so do those of
  // k: over 200 of each, the root mean square spreads by 0.26 / sqrt(200) / sqrt(2), 1.3%. Five times that is allowed.
  EXPECT_NEAR(std::sqrt(sum_of_squares / (200 * 200)), kDeviation, 0.065 * kDeviation);
  for (float value : in.v) EXPECT_TRUE(value >= -1 && value < 1);
  EXPECT_EQ(in.v.size(), 600u);
}

TEST(SoftmaxLadder, RandomInputsAreRefusedWhereSenseless) {
  EXPECT_EQ(refusal([] { random_ladder_inputs(1, -1, 1, 1, 1, 0); }), "s_kv is -1; expected 0 or more");
  EXPECT_EQ(refusal([] { random_ladder_inputs(1, 1, 1, 1, -2, 0); }),
            "score_deviation is -2; expected a finite number of 0 or more");
  EXPECT_NE(refusal([] { random_ladder_inputs(1, 1, 1, 1, NAN, 0); }), "");
}

}  // namespace
}  // namespace tilewise
