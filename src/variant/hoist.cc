#include "variant/hoist.h"

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

/// The class of a function of values of both classes.
Hoist joined(Hoist a, Hoist b) {
  if (a == Hoist::uniform || a == b) return b;
  return b == Hoist::uniform ? a : Hoist::entry;
}

Hoist class_of_form(Affine form) {
  if (form.query == 0 && form.key == 0) return Hoist::uniform;
  if (form.key == 0) return Hoist::query;
  if (form.query == 0) return Hoist::key;
  return form.query + form.key == 0 ? Hoist::diagonal : Hoist::entry;
}

}  // namespace

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

std::vector<Affine> affine_forms(const Graph& graph) {
  std::vector<Affine> forms;
  std::vector<Hoist> classes;  // an int of uniform operands is uniform, whatever the operation
  forms.reserve(graph.size());
  for (const Node& node : graph.nodes()) {
    Affine form;
    if (node.type != Type::int32) {
      forms.push_back(form);
      continue;
    }
    bool uniform = node.kind != Kind::coordinate;
    for (NodeId operand : node.inputs()) uniform = uniform && forms[operand] == Affine{true, 0, 0};
    if (uniform) {
      form = {true, 0, 0};
    } else if (node.kind == Kind::coordinate) {
      form = form_of_coordinate(static_cast<Coordinate>(node.index));
    } else if (node.kind == Kind::operation) {
      const Affine left = forms[node.operands[0]];
      const Affine right = node.operand_count > 1 ? forms[node.operands[1]] : Affine{};
      form = form_of_operation(graph, node, left, right);
    }
    forms.push_back(form);
  }
  return forms;
}

std::vector<Hoist> hoisting_classes(const Graph& graph) {
  const std::vector<Affine> forms = affine_forms(graph);
  std::vector<Hoist> classes;
  classes.reserve(graph.size());
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph[id];
    Hoist hoist = node.kind == Kind::score || node.kind == Kind::seed ? Hoist::entry : Hoist::uniform;
    for (NodeId operand : node.inputs()) hoist = joined(hoist, classes[operand]);
    // The form may know better than the operands (query - key), and they better than it (select of uniforms).
    if (forms[id].known && (node.kind == Kind::coordinate || hoist == Hoist::entry)) hoist = class_of_form(forms[id]);
    classes.push_back(hoist);
  }
  return classes;
}

}  // namespace tilewise::variant
