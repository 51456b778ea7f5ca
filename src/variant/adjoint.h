// The adjoint reading: a stage's derivative, as a graph.
//
// For a result y = f(score, tables, parameters) and a seed d(loss)/dy, it gives d(loss)/d(score in), d(loss)/d(each
// element read), d(loss)/d(each real parameter). Literals are not differentiated, nor is anything through an int or a
// bool. At a kink it takes one side: min and max the second operand's where both are equal, abs 0 at 0, floor 0.
//
// What belongs to the entry and not to the function is left to whoever runs it:
// - an entry that is removed, or whose weight is 0, contributes nothing: its seed is 0;
// - where a stage's result was clamped to -2^126, the clamp has derivative 0: the seed of that stage is 0;
// - stages are run last to first, each one's `d_score` being the seed of the one before.
// A seed of 0 gives exactly 0 everywhere, whatever values and derivatives are infinite or NaN at that entry.
#pragma once

#include <cstdint>
#include <vector>

#include "variant/graph.h"

namespace tilewise::variant {

/// What a read contributes to its element's gradient: `value`, added at the indices that `graph[read]` reads (its
/// operands, clamped to the extents where it is clamped).
struct TableGradient {
  std::int32_t table;  // into Graph::tables
  NodeId read;
  NodeId value;  // a real
};

struct ParameterGradient {
  std::int32_t parameter;  // into Graph::parameters
  NodeId value;            // a real, of one entry: summed over all of them
};

struct StageAdjoint {
  /// The graph that was given, followed by the nodes of the derivative. Node ids, tables, parameters and literals'
  /// slots of the original hold in it, so one Bound serves both and values of the forward pass are there to be shared.
  Graph graph;
  NodeId seed = kNoNode;              // none where nothing below needs it
  NodeId d_score = kNoNode;           // a real; none where the result does not depend on the score: its derivative is 0
  std::vector<TableGradient> tables;  // one for each read with a gradient, in the order of their nodes
  std::vector<ParameterGradient> parameters;  // one for each parameter with a gradient, in the order of their nodes
};

/// The derivative of the real `root`: of a score stage or a sink. Throws Error where it is no real.
StageAdjoint adjoint(const Graph& graph, NodeId root);

}  // namespace tilewise::variant
