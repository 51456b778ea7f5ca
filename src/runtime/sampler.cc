#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/fail.h"
#include "core/philox.h"

namespace tilewise::runtime {
namespace {

// Tells these random words from those of dropout, should someone give both the same seed.
constexpr std::uint32_t kSamplerStream = 0x5A3D1E77;

void expect(bool holds, const char* name, double value, const char* expected) {
  if (!holds) fail_argument("{} is {}; expected {}", name, value, expected);
}

/// In [0, 1), 53 bits.
double uniform(std::uint64_t seed, std::int64_t sample, std::int64_t place) {
  const auto low = [](std::uint64_t value) { return static_cast<std::uint32_t>(value); };
  const auto words = philox4x32({low(static_cast<std::uint64_t>(place)), low(static_cast<std::uint64_t>(place) >> 32),
                                 low(static_cast<std::uint64_t>(sample)), kSamplerStream},
                                {low(seed), low(seed >> 32)});
  const std::uint64_t bits = (std::uint64_t{words[0]} << 32 | words[1]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

/// From the most probable to the least; of equal ones the lower number first.
constexpr auto kByRank = [](const auto& a, const auto& b) {
  return a.value > b.value || (a.value == b.value && a.token < b.token);
};
constexpr auto kByToken = [](const auto& a, const auto& b) { return a.token < b.token; };

/// Greedy choice without copying the logits, which a step of one sequence would notice. NaN are passed over.
std::optional<std::int32_t> largest_of(std::span<const float> logits) {
  constexpr std::size_t kLanes = 16;  // of their own, so that compilers use vectors
  constexpr float kLeast = -std::numeric_limits<float>::infinity();
  float most_of[kLanes];
  std::ranges::fill(most_of, kLeast);
  std::size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      most_of[lane] = logits[i + lane] > most_of[lane] ? logits[i + lane] : most_of[lane];
    }
  }
  for (; i < logits.size(); ++i) most_of[0] = logits[i] > most_of[0] ? logits[i] : most_of[0];
  const float most = *std::ranges::max_element(most_of);
  if (most == kLeast) return std::nullopt;
  return static_cast<std::int32_t>(std::ranges::find(logits, most) - logits.begin());
}

}  // namespace

void expect_valid(const Sampling& sampling, std::int64_t vocabulary) {
  expect(std::isfinite(sampling.temperature) && sampling.temperature >= 0, "temperature", sampling.temperature,
         "0 (the most probable token) or more");
  expect(sampling.top_k >= 0, "top_k", static_cast<double>(sampling.top_k), "0 (all) or more");
  expect(sampling.top_p > 0 && sampling.top_p <= 1, "top_p", sampling.top_p, "more than 0 and at most 1 (all)");
  expect(sampling.min_p >= 0 && sampling.min_p <= 1, "min_p", sampling.min_p, "0 (all) to 1");
  expect(std::isfinite(sampling.repetition_penalty) && sampling.repetition_penalty > 0, "repetition_penalty",
         sampling.repetition_penalty, "more than 0; 1 changes nothing");
  expect(sampling.repetition_tokens >= -1, "repetition_tokens", static_cast<double>(sampling.repetition_tokens),
         "-1 (all) or more");
  std::set<std::int32_t> seen;
  for (const auto& [token, bias] : sampling.logit_bias) {
    if (token < 0 || token >= vocabulary) {
      fail_argument("logit_bias names token {}; expected 0 to {}", token, vocabulary - 1);
    }
    if (std::isnan(bias) || bias == std::numeric_limits<double>::infinity()) {
      fail_argument("logit_bias of token {} is {}; expected a number, or -inf to forbid it", token, bias);
    }
    if (!seen.insert(token).second) fail_argument("logit_bias names token {} twice", token);
  }
}

void Sampler::gather(const Sampling& sampling, std::span<const float> logits, std::span<const std::int32_t> tokens) {
  logits_.assign(logits.begin(), logits.end());
  for (const auto& [token, bias] : sampling.logit_bias) logits_[static_cast<std::size_t>(token)] += bias;
  if (sampling.repetition_penalty != 1) {
    const std::size_t window = sampling.repetition_tokens < 0
                                   ? tokens.size()
                                   : std::min(tokens.size(), static_cast<std::size_t>(sampling.repetition_tokens));
    const auto last = tokens.last(window);
    for (const std::int32_t token : std::set<std::int32_t>(last.begin(), last.end())) {
      double& logit = logits_[static_cast<std::size_t>(token)];
      logit = logit > 0 ? logit / sampling.repetition_penalty : logit * sampling.repetition_penalty;
    }
  }
  candidates_.clear();
  for (std::size_t i = 0; i < logits_.size(); ++i) {
    if (logits_[i] > -std::numeric_limits<double>::infinity()) {  // false for NaN
      candidates_.push_back({static_cast<std::int32_t>(i), logits_[i]});
    }
  }
}

std::int32_t Sampler::largest() const {
  return std::min_element(candidates_.begin(), candidates_.end(), kByRank)->token;
}

void Sampler::keep_top_k(std::int64_t top_k) {
  const auto k = static_cast<std::size_t>(top_k);
  if (k == 0 || k >= candidates_.size()) return;
  const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(k);
  std::nth_element(candidates_.begin(), end - 1, candidates_.end(), kByRank);
  candidates_.erase(end, candidates_.end());
  std::sort(candidates_.begin(), candidates_.end(), kByToken);  // an order that nth_element() does not choose
}

void Sampler::to_weights(double temperature) {
  const double most = std::min_element(candidates_.begin(), candidates_.end(), kByRank)->value;
  for (Candidate& candidate : candidates_) {
    // The largest is 1, even where it is infinite.
    candidate.value = candidate.value == most ? 1 : std::exp((candidate.value - most) / temperature);
  }
}

void Sampler::keep_top_p(double top_p) {
  if (top_p >= 1) return;
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.value;
  // The few that matter are usually far fewer than the vocabulary: sort so many, and more only where they do not reach.
  double sum = 0;
  std::size_t kept = 0;
  for (std::size_t sorted = 0, next = 64; sum < top_p * total && sorted < candidates_.size(); next *= 4) {
    const std::size_t end = std::min(next, candidates_.size());
    const auto at = [this](std::size_t index) { return candidates_.begin() + static_cast<std::ptrdiff_t>(index); };
    std::partial_sort(at(sorted), at(end), candidates_.end(), kByRank);
    for (; kept < end && sum < top_p * total; ++kept) sum += candidates_[kept].value;
    sorted = end;
  }
  candidates_.resize(kept);
  std::sort(candidates_.begin(), candidates_.end(), kByToken);
}

void Sampler::keep_min_p(double min_p) {
  if (min_p <= 0) return;
  std::erase_if(candidates_, [min_p](const Candidate& candidate) { return candidate.value < min_p; });
}

std::int32_t Sampler::draw(double uniform) const {
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.value;
  const double drawn = uniform * total;
  double sum = 0;
  std::int32_t last = 0;
  for (const Candidate& candidate : candidates_) {
    if (candidate.value <= 0) continue;
    sum += candidate.value;
    last = candidate.token;
    if (drawn < sum) break;
  }
  return last;  // rounding may leave the sum short of what was drawn by a little: then the last one
}

std::optional<std::int32_t> Sampler::choose(const Sampling& sampling, std::int64_t sample,
                                            std::span<const float> logits, std::span<const std::int32_t> tokens,
                                            std::int64_t place) {
  const bool as_they_are = sampling.logit_bias.empty() && sampling.repetition_penalty == 1;
  if (sampling.temperature == 0 && as_they_are) return largest_of(logits);
  gather(sampling, logits, tokens);
  if (candidates_.empty()) return std::nullopt;
  if (sampling.temperature == 0) return largest();
  keep_top_k(sampling.top_k);
  to_weights(sampling.temperature);
  keep_top_p(sampling.top_p);
  keep_min_p(sampling.min_p);
  return draw(uniform(sampling.seed, sample, place));
}

double log_probability(std::span<const float> logits, std::int32_t token) {
  const double most = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - most);
  return static_cast<double>(logits[static_cast<std::size_t>(token)]) - most - std::log(sum);
}

}  // namespace tilewise::runtime
