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
  DType dtype = DType::float32;                                         // in which all tensors but lse are stored
  DType operand = DType::float32;  // to which products round weights and their gradients
};

struct Forward {
  std::vector<double> o;    // [s_q, d_v]
  std::vector<double> lse;  // [s_q]
};

/// What a product takes of a value: float arithmetic has the kernel's operand type, double is exact.
template <class Real>
Real as_operand(const Head& head, Real value) {
  if constexpr (std::is_same_v<Real, float>) return rounded(value, head.operand);
  return value;
}

inline Shape shape_of(const Head& head) {
  return {head.q->rows(), head.k->rows(), static_cast<int>(head.q->columns()), static_cast<int>(head.v->columns())};
}

/// Runs all forward tasks of a head; o: [s_q, d_v], lse: [s_q].
inline void run_forward(const Kernels& kernels, const Head& head, const DropoutHook& dropout, Matrix& o,
                        std::vector<float>& lse) {
  const Hooks hooks(head.variant);
  const Shape shape = shape_of(head);
  Workspace workspace(kernels.forward_floats(shape));
  const Stored q(*head.q, head.dtype), k(*head.k, head.dtype), v(*head.v, head.dtype);
  Stored stored_o(o, head.dtype);
  for (std::int64_t begin = 0; begin < shape.s_q; begin += kernels.tile_queries) {
    ForwardTask task;
    task.shape = shape;
    task.query_begin = begin;
    task.query_end = std::min(shape.s_q, begin + kernels.tile_queries);
    task.q = q.view();
    task.k.rows = k.view();
    task.v.rows = v.view();
    task.o = stored_o.mutable_view();
    task.lse = lse.data();
    task.scale = static_cast<float>(head.scale);
    task.sink = head.sink;
    task.walk = hooks.walk();
    task.score = hooks.score();
    task.dropout = dropout;
    task.workspace = workspace.data();
    kernels.forward(task);
  }
  stored_o.copy_to(o);
  EXPECT_TRUE(workspace.guard_untouched());
}

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
Forward standard_forward(const Head& head) {
  Forward result;
  for (std::int64_t query = 0; query < head.q->rows(); ++query) {
    Real lse;
    std::vector<Real> weights = softmax<Real>(head, query, raw_scores<Real>(head, query), &lse);
    result.lse.push_back(static_cast<double>(lse));
    std::vector<Real> o(static_cast<std::size_t>(head.v->columns()), 0);
    for (std::size_t key = 0; key < weights.size(); ++key) {
      if (weights[key] == 0) continue;
      const auto row = static_cast<std::int64_t>(key);
      const Real weight =
          as_operand(head, weights[key] * static_cast<Real>(head.dropout ? head.dropout(query, row) : 1.0));
      for (std::size_t i = 0; i < o.size(); ++i)
        o[i] += weight * static_cast<Real>(head.v->at(row, static_cast<int>(i)));
    }
    result.o.insert(result.o.end(), o.begin(), o.end());
  }
  return result;
}

/// Gradients of one head; those of k and v are added to what is there, so that heads can share them.
struct Gradients {
  std::vector<double> q, k, v;  // [s_q, d_qk], [s_kv, d_qk], [s_kv, d_v]
};

/// d_o: [s_q, d_v]; d_lse: [s_q], or empty for zero. Weights come from lse, because lse in its own precision is all
/// that a backward pass is given: half a unit in its last place shifts every weight of the row.
template <class Real>
void standard_backward(const Head& head, const Matrix& d_o, const std::vector<float>& d_lse, Gradients* d) {
  const std::int64_t s_kv = head.k->rows(), d_qk = head.q->columns(), d_v = head.v->columns();
  d->q.assign(static_cast<std::size_t>(head.q->rows() * d_qk), 0);
  d->k.resize(static_cast<std::size_t>(s_kv * d_qk));
  d->v.resize(static_cast<std::size_t>(s_kv * d_v));
  const auto add = [](double& sum, Real term) { sum = static_cast<double>(static_cast<Real>(sum) + term); };
  const auto factor = [&](std::int64_t query, std::int64_t key) {
    return static_cast<Real>(head.dropout ? head.dropout(query, key) : 1.0);
  };
  for (std::int64_t query = 0; query < head.q->rows(); ++query) {
    const std::vector<Real> raw = raw_scores<Real>(head, query);
    Real lse;
    std::vector<Real> weights = softmax<Real>(head, query, raw, &lse);
    for (std::size_t key = 0; key < weights.size(); ++key) {
      if (weights[key] == 0) continue;
      weights[key] = std::exp(static_cast<Real>(head.variant.score(static_cast<double>(raw[key]))) - lse);
    }
    std::vector<Real> d_weights(weights.size(), 0);
    Real delta = d_lse.empty() ? 0 : -static_cast<Real>(d_lse[static_cast<std::size_t>(query)]);
    for (std::int64_t key = 0; key < s_kv; ++key) {
      const auto at = static_cast<std::size_t>(key);
      if (weights[at] == 0) continue;
      Real sum = 0;
      for (std::int64_t i = 0; i < d_v; ++i) {
        sum += static_cast<Real>(d_o.at(query, i)) * static_cast<Real>(head.v->at(key, i));
        add(d->v[static_cast<std::size_t>(key * d_v + i)],
            as_operand(head, weights[at] * factor(query, key)) * static_cast<Real>(d_o.at(query, i)));
      }
      d_weights[at] = sum * factor(query, key);
    }
    for (std::int64_t i = 0; i < d_v; ++i) {
      Real o = 0;
      for (std::int64_t key = 0; key < s_kv; ++key) {
        const Real weight = weights[static_cast<std::size_t>(key)];
        if (weight != 0) o += as_operand(head, weight * factor(query, key)) * static_cast<Real>(head.v->at(key, i));
      }
      if constexpr (std::is_same_v<Real, float>) o = rounded(o, head.dtype);
      delta += static_cast<Real>(d_o.at(query, i)) * o;
    }
    for (std::int64_t key = 0; key < s_kv; ++key) {
      const auto at = static_cast<std::size_t>(key);
      if (weights[at] == 0) continue;
      const Real d_score =
          static_cast<Real>(head.scale) *
          as_operand(head, weights[at] * (d_weights[at] - delta) *
                               static_cast<Real>(head.variant.derivative(static_cast<double>(raw[at]))));
      for (std::int64_t i = 0; i < d_qk; ++i) {
        add(d->q[static_cast<std::size_t>(query * d_qk + i)], d_score * static_cast<Real>(head.k->at(key, i)));
        add(d->k[static_cast<std::size_t>(key * d_qk + i)], d_score * static_cast<Real>(head.q->at(query, i)));
      }
    }
  }
}

}  // namespace tilewise::cpu::testing
