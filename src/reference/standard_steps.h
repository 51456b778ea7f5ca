// The steps of standard attention that are not matrix products, each for all entries of one head.
#pragma once

#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "reference/derivatives.h"
#include "reference/entries.h"
#include "reference/matrix.h"
#include "reference/softmax.h"

namespace tilewise::reference {

template <class Real>
struct Weights {
  Matrix<Real> p;         // [s_q, s_kv], or [s_q, s_kv + 1] with a sink, whose weights are the last column
  std::vector<Real> lse;  // [s_q]
  Real max_score;         // the largest scale * q.k of an entry that is not removed; -inf without one
};

/// Row by row: the variant's scores, the sink behind them, softmax. `s` is q k^T, [s_q, s_kv].
template <class Real>
Weights<Real> weights_of(const Matrix<Real>& s, Entries<Real>& entries) {
  Weights<Real> weights{
      Matrix<Real>(s.rows(), s.columns() + (entries.has_sink() ? 1 : 0)), {}, -std::numeric_limits<Real>::infinity()};
  const auto keys = static_cast<std::size_t>(s.columns());
  for (std::int64_t i = 0; i < s.rows(); ++i) {
    const auto row = weights.p.row(i);
    for (std::size_t j = 0; j < keys; ++j) {
      row[j] = entries.score(i, static_cast<std::int64_t>(j), s.row(i)[j]);
      const Real product = entries.scaled(s.row(i)[j]);
      if (row[j] != -std::numeric_limits<Real>::infinity() && product > weights.max_score) weights.max_score = product;
    }
    if (entries.has_sink()) row[keys] = entries.sink();
    weights.lse.push_back(softmax(row));
  }
  return weights;
}

/// Each weight times what dropout makes of it, [s_q, s_kv]: what is multiplied with v. It is rounded like anything that
/// a matrix product takes.
template <class Precision, class Real = typename Precision::Real>
Matrix<Real> dropped(const Matrix<Real>& p, const Entries<Real>& entries, std::int64_t keys) {
  Matrix<Real> result(p.rows(), keys);
  for (std::int64_t i = 0; i < p.rows(); ++i) {
    for (std::int64_t j = 0; j < keys; ++j) {
      const auto column = static_cast<std::size_t>(j);
      const Real factor = entries.dropout_factor(i, j);
      result.row(i)[column] = factor == 0 ? Real{0} : Precision::stored(p.row(i)[column] * factor);
    }
  }
  return result;
}

/// Row by row: dropout's, softmax's and the variant's derivative. From the weights p (the sink's last), q k^T, the
/// gradients in dropped weights and in lse to those in q k^T, all but lse's [s_q, s_kv].
template <class Real>
Matrix<Real> d_scores_of(const Matrix<Real>& p, const Matrix<Real>& s, const Matrix<Real>& d_dropped,
                         const std::vector<Real>& d_lse, const Entries<Real>& entries, Derivatives<Real>& derivatives) {
  Matrix<Real> d_s(d_dropped.rows(), d_dropped.columns());
  const auto keys = static_cast<std::size_t>(d_s.columns());
  for (std::int64_t i = 0; i < d_s.rows(); ++i) {
    const auto weights = p.row(i);
    std::vector<Real> d(weights.size(), 0);  // the sink's weight has no value to multiply, so no gradient
    for (std::size_t j = 0; j < keys; ++j) {
      const Real factor = entries.dropout_factor(i, static_cast<std::int64_t>(j));
      d[j] = factor == 0 ? Real{0} : factor * d_dropped.row(i)[j];
    }
    differentiate_softmax<Real>(weights, d_lse[static_cast<std::size_t>(i)], d);
    for (std::size_t j = 0; j < keys; ++j) {
      if (weights[j] != 0) d_s.row(i)[j] = derivatives.of_score(i, static_cast<std::int64_t>(j), s.row(i)[j], d[j]);
    }
    if (entries.has_sink() && weights[keys] != 0) derivatives.of_sink(d[keys]);
  }
  return d_s;
}

}  // namespace tilewise::reference
