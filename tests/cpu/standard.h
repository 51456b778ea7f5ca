// Standard attention (the whole score matrix at once) of one head and its gradients, in float or double.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "tests/cpu/problem.h"

namespace tilewise::cpu::testing {

/// One head's inputs. Rows of q from `gqa` query heads may share k and v; each is a Head of its own.
struct Head {
  const Matrix* q;  // [s_q, d_qk]
  const Matrix* k;  // [s_kv, d_qk]
  const Matrix* v;  // [s_kv, d_v]
  TestVariant variant;
  double scale = 1;
  const float* sink = nullptr;
  std::function<double(std::int64_t query, std::int64_t key)> dropout;  // what a weight is multiplied by; empty: 1
};

template <class Real>
struct Forward {
  std::vector<double> o;    // [s_q, d_v]
  std::vector<double> lse;  // [s_q]
};

/// Scores before the variant, row `query`: [s_kv].
template <class Real>
std::vector<Real> raw_scores(const Head& head, std::int64_t query) {
  std::vector<Real> scores(static_cast<std::size_t>(head.k->rows()));
  for (std::int64_t key = 0; key < head.k->rows(); ++key) {
    Real sum = 0;
    for (std::int64_t i = 0; i < head.q->columns(); ++i) {
      sum += static_cast<Real>(head.q->at(query, i)) * static_cast<Real>(head.k->at(key, i));
    }
    scores[static_cast<std::size_t>(key)] = sum * static_cast<Real>(head.scale);
  }
  return scores;
}

/// Weights of row `query` from its raw scores, dropout left out; sets lse.
template <class Real>
std::vector<Real> softmax(const Head& head, std::int64_t query, std::vector<Real> scores, Real* lse) {
  const Real lowest = -std::numeric_limits<Real>::infinity();
  Real maximum = head.sink != nullptr ? static_cast<Real>(*head.sink) : lowest;
  for (std::size_t key = 0; key < scores.size(); ++key) {
    const bool kept = head.variant.kept(query, static_cast<std::int64_t>(key));
    scores[key] = kept ? static_cast<Real>(head.variant.score(scores[key])) : lowest;
    maximum = std::max(maximum, scores[key]);
  }
  Real sum = head.sink != nullptr && maximum != lowest ? std::exp(static_cast<Real>(*head.sink) - maximum) : 0;
  for (Real& score : scores) {
    score = maximum == lowest ? 0 : std::exp(score - maximum);
    sum += score;
  }
  for (Real& score : scores) score = sum == 0 ? 0 : score / sum;
  *lse = sum == 0 ? lowest : maximum + std::log(sum);
  return scores;
}

template <class Real>
Forward<Real> standard_forward(const Head& head) {
  Forward<Real> result;
  for (std::int64_t query = 0; query < head.q->rows(); ++query) {
    Real lse;
    std::vector<Real> weights = softmax<Real>(head, query, raw_scores<Real>(head, query), &lse);
    result.lse.push_back(static_cast<double>(lse));
    std::vector<Real> o(static_cast<std::size_t>(head.v->columns()), 0);
    for (std::size_t key = 0; key < weights.size(); ++key) {
      if (weights[key] == 0) continue;
      const auto row = static_cast<std::int64_t>(key);
      const Real weight = weights[key] * static_cast<Real>(head.dropout ? head.dropout(query, row) : 1.0);
      for (std::size_t i = 0; i < o.size(); ++i)
        o[i] += weight * static_cast<Real>(head.v->at(row, static_cast<int>(i)));
    }
    result.o.insert(result.o.end(), o.begin(), o.end());
  }
  return result;
}

}  // namespace tilewise::cpu::testing
