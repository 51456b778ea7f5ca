// The worked example of the ladder against closed forms.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tilewise/softmax_ladder.h"

namespace tilewise {
namespace {

LadderInputs worked_example() {
  return {.s_q = 1, .s_kv = 3, .d_qk = 1, .d_v = 1, .q = {1}, .k = {1, 2, 3}, .v = {2, 4, 8}};
}

void expect_close(float actual, double expected) { EXPECT_NEAR(actual, expected, 8 * 0x1p-24 * std::fabs(expected)); }

TEST(SoftmaxTrace, WorkedExampleKeyByKey) {
  const LadderInputs inputs = worked_example();
  const auto trace = trace_ladder(inputs.problem());
  ASSERT_EQ(trace.size(), 3u);
  const double e = std::exp(1.0);

  EXPECT_EQ(trace[0].scores, std::vector<float>{1});
  EXPECT_EQ(trace[0].maximum, 1);
  EXPECT_EQ(trace[0].rescale, 0);
  EXPECT_EQ(trace[0].denominator, 1);
  EXPECT_EQ(trace[0].numerator[0], 2);
  EXPECT_EQ(trace[0].output[0], 2);

  EXPECT_EQ(trace[1].scores, std::vector<float>{2});
  EXPECT_EQ(trace[1].maximum, 2);
  expect_close(trace[1].rescale, 1 / e);
  expect_close(trace[1].denominator, 1 / e + 1);
  expect_close(trace[1].numerator[0], 2 / e + 4);
  expect_close(trace[1].output[0], (2 + 4 * e) / (1 + e));

  EXPECT_EQ(trace[2].scores, std::vector<float>{3});
  EXPECT_EQ(trace[2].maximum, 3);
  expect_close(trace[2].rescale, 1 / e);
  expect_close(trace[2].denominator, 1 / (e * e) + 1 / e + 1);
  expect_close(trace[2].numerator[0], 2 / (e * e) + 4 / e + 8);
  expect_close(trace[2].output[0], (2 + 4 * e + 8 * e * e) / (1 + e + e * e));

  for (std::size_t block = 0; block < trace.size(); ++block) {
    EXPECT_EQ(trace[block].query, 0);
    EXPECT_EQ(trace[block].first_key, static_cast<std::int64_t>(block));
  }
}

TEST(SoftmaxTrace, WorkedExampleInBlocksOfTwo) {
  const LadderInputs inputs = worked_example();
  const auto trace = trace_ladder(inputs.problem(), 2);
  ASSERT_EQ(trace.size(), 2u);
  const double e = std::exp(1.0);
  EXPECT_EQ(trace[0].scores, (std::vector<float>{1, 2}));
  EXPECT_EQ(trace[0].maximum, 2);
  expect_close(trace[0].denominator, 1 / e + 1);
  expect_close(trace[0].numerator[0], 2 / e + 4);
  EXPECT_EQ(trace[1].first_key, 2);
  EXPECT_EQ(trace[1].scores, std::vector<float>{3});
  expect_close(trace[1].output[0], (2 + 4 * e + 8 * e * e) / (1 + e + e * e));
}

TEST(SoftmaxTrace, AMaximumThatStaysRescalesByOne) {
  const LadderInputs inputs{.s_q = 1, .s_kv = 2, .d_qk = 1, .d_v = 1, .q = {1}, .k = {3, 1}, .v = {8, 2}};
  const auto trace = trace_ladder(inputs.problem());
  EXPECT_EQ(trace[1].maximum, 3);
  EXPECT_EQ(trace[1].rescale, 1);
  expect_close(trace[1].numerator[0], 8 + 2 * std::exp(-2.0));
}

TEST(SoftmaxTrace, EndsWithTheTruthForEveryQuery) {
  const LadderInputs inputs = random_ladder_inputs(3, 10, 4, 2, 1, 6);
  const std::vector<double> truth = ladder_truth(inputs.problem());
  const auto trace = trace_ladder(inputs.problem(), 4);
  ASSERT_EQ(trace.size(), 9u);  // 3 queries, blocks of 4, 4 and 2 keys
  for (std::size_t query = 0; query < 3; ++query) {
    const LadderTraceBlock& last = trace[3 * query + 2];
    EXPECT_EQ(last.query, static_cast<std::int64_t>(query));
    EXPECT_EQ(last.scores.size(), 2u);
    // Ten keys, |v| <= 1: errors of some tens of units.
    for (std::size_t c = 0; c < 2; ++c) EXPECT_NEAR(last.output[c], truth[2 * query + c], 128 * 0x1p-24);
  }
}

}  // namespace
}  // namespace tilewise
