// Scores as sums whose factors and offsets do not belong to the entry.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "variant/build.h"
#include "variant/graph.h"
#include "variant/hoist.h"
#include "variant/operations/operations.h"

namespace tilewise::variant {

/// A sum: factors times values, where a value belongs to the entry and its factor (none is 1) to a narrower class, and
/// an offset of each narrower class.
struct Form {
  struct Term {
    NodeId factor, value;
  };
  std::vector<Term> terms;
  std::array<NodeId, 4> offsets{kNoNode, kNoNode, kNoNode, kNoNode};  // by Hoist
};

/// A graph that grows, the classes of its nodes, and sums and products of forms in it.
class Forms {
 protected:
  explicit Forms(Graph graph) : graph_(std::move(graph)), classes_(hoisting_classes(graph_)) {}

  // ---- Nodes, with their classes.

  /// A node that the graph has just been given.
  NodeId added(NodeId id);
  NodeId constant(double value) { return added(graph_.add_constant(Type::real, value)); }
  template <class Operation, class... Operand>
  NodeId operation(Operand... operand) {
    const std::array<NodeId, sizeof...(operand)> operands{operand...};
    return added(make_operation(graph_, number_of<Operation>, operands));
  }
  bool is_hoisted(NodeId id) const { return classes_[id] != Hoist::entry; }
  bool stay_hoisted(NodeId a, NodeId b) const { return joined(classes_[a], classes_[b]) != Hoist::entry; }
  NodeId product(NodeId a, NodeId b);

  // ---- Forms.

  Form form_of(NodeId id) const;
  /// What is the same for all goes into another offset, if there is one.
  Form gathered(Form form);
  /// The offset of a form that is the same for all keys of a query, which the form is left without.
  static NodeId taken_of_query(Form& form);
  /// Added to `sum`, if there is one.
  NodeId sum_of_terms(const Form& form, NodeId sum = kNoNode);
  NodeId node_of(const Form& any_form);
  /// What is linear in keys as what queries and diagonals are left with: key = query - (query - key).
  Form without_keys(const Form& form);

  Form sum(Form a, const Form& b);
  Form product(const Form& a, const Form& b);
  /// `by` is hoisted.
  Form times(Form form, NodeId by);
  Form reciprocal(const Form& a) { return form_of(operation<Division>(constant(1), node_of(a))); }

  Graph graph_;
  std::vector<Hoist> classes_;  // [nodes]

 private:
  NodeId hoisted_node(const Form& form) const;
  std::optional<Form> by_queries(NodeId id);
  Form real_of_key(NodeId key_coordinate);
};

}  // namespace tilewise::variant
