// Choosing a token from logits.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "tilewise/generate.h"

namespace tilewise::runtime {

/// Throws Error(invalid_argument) on a value outside of what Sampling says, and on biased tokens outside of the
/// vocabulary or named twice.
void expect_valid(const Sampling& sampling, std::int64_t vocabulary);

/// Chooses as Sampling says. Has scratch memory: one for each thread.
class Sampler {
 public:
  /// The token behind `tokens` as generated token number `place` of a sample; nullopt where none can be chosen: every
  /// logit is -inf or NaN, or forbidden by its bias. A logit that is NaN is never chosen. `sampling` must be valid.
  std::optional<std::int32_t> choose(const Sampling& sampling, std::int64_t sample,
                                     std::span<const float> logits,         // [vocabulary]
                                     std::span<const std::int32_t> tokens,  // [n], prompt and generated ones
                                     std::int64_t place);

 private:
  struct Candidate {
    std::int32_t token;
    double value;  // the logit, then its weight relative to the largest
  };

  /// Candidates with bias and penalty; those that cannot be chosen left out.
  void gather(const Sampling& sampling, std::span<const float> logits, std::span<const std::int32_t> tokens);
  std::int32_t largest() const;
  void keep_top_k(std::int64_t top_k);
  void to_weights(double temperature);
  void keep_top_p(double top_p);
  void keep_min_p(double min_p);
  std::int32_t draw(double uniform) const;

  std::vector<Candidate> candidates_{};
  std::vector<double> logits_{};  // [vocabulary]
};

/// The natural log of a token's probability under logits as they are; NaN where one of them is.
double log_probability(std::span<const float> logits, std::int32_t token);  // logits [vocabulary]

}  // namespace tilewise::runtime
