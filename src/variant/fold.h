// Folding: a simpler node with the same value, in every reading and for every value of the slots.
#pragma once

#include "variant/graph.h"

namespace tilewise::variant {

/// The node that `node` (an operation with typed operands) can be replaced by, or kNoNode. Constants are evaluated
/// where float32 and float64 agree on the result; identities are used only where they hold bit for bit (x - 0 is x,
/// x + 0 is not: it turns -0 into 0). Literals are never folded, since another value may be bound to them.
NodeId fold(Graph& graph, const Node& node);

}  // namespace tilewise::variant
