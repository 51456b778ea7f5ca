// Values that conditions choose, as trees of selections.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "variant/graph.h"

namespace tilewise::variant {

/// The adjoint of min, max and select makes a slope a sum of selections, of which all but one are 0. Decided one
/// condition after the other, such a sum is one selection for each: of min(a, select(s < b, s, s - 1)) one is left, of
/// five.
///
/// What is not chosen counts as 0, as adjoints have it: 0 * x is 0, whatever x.
class Decisions {
 public:
  /// The node of an operation in the graph.
  using Make = std::function<NodeId(std::int32_t number, std::span<const NodeId> operands)>;
  /// Whether a node is made once for many entries.
  using IsHoisted = std::function<bool(NodeId)>;

  Decisions(Graph& graph, Make make, IsHoisted is_hoisted)
      : graph_(graph), make_(std::move(make)), is_hoisted_(std::move(is_hoisted)) {}

  /// A node of the same value: a tree of selections, or `root` where that takes no fewer operations of an entry.
  NodeId tree(NodeId root);

 private:
  using Renamed = std::unordered_map<NodeId, NodeId>;

  NodeId decided(NodeId root);
  /// Conditions that choose parts of a node.
  std::set<NodeId> conditions_of(NodeId root) const;
  /// The node where a condition is true, or false.
  NodeId where(NodeId id, NodeId condition, bool is_true, Renamed& known);
  NodeId simplified(const Node& node, std::span<const NodeId> operands);
  /// Whether what a node is made of is looked into: sums and products of what is chosen, and what compares them with
  /// a number, but not what compares scores.
  bool is_looked_into(NodeId id) const;
  int operations_of(NodeId root) const;

  Graph& graph_;
  Make make_;
  IsHoisted is_hoisted_;
};

}  // namespace tilewise::variant
