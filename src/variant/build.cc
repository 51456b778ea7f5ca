#include "variant/build.h"

#include <algorithm>
#include <cmath>

#include "core/fail.h"
#include "variant/fold.h"
#include "variant/operations/operations.h"

namespace tilewise::variant {
namespace {

/// How messages call an operation: "operator +", "exp()".
std::string described(const Info& info) {
  return info.precedence == kCall ? fmt::format("{}()", info.symbol) : fmt::format("operator {}", info.symbol);
}

void expect(const Graph& graph, const Info& info, NodeId operand, std::size_t place, Type expected) {
  if (graph[operand].type == expected) return;
  const Type given = graph[operand].type;
  const char* hint = given == Type::boolean      ? "; write select(b, 1, 0) to make a number of a bool"
                     : expected == Type::boolean ? "; write x != 0 to make a bool of a number"
                     : given == Type::real       ? "; write to_int(x) to round toward zero"
                                                 : "";
  fail_argument("{}: operand {} is {}, expected {}{}", described(info), place + 1, to_string(given),
                to_string(expected), hint);
}

NodeId promoted(Graph& graph, NodeId node) {
  return graph[node].type == Type::real ? node : make_operation(graph, number_of<ToReal>, {{node}});
}

/// Promotes numbers among `operands` to a common type: int if all are, else real.
void to_common_type(Graph& graph, const Info& info, std::span<NodeId> operands) {
  const bool any_bool =
      std::any_of(operands.begin(), operands.end(), [&](NodeId n) { return graph[n].type == Type::boolean; });
  const bool any_real =
      std::any_of(operands.begin(), operands.end(), [&](NodeId n) { return graph[n].type == Type::real; });
  if (any_bool) {
    for (std::size_t i = 0; i < operands.size(); ++i)
      expect(graph, info, operands[i], i, any_real ? Type::real : Type::int32);
  }
  if (!any_real) return;
  for (NodeId& operand : operands) operand = promoted(graph, operand);
}

Type apply_rule(Graph& graph, const Info& info, std::span<NodeId> operands) {
  const auto expect_all = [&](Type expected) {
    for (std::size_t i = 0; i < operands.size(); ++i) expect(graph, info, operands[i], i, expected);
  };
  switch (info.rule) {
    case Rule::arithmetic: to_common_type(graph, info, operands); return graph[operands[0]].type;
    case Rule::comparison: to_common_type(graph, info, operands); return Type::boolean;
    case Rule::real:
      for (std::size_t i = 0; i < operands.size(); ++i) {
        if (graph[operands[i]].type == Type::boolean) expect(graph, info, operands[i], i, Type::real);
        operands[i] = promoted(graph, operands[i]);
      }
      return Type::real;
    case Rule::integer: expect_all(Type::int32); return Type::int32;
    case Rule::logic: expect_all(Type::boolean); return Type::boolean;
    case Rule::to_real: expect_all(Type::int32); return Type::real;
    case Rule::to_int: expect_all(Type::real); return Type::int32;
    case Rule::select:
      expect(graph, info, operands[0], 0, Type::boolean);
      if (graph[operands[1]].type != Type::boolean || graph[operands[2]].type != Type::boolean) {
        to_common_type(graph, info, operands.subspan(1));
      }
      return graph[operands[1]].type;
  }
  return Type::real;
}

bool divides_ints(std::int32_t number) { return number == number_of<FloorDivision> || number == number_of<Modulo>; }

void bake_second_operand(Graph& graph, std::int32_t number, std::span<NodeId> operands) {
  if (!bakes_second_operand(number)) return;
  NodeId& operand = operands[1];
  if (number == number_of<Power>) {
    if (graph[operand].kind != Kind::literal && !graph[operand].is_constant()) {
      fail_argument(
          "operator **: the exponent is not a constant, expected a number; write exp2(y * log2(x)) for others");
    }
    if (graph[operand].type != Type::boolean) operand = graph.add_constant(Type::real, graph[operand].value);
    return;
  }
  if (graph[operand].kind == Kind::literal) operand = graph.add_constant(graph[operand].type, graph[operand].value);
  if (divides_ints(number) && graph[operand].is_constant(0)) {
    fail_argument("{}: the divisor is 0, expected any other int", described(kInfo[static_cast<std::size_t>(number)]));
  }
}

}  // namespace

bool shapes_the_code(double value) { return value == 0 || std::abs(value) == 1 || std::isinf(value); }

bool bakes_second_operand(std::int32_t number) {
  return divides_ints(number) || number == number_of<ShiftUp> || number == number_of<ShiftDown> ||
         number == number_of<Power>;
}

NodeId make_number(Graph& graph, Type type, double value) {
  if (std::isnan(value)) fail_argument("a NaN constant: expected a number; to remove an entry use -inf or keep(...)");
  if (type == Type::boolean || shapes_the_code(value)) return graph.add_constant(type, value);
  return graph.add_literal(type, value);
}

NodeId make_operation(Graph& graph, std::int32_t number, std::span<const NodeId> operands) {
  const Info& info = kInfo[static_cast<std::size_t>(number)];
  if (number == number_of<ToReal>) {
    const Node operand = graph[operands[0]];
    if (operand.type == Type::real) return operands[0];
    // A real of a literal is a real literal, so that 5 means the same as 5.0 wherever a real is expected.
    if (operand.kind == Kind::literal) return make_number(graph, Type::real, operand.value);
  }
  Node node{.kind = Kind::operation, .operand_count = static_cast<std::uint8_t>(operands.size()), .index = number};
  std::copy(operands.begin(), operands.end(), node.operands.begin());
  const std::span<NodeId> inputs(node.operands.data(), operands.size());
  bake_second_operand(graph, number, inputs);
  node.type = apply_rule(graph, info, inputs);
  const NodeId folded = fold(graph, node);
  return folded != kNoNode ? folded : graph.add(node);
}

NodeId make_read(Graph& graph, const Table& table, std::span<const NodeId> indices, bool clamped) {
  if (indices.size() != static_cast<std::size_t>(table.rank())) {
    fail_argument("table '{}': read with {} indices, expected {}", table.name(), indices.size(), table.rank());
  }
  for (std::size_t i = 0; i < indices.size(); ++i) {
    if (const Type type = graph[indices[i]].type; type != Type::int32) {
      fail_argument("table '{}': index {} is {}, expected int", table.name(), i + 1, to_string(type));
    }
  }
  return graph.add_read(table, indices, clamped);
}

NodeId make_real(Graph& graph, NodeId node, std::string_view what) {
  if (graph[node].type == Type::boolean) {
    fail_argument("{} is bool, expected real; use keep(...) for a predicate, or select(b, 1.0, 0.0)", what);
  }
  return promoted(graph, node);
}

}  // namespace tilewise::variant
