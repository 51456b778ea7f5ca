// The recording that is open on this thread: where operators on Expr put their nodes.
#pragma once

#include "variant/graph.h"

namespace tilewise::variant {

/// While it lives, expressions on this thread are recorded into its graph. Recordings nest; the innermost is open.
class Recording {
 public:
  Recording();
  explicit Recording(Graph graph);  ///< Goes on recording into an existing graph.
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  /// The open recording; throws Error where there is none.
  static Recording& current();

  Graph& graph() { return graph_; }
  Expr handle(NodeId node) const { return Expr(node, serial_); }

  /// The node behind a handle; throws Error if the handle belongs to another recording.
  NodeId node_of(Expr expression) const;

  /// The symbolic arguments of a keep or score function.
  At at();

 private:
  Graph graph_;
  Recording* outer_;
  std::uint32_t serial_;
};

/// Expressions that are deeper than this many operations are refused, so that readings may recurse. A chain that long
/// is data in disguise, and belongs in a table.
inline constexpr int kMaxDepth = 1000;

/// A variant of the given stages: the graph is reduced to what the roots need, in canonical order. Throws where an
/// expression is deeper than kMaxDepth.
Variant make_variant(const Graph& graph, std::vector<Stage> stages, NodeId sink, std::optional<double> dropout);

/// Copies a variant behind what is already in `whole`: `whole & part`, not yet reduced. Throws where both have a sink,
/// or both dropout.
void append(Variant::Data& whole, const Variant::Data& part);

/// Checks that an expression depends on neither position nor score (a sink, an extent); throws naming `what`.
void expect_independent_of_entry(const Graph& graph, NodeId root, std::string_view what);

}  // namespace tilewise::variant
