// Weights of a strip recomputed from lse, and the gradients of its scores: what the backward pass makes of two
// products.
#pragma once

#include <cstdint>

#include "cpu/block.h"
#include "cpu/exp2.h"
#include "cpu/subnormals.h"
#include "cpu/units.h"

namespace tilewise::cpu {

/// Numbers of the rows of a strip, [kStrip] each; see Prepared::Block.
struct RowNumbers {
  const float *reference, *delta, *share;
};

/// What a strip's entries are made of, rows dense: [keys][kStrip] each.
struct EntryRows {
  const float *scores, *d_weights;
  const float* factors;  // of dropout: 0 or 1 / p_keep; null: none
};

/// Where they go, rows `stride` floats apart.
struct DerivedRows {
  float *weights, *d_scores;
  std::int64_t stride;

  TILEWISE_INLINE DerivedRows from(std::int64_t key) const {
    return {weights + key * stride, d_scores + key * stride, stride};
  }
};

/// weights = exp(score - lse), d_scores = weights (d_weights - delta), of one strip.
template <class Engine>
class Differentiation {
 public:
  /// `natural` as in ScoreUnits.
  TILEWISE_INLINE Differentiation(const RowNumbers& rows, double natural)
      : exp2_(kLog2E), natural_(Lanes::broadcast(static_cast<float>(natural))) {
    for (int n = 0; n < kVectors; ++n) {
      references_[n] = Lanes::load(rows.reference + n * Lanes::kWidth);
      deltas_[n] = Lanes::load(rows.delta + n * Lanes::kWidth);
    }
  }

  /// kDrops: d_weights and then the weights are multiplied by the factors. kGuards: a weight of 0 gives a d_score of 0
  /// even where d_weights is not finite.
  template <bool kDrops, bool kGuards>
  void rows(const EntryRows& entries, int keys, const DerivedRows& to) const {
    const FlushedSubnormals<Flushed::all> flushed;
    for (int key = 0; key < keys; ++key) {
#pragma GCC unroll 8
      for (int n = 0; n < kVectors; ++n) {
        const std::int64_t dense = key * kStrip + n * Lanes::kWidth, at = key * to.stride + n * Lanes::kWidth;
        const Vec weight = weight_of(entries.scores + dense, n);
        Vec d_weight = Lanes::load(entries.d_weights + dense), kept_weight = weight;
        if constexpr (kDrops) {
          const Vec factor = Lanes::load(entries.factors + dense);
          d_weight = Lanes::mul(d_weight, factor);
          kept_weight = Lanes::mul(weight, factor);
        }
        Lanes::store(to.weights + at, kept_weight);
        const Vec d_score = Lanes::mul(weight, Lanes::sub(d_weight, deltas_[n]));
        Lanes::store(to.d_scores + at, kGuards ? Lanes::zero_where_zero(weight, d_score) : d_score);
      }
    }
  }

  /// Two keys, or one where there is no other, without dropout or guards, as operands: rows of queries to `to`, and to
  /// `pairs` [kStrip] the d_scores as the right side of d_q.
  template <bool kTwo = true>
  TILEWISE_INLINE void pack(const float* scores, const float* d_weights, const DerivedRows& to, float* pairs) const {
    Vec even[kVectors], odd[kVectors];
    pack_row(scores, d_weights, to, even);
    if constexpr (kTwo) {
      pack_row(scores + kStrip, d_weights + kStrip, to.from(1), odd);
    } else {
      for (Vec& x : odd) x = Lanes::zero();
    }
#pragma GCC unroll 8
    for (int n = 0; n < kVectors; ++n) Lanes::store(pairs + n * Lanes::kWidth, Lanes::pair(even[n], odd[n]));
  }

 private:
  using Lanes = typename Engine::Lanes;
  using Vec = typename Lanes::Vec;
  static constexpr int kVectors = Engine::kVectors, kStrip = Engine::kStrip;

  TILEWISE_INLINE Vec weight_of(const float* score, int n) const {
    return exp2_(Lanes::fms(Lanes::load(score), natural_, references_[n]));
  }

  TILEWISE_INLINE void pack_row(const float* scores, const float* d_weights, const DerivedRows& to,
                                Vec (&d_score)[kVectors]) const {
    Vec weight[kVectors];
#pragma GCC unroll 8
    for (int n = 0; n < kVectors; ++n) {
      weight[n] = weight_of(scores + n * Lanes::kWidth, n);
      d_score[n] = Lanes::mul(weight[n], Lanes::sub(Lanes::load(d_weights + n * Lanes::kWidth), deltas_[n]));
    }
    Engine::pack_row(weight, to.weights);
    Engine::pack_row(d_score, to.d_scores);
  }

  Exp2<Lanes> exp2_;
  Vec natural_, references_[kVectors], deltas_[kVectors];
};

/// Differentiation::rows once more, entry by entry, for odd rows: those whose lse or delta is NaN, which must not reach
/// what they do not keep, or whose lse is too large to tell weights by.
template <class Engine>
void differentiate_odd(const RowNumbers& rows, double natural, const EntryRows& entries, int keys, bool guards,
                       const DerivedRows& to) {
  constexpr int kStrip = Engine::kStrip;
  for (int i = 0; i < kStrip; ++i) {
    if (rows.share[i] == 0) continue;
    const double reference = double{rows.reference[i]} * natural;
    for (int key = 0; key < keys; ++key) {
      const std::int64_t dense = key * kStrip + i, at = key * to.stride + i;
      const float score = entries.scores[dense], factor = entries.factors != nullptr ? entries.factors[dense] : 1;
      const float exponent = static_cast<float>(double{score} * natural - reference);
      const float weight = score == -__builtin_inff() ? 0.0f : __builtin_expf(exponent) * rows.share[i];
      // Where a program has clamped the score its derivative is 0.
      const bool passes = !(weight == 0 || (guards && score <= -0x1p126f));
      to.weights[at] = weight * factor;
      to.d_scores[at] = passes ? weight * (entries.d_weights[dense] * factor - rows.delta[i]) : 0.0f;
    }
  }
}

}  // namespace tilewise::cpu
