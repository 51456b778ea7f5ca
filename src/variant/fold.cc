#include "variant/fold.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "variant/operations/operations.h"
#include "variant/scalar.h"

namespace tilewise::variant {
namespace {

template <class Real>
double evaluated(const Graph& graph, const Node& node) {
  std::array<Value<Real>, kMaxOperands> operands{};
  for (std::size_t i = 0; i < node.operand_count; ++i) {
    const Node& operand = graph[node.operands[i]];
    switch (operand.type) {
      case Type::boolean: operands[i].boolean = operand.value != 0; break;
      case Type::int32: operands[i].int32 = static_cast<std::int32_t>(operand.value); break;
      case Type::real: operands[i].real = static_cast<Real>(operand.value); break;
    }
  }
  const Type operand_type = graph[node.operands[node.operand_count - 1]].type;
  const Value<Real> value = evaluate_operation(node.index, operand_type, operands.data());
  switch (node.type) {
    case Type::boolean: return value.boolean ? 1 : 0;
    case Type::int32: return value.int32;
    case Type::real: return value.real;
  }
  return 0;
}

NodeId fold_constants(Graph& graph, const Node& node) {
  const auto inputs = node.inputs();
  if (!std::all_of(inputs.begin(), inputs.end(), [&](NodeId id) { return graph[id].is_constant(); })) return kNoNode;
  const double wide = evaluated<double>(graph, node);
  const double narrow = evaluated<float>(graph, node);
  // One constant stands for both readings, so it must be exact in both: an inexact one would change float32's last
  // place. Compared as bits, because 0 and -0 are two values.
  const bool agree = std::bit_cast<std::uint64_t>(wide) == std::bit_cast<std::uint64_t>(narrow);
  return agree && !std::isnan(wide) ? graph.add_constant(node.type, wide) : kNoNode;
}

/// x op c = x, for the constants c on the right of which this is exact.
bool is_right_identity(std::int32_t number, Type type, const Node& right) {
  if (number == number_of<Subtraction>) return right.is_constant(0) && !std::signbit(right.value);
  if (number == number_of<Addition> || number == number_of<BitOr> || number == number_of<BitXor>) {
    return type == Type::int32 && right.is_constant(0);
  }
  if (number == number_of<ShiftUp> || number == number_of<ShiftDown>) return right.is_constant(0);
  if (number == number_of<Multiplication> || number == number_of<Division> || number == number_of<FloorDivision> ||
      number == number_of<Power>) {
    return right.is_constant(1);
  }
  if (number == number_of<Conjunction>) return right.is_constant(1);
  if (number == number_of<Disjunction>) return right.is_constant(0);
  return false;
}

bool commutes(std::int32_t number) {
  return number == number_of<Addition> || number == number_of<Multiplication> || number == number_of<Conjunction> ||
         number == number_of<Disjunction> || number == number_of<BitOr> || number == number_of<BitXor>;
}

NodeId fold_binary(Graph& graph, const Node& node) {
  const NodeId a = node.operands[0], b = node.operands[1];
  if (is_right_identity(node.index, node.type, graph[b])) return a;
  if (commutes(node.index) && is_right_identity(node.index, node.type, graph[a])) return b;
  const bool is_and = node.index == number_of<Conjunction>, is_or = node.index == number_of<Disjunction>;
  if (is_and || is_or) {
    if (a == b) return a;
    for (NodeId side : {a, b}) {
      if (graph[side].is_constant(is_and ? 0 : 1)) return side;
    }
  }
  const bool int_product = node.index == number_of<Multiplication> && node.type == Type::int32;
  if (int_product && (graph[a].is_constant(0) || graph[b].is_constant(0))) return graph.add_constant(Type::int32, 0);
  if (node.index == number_of<Modulo> && graph[b].is_constant(1)) return graph.add_constant(Type::int32, 0);
  return kNoNode;
}

NodeId fold_unary(const Graph& graph, const Node& node) {
  const Node& operand = graph[node.operands[0]];
  const bool inverse_of_itself =
      node.index == number_of<Negation> || node.index == number_of<Inversion> || node.index == number_of<BitNot>;
  if (inverse_of_itself && operand.kind == Kind::operation && operand.index == node.index) return operand.operands[0];
  return kNoNode;
}

NodeId fold_selection(const Graph& graph, const Node& node) {
  const Node& condition = graph[node.operands[0]];
  if (condition.is_constant()) return node.operands[condition.value != 0 ? 1 : 2];
  return node.operands[1] == node.operands[2] ? node.operands[1] : kNoNode;
}

}  // namespace

NodeId fold(Graph& graph, const Node& node) {
  if (const NodeId constant = fold_constants(graph, node); constant != kNoNode) return constant;
  if (node.index == number_of<Selection>) return fold_selection(graph, node);
  return node.operand_count == 1 ? fold_unary(graph, node) : fold_binary(graph, node);
}

}  // namespace tilewise::variant
