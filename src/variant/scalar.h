// The scalar reading: the value of every node at one entry. It is the meaning itself, and the oracle of the others.
#pragma once

#include <cstdint>
#include <vector>

#include "variant/bindings.h"
#include "variant/graph.h"
#include "variant/place.h"

namespace tilewise::variant {

/// A value of any type; which member is live follows from the node's type.
template <class Real>
union Value {
  Real real;
  std::int32_t int32;
  bool boolean;
};

/// The value of an operation from its operands' values. `operand_type` is the type of its last operand.
template <class Real>
Value<Real> evaluate_operation(std::int32_t number, Type operand_type, const Value<Real>* operands);

/// Evaluates a graph for real = float32 or float64. Holds the values of one entry; make one for each thread.
template <class Real>
class ScalarReading {
 public:
  /// Keeps references to both.
  ScalarReading(const Graph& graph, const Bound& bound);

  /// Evaluates the nodes that `root` needs and returns the root's value. Values persist until `enter`.
  Value<Real> evaluate(NodeId root);

  /// Moves to an entry.
  void enter(const Place& place);

  /// Sets the score (the value of the score leaf) and the adjoint's seed, forgetting what depended on them.
  void set_score(Real score);
  void set_seed(Real seed);

 private:
  void forget();
  Value<Real> value_of(const Node& node) const;    // its operands' values being known
  Value<Real> element_of(const Node& read) const;  // likewise

  const Graph& graph_;
  const Bound& bound_;
  Place place_{};
  Real score_ = 0;
  Real seed_ = 0;
  std::vector<Value<Real>> values_;   // [nodes]
  std::vector<std::uint32_t> known_;  // [nodes], equal to epoch_ where values_ holds
  std::uint32_t epoch_ = 1;
  std::vector<NodeId> path_;  // of evaluate, kept for its memory
};

}  // namespace tilewise::variant
