#include "variant/hoist.h"

#include <algorithm>
#include <optional>

#include "variant/operations/operations.h"

namespace tilewise::variant {
namespace {

/// The value of an int that shapes the code; nothing for other nodes.
std::optional<std::uint32_t> constant_int(const Node& node) {
  if (!node.is_constant() || node.type != Type::int32) return std::nullopt;
  return static_cast<std::uint32_t>(static_cast<std::int32_t>(node.value));
}

Affine scaled(Affine form, std::uint32_t factor) { return {form.known, form.query * factor, form.key * factor}; }

Affine sum(Affine a, Affine b) { return {a.known && b.known, a.query + b.query, a.key + b.key}; }

Affine form_of_coordinate(Coordinate coordinate) {
  switch (coordinate) {
    case Coordinate::query:
    case Coordinate::query_index:
    case Coordinate::query_token: return {true, 1, 0};
    case Coordinate::key:
    case Coordinate::key_index:
    case Coordinate::key_token: return {true, 0, 1};
    default: return {true, 0, 0};
  }
}

/// The form of an operation on ints that keeps its operands' affine; `left` and `right` are its operands' forms.
Affine form_of_operation(const Graph& graph, const Node& node, Affine left, Affine right) {
  constexpr std::uint32_t kMinusOne = ~0u;
  if (node.index == number_of<Addition>) return sum(left, right);
  if (node.index == number_of<Subtraction>) return sum(left, scaled(right, kMinusOne));
  if (node.index == number_of<Negation> || node.index == number_of<BitNot>) return scaled(left, kMinusOne);
  if (node.index == number_of<Multiplication>) {
    if (const auto factor = constant_int(graph[node.operands[0]])) return scaled(right, *factor);
    if (const auto factor = constant_int(graph[node.operands[1]])) return scaled(left, *factor);
  }
  if (node.index == number_of<ShiftUp>) {
    if (const auto bits = constant_int(graph[node.operands[1]])) return scaled(left, 1u << (*bits & 31));
  }
  return {};
}

Hoist class_of_form(Affine form) {
  if (form.query == 0 && form.key == 0) return Hoist::uniform;
  if (form.key == 0) return Hoist::query;
  if (form.query == 0) return Hoist::key;
  return form.query + form.key == 0 ? Hoist::diagonal : Hoist::entry;
}

}  // namespace

Hoist joined(Hoist a, Hoist b) {
  if (a == Hoist::uniform || a == b) return b;
  return b == Hoist::uniform ? a : Hoist::entry;
}

const char* to_string(Hoist hoist) {
  switch (hoist) {
    case Hoist::uniform: return "uniform";
    case Hoist::query: return "query";
    case Hoist::key: return "key";
    case Hoist::diagonal: return "diagonal";
    case Hoist::entry: return "entry";
  }
  return "unknown";
}

std::vector<Dependence> dependences(const Graph& graph) {
  std::vector<Dependence> known;
  known.reserve(graph.size());
  for (const Node& node : graph.nodes()) {
    Hoist hoist = node.kind == Kind::score || node.kind == Kind::seed ? Hoist::entry : Hoist::uniform;
    for (NodeId operand : node.inputs()) hoist = joined(hoist, known[operand].hoist);

    Affine form;
    if (node.kind == Kind::coordinate) {
      form = form_of_coordinate(static_cast<Coordinate>(node.index));
    } else if (node.type == Type::int32 && hoist == Hoist::uniform) {
      form = {true, 0, 0};
    } else if (node.type == Type::int32 && node.kind == Kind::operation) {
      const Affine right = node.operand_count > 1 ? known[node.operands[1]].form : Affine{};
      form = form_of_operation(graph, node, known[node.operands[0]].form, right);
    }
    // Never wider than what the operands say, often narrower: query - key, (query - key) + key, query - query_index.
    known.push_back({form.known ? class_of_form(form) : hoist, form});
  }
  return known;
}

std::vector<Hoist> hoisting_classes(const Graph& graph) {
  std::vector<Hoist> classes;
  for (const Dependence& dependence : dependences(graph)) classes.push_back(dependence.hoist);
  return classes;
}

bool follows_diagonals(const Graph& graph, NodeId root) {
  const std::vector<Dependence> known = dependences(graph);
  const auto is_of = [&](NodeId id, Hoist hoist) {
    return graph[id].kind == Kind::coordinate && known[id].hoist == hoist && known[id].form.known;
  };
  std::vector<bool> follow;
  for (NodeId id = 0; id <= root; ++id) {
    const Node& node = graph[id];
    bool follows = known[id].hoist == Hoist::uniform || known[id].hoist == Hoist::diagonal;
    if (!follows && node.kind == Kind::operation) {
      const auto operands = node.inputs();
      follows = std::all_of(operands.begin(), operands.end(), [&](NodeId operand) { return follow[operand]; });
      if (!follows && node.index >= number_of<Equal> && node.index <= number_of<GreaterEqual>) {
        const NodeId left = operands[0], right = operands[1];
        follows = (is_of(left, Hoist::query) && is_of(right, Hoist::key)) ||
                  (is_of(left, Hoist::key) && is_of(right, Hoist::query));
      }
    }
    follow.push_back(follows);
  }
  return follow[root];
}

}  // namespace tilewise::variant
