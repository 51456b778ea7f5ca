// The sampler against the formulas written out plainly: every token's probability, by sorting all of them.
#include "runtime/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace tilewise::runtime {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

/// Probabilities that Sampling's text leaves, in float64. [vocabulary]
std::vector<double> probabilities(const Sampling& sampling, const std::vector<float>& given,
                                  const std::vector<std::int32_t>& tokens) {
  std::vector<double> logits(given.begin(), given.end());
  const std::size_t count = logits.size();
  for (const auto& [token, bias] : sampling.logit_bias) logits[static_cast<std::size_t>(token)] += bias;
  for (std::size_t token = 0; token < count; ++token) {
    bool occurred = false;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const bool in_window =
          sampling.repetition_tokens < 0 || tokens.size() - i <= static_cast<std::size_t>(sampling.repetition_tokens);
      occurred = occurred || (in_window && tokens[i] == static_cast<std::int32_t>(token));
    }
    if (!occurred) continue;
    logits[token] =
        logits[token] > 0 ? logits[token] / sampling.repetition_penalty : logits[token] * sampling.repetition_penalty;
  }
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  std::vector<double> kept(count, 0.0);
  if (sampling.temperature == 0) {
    kept[order[0]] = 1;
    return kept;
  }
  std::size_t most = sampling.top_k == 0 ? count : std::min(count, static_cast<std::size_t>(sampling.top_k));
  std::vector<double> weights(count, 0.0);
  double total = 0;
  for (std::size_t i = 0; i < most; ++i) {
    weights[order[i]] = std::exp((logits[order[i]] - logits[order[0]]) / sampling.temperature);
    total += weights[order[i]];
  }
  double sum = 0;
  for (std::size_t i = 0; i < most; ++i) {
    if (sampling.top_p < 1 && sum >= sampling.top_p * total) break;
    sum += weights[order[i]];
    if (weights[order[i]] >= sampling.min_p) kept[order[i]] = weights[order[i]];
  }
  const double left = std::accumulate(kept.begin(), kept.end(), 0.0);
  for (double& probability : kept) probability /= left;
  return kept;
}

std::vector<float> random_logits(std::mt19937_64& random, std::size_t count, bool with_ties) {
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = with_ties ? std::round(normal(random)) : normal(random);
  return logits;
}

/// Draws many times, each from its own place, and compares how often each token came.
void expect_distribution(const Sampling& sampling, const std::vector<float>& logits,
                         const std::vector<std::int32_t>& tokens) {
  const auto expected = probabilities(sampling, logits, tokens);
  constexpr int kDraws = 40'000;
  std::vector<int> counts(logits.size());
  Sampler sampler;
  for (int place = 0; place < kDraws; ++place) {
    const auto token = sampler.choose(sampling, 0, logits, tokens, place);
    ASSERT_TRUE(token.has_value());
    ++counts[static_cast<std::size_t>(*token)];
  }
  for (std::size_t token = 0; token < counts.size(); ++token) {
    const double p = expected[token];
    if (p == 0) {
      EXPECT_EQ(counts[token], 0) << "token " << token << " was to be left out";
      continue;
    }
    // Five standard deviations of a binomial count: of 10^4 comparisons one in 170 runs of other seeds would fail.
    EXPECT_NEAR(counts[token], kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p)) + 1) << "token " << token;
  }
}

TEST(Sampler, DrawsWhatTheFormulasLeave) {
  std::mt19937_64 random(5);
  const std::vector<Sampling> cases = {
      {.temperature = 1},
      {.temperature = 0.5},
      {.temperature = 2, .top_k = 5},
      {.temperature = 1, .top_k = 1000},
      {.temperature = 1.5, .top_p = 0.7},
      {.temperature = 1, .top_p = 1e-9},
      {.temperature = 1, .min_p = 0.2},
      {.temperature = 1, .min_p = 1},
      {.temperature = 1.2, .top_k = 20, .top_p = 0.9, .min_p = 0.05},
      {.temperature = 1, .repetition_penalty = 1.8},
      {.temperature = 1, .repetition_penalty = 0.5, .repetition_tokens = 2},
      {.temperature = 1, .repetition_penalty = 2, .repetition_tokens = -1},
      {.temperature = 1, .top_k = 3, .logit_bias = {{4, 30.0}, {7, -kInfinite}, {9, -5.0}}},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    for (const bool with_ties : {false, true}) {
      SCOPED_TRACE(::testing::Message() << "case " << i << (with_ties ? ", ties" : "") << ", seed 5");
      Sampling sampling = cases[i];
      sampling.seed = random();
      expect_distribution(sampling, random_logits(random, 60, with_ties), {3, 4, 9, 4, 11});
    }
  }
}

TEST(Sampler, ALargeVocabularyReachesFarBehindTheFirstSorted) {
  // 500 equal logits: top-p 0.9 keeps the 450 lowest numbers.
  Sampling sampling{.temperature = 1, .top_p = 0.9};
  const std::vector<float> logits(500, 1.0F);
  Sampler sampler;
  std::int32_t most = 0;
  for (int place = 0; place < 20'000; ++place) {
    most = std::max(most, *sampler.choose(sampling, 0, logits, {}, place));
  }
  EXPECT_EQ(most, 449);
}

TEST(Sampler, GreedyTakesTheLargestAndTheLowestOfEquals) {
  Sampler sampler;
  const Sampling greedy{};
  EXPECT_EQ(sampler.choose(greedy, 0, std::vector<float>{1, 3, 2, 3}, {}, 0), 1);
  EXPECT_EQ(sampler.choose({.logit_bias = {{2, 5.0}}}, 0, std::vector<float>{1, 3, 2, 3}, {}, 0), 2);
  const std::vector<std::int32_t> tokens{1};
  EXPECT_EQ(sampler.choose({.repetition_penalty = 2}, 0, std::vector<float>{1, 3, 2, 3}, tokens, 0), 3);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(sampler.choose(greedy, 0, std::vector<float>{nan, -7, nan}, {}, 0), 1);
  EXPECT_EQ(sampler.choose({.temperature = 1}, 0, std::vector<float>{nan, -7, nan}, {}, 0), 1);
  EXPECT_EQ(sampler.choose(greedy, 0, std::vector<float>{nan, nan}, {}, 0), std::nullopt);
  EXPECT_EQ(sampler.choose({.temperature = 1}, 0, std::vector<float>{nan, nan}, {}, 0), std::nullopt);
}

TEST(Sampler, InfiniteLogitsAreCertain) {
  Sampler sampler;
  const float infinite = std::numeric_limits<float>::infinity();
  for (int place = 0; place < 100; ++place) {
    EXPECT_EQ(sampler.choose({.temperature = 1}, 0, std::vector<float>{1, infinite, 3}, {}, place), 1);
    EXPECT_EQ(sampler.choose({.temperature = 1e-30}, 0, std::vector<float>{1, 2, 3}, {}, place), 2);
  }
}

TEST(Sampler, FollowsSeedSampleAndPlaceAlone) {
  std::mt19937_64 random(9);
  const auto logits = random_logits(random, 1000, false);
  const auto sequence = [&](std::uint64_t seed, std::int64_t sample, Sampler& sampler) {
    std::vector<std::int32_t> tokens;
    for (int place = 0; place < 50; ++place) {
      tokens.push_back(*sampler.choose({.temperature = 1.3, .seed = seed}, sample, logits, {}, place));
    }
    return tokens;
  };
  Sampler one, other;
  const auto first = sequence(1, 0, one);
  // Whatever the same scratch memory did before.
  other.choose({.temperature = 2, .top_k = 3}, 5, random_logits(random, 77, true), {}, 0);
  EXPECT_EQ(sequence(1, 0, other), first);
  EXPECT_NE(sequence(2, 0, one), first);
  EXPECT_NE(sequence(1, 1, one), first);
  EXPECT_NE(sequence(1u + (std::uint64_t{1} << 32), 0, one), first);
}

TEST(Sampler, LogProbability) {
  const std::vector<float> logits{0, std::log(2.0F), std::log(5.0F)};
  EXPECT_NEAR(log_probability(logits, 0), std::log(1.0 / 8), 1e-7);
  EXPECT_NEAR(log_probability(logits, 2), std::log(5.0 / 8), 1e-7);
  EXPECT_NEAR(log_probability(std::vector<float>{1000, 0}, 1), -1000, 1e-9);
}

}  // namespace
}  // namespace tilewise::runtime
