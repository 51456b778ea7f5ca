// Expressions as text, with as few parentheses, casts and points as reading them back allows.
#pragma once

#include <string>
#include <vector>

#include "variant/graph.h"

namespace tilewise::variant {

/// What the parts of a graph are called.
struct Names {
  std::vector<std::string> tables;      // [graph.tables()]
  std::vector<std::string> parameters;  // [graph.parameters()]
  std::vector<std::string> parts;       // [nodes], empty for those written where they are used
};

class ExpressionPrinter {
 public:
  /// Keeps references to both.
  ExpressionPrinter(const Graph& graph, const Names& names) : graph_(graph), names_(names) {}

  /// The text of a node. `promoted`: it stands where an int becomes a real by itself.
  std::string text(NodeId node, bool promoted);

  /// The text of a named part's definition.
  std::string definition(NodeId node);

 private:
  void write(NodeId node, int binding, bool promoted);
  void write_whole(NodeId node, int binding, bool promoted);
  void write_number(const Node& node, int binding, bool promoted, bool baked);
  void write_operation(const Node& node, int binding);
  void write_operand(const Node& node, std::size_t place, int binding);
  void write_list(const Node& node);
  bool reads_as_promoted(NodeId node) const;
  bool is_promoted(const Node& node, std::size_t place) const;
  std::size_t anchor(const Node& node) const;

  const Graph& graph_;
  const Names& names_;
  std::string out_;
};

}  // namespace tilewise::variant
