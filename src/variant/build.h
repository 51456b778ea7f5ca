// Typed construction: every node of a graph that is an operation or a read is made here, and nowhere else, so that
// recording, the textual form and the adjoint agree on types, promotion, literals and folding.
#pragma once

#include <span>

#include "variant/graph.h"

namespace tilewise::variant {

/// Whether a number written in a variant becomes a constant by its value: 0, +-1, +-inf.
bool shapes_the_code(double value);

/// Whether a number written as the operation's second operand becomes a constant: divisors, moduli, shifts, exponents.
bool bakes_second_operand(std::int32_t number);

/// The node of a number written in a variant. Values that shape the code become constants, all others lifted literals.
/// Throws on NaN.
NodeId make_number(Graph& graph, Type type, double value);

/// The node of an operation: promotes ints to real where its rule asks for it, checks types, bakes in divisors, moduli,
/// shifts and exponents, folds what can be folded without changing any value. Throws Error naming the operation, the
/// operand, its type and what was expected.
NodeId make_operation(Graph& graph, std::int32_t number, std::span<const NodeId> operands);

/// The node of a table read; each index must be an int, and their number the table's rank.
NodeId make_read(Graph& graph, const Table& table, std::span<const NodeId> indices, bool clamped);

/// The node as a real: itself, or a promoted int. Throws where it is a bool; `what` names it in the message.
NodeId make_real(Graph& graph, NodeId node, std::string_view what);

}  // namespace tilewise::variant
