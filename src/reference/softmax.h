// Softmax of one row of scores, and its derivative.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

namespace tilewise::reference {

/// Turns scores into weights and returns their lse, the logarithm of the sum of their exponentials. A score of -inf is
/// an entry that was removed: its weight is exactly 0. Where all are, so are the weights, and lse is -inf.
template <class Real>
Real softmax(std::span<Real> row) {
  constexpr Real kRemoved = -std::numeric_limits<Real>::infinity();
  if (std::ranges::all_of(row, [](Real score) { return score == kRemoved; })) {
    std::ranges::fill(row, Real{0});
    return kRemoved;
  }
  Real maximum = kRemoved;  // of all but NaN, which makes the sum NaN by itself
  for (Real score : row) maximum = score > maximum ? score : maximum;
  Real sum = 0;
  for (Real& score : row) {
    score = score == kRemoved ? Real{0} : std::exp(score - maximum);
    sum += score;
  }
  for (Real& weight : row) weight = weight == 0 ? Real{0} : weight / sum;
  return maximum + std::log(sum);
}

/// Turns the gradients in a row's weights into those in its scores, given that in lse. A weight of exactly 0 takes no
/// part and has a gradient of 0, whatever stood there.
template <class Real>
void differentiate_softmax(std::span<const Real> weights, Real d_lse, std::span<Real> gradients) {
  Real delta = 0;  // the mean of the gradients, by weight
  for (std::size_t j = 0; j < weights.size(); ++j) {
    if (weights[j] != 0) delta += weights[j] * gradients[j];
  }
  for (std::size_t j = 0; j < weights.size(); ++j) {
    gradients[j] = weights[j] == 0 ? Real{0} : weights[j] * (gradients[j] - delta + d_lse);
  }
}

}  // namespace tilewise::reference
