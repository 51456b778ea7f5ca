// Gradients through a variant: from scores as the stages left them back to q.k, tables and parameters.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "variant/adjoint.h"
#include "variant/call.h"
#include "variant/scalar.h"

namespace tilewise::reference {

/// d(loss)/d(table elements) and d(loss)/d(parameters), summed over everything that was differentiated.
template <class Real>
struct VariantGradients {
  std::vector<std::vector<Real>> tables;  // [tables], each row-major over the bound extents; none for tables of ints
  std::vector<Real> parameters;           // [parameters]
};

/// Differentiates a variant for one call. Keeps references to both.
template <class Real>
class Derivatives {
 public:
  Derivatives(const Variant& variant, const variant::Call& call);

  /// Moves to a head of a sequence; the functions below are about its entries.
  void enter_head(std::int64_t sequence, std::int64_t head);

  /// Whether stages change scores, so that q k^T is needed to differentiate them.
  bool reads_scores() const { return !stages_.empty(); }

  /// d(loss)/d(raw score) of an entry that the stages keep, from the raw score and d(loss)/d(score after all stages).
  Real of_score(std::int64_t query, std::int64_t key, Real raw, Real d_score);

  /// Takes in d(loss)/d(the sink's logit).
  void of_sink(Real d_sink);

  const VariantGradients<Real>& gradients() const { return gradients_; }

 private:
  /// A score stage or the sink, with a reading that evaluates both it and its derivative.
  struct Stage {
    Stage(const variant::Graph& graph, variant::NodeId result, const variant::Bound& bound)
        : root(result), adjoint(variant::adjoint(graph, result)), reading(adjoint.graph, bound) {}
    variant::NodeId root;
    variant::StageAdjoint adjoint;
    variant::ScalarReading<Real> reading;  // of adjoint.graph: a Stage stays where it is
    bool clamped = false;                  // at the entry in hand
  };

  /// Adds what a stage gives its tables and parameters, for the entry and seed that its reading holds.
  void add_contributions(Stage& stage);

  const variant::Call& call_;
  std::vector<std::unique_ptr<Stage>> stages_;  // those that change scores, in order
  std::unique_ptr<Stage> sink_;                 // null without one
  VariantGradients<Real> gradients_;
  std::int64_t sequence_ = 0;
  std::int64_t head_ = 0;
};

}  // namespace tilewise::reference
