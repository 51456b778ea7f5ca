#include "variant/decisions.h"

#include <array>

#include "variant/operations/operations.h"

namespace tilewise::variant {
namespace {

constexpr std::size_t kMostConditions = 8;  // of a tree, which may have 2^8 leaves

bool is(const Node& node, std::int32_t number) { return node.kind == Kind::operation && node.index == number; }

}  // namespace

NodeId Decisions::tree(NodeId root) {
  if (conditions_of(root).size() > kMostConditions) return root;
  const NodeId made = decided(root);
  return operations_of(made) < operations_of(root) ? made : root;
}

/// First the condition that leaves the fewest to be decided.
NodeId Decisions::decided(NodeId root) {
  NodeId first = kNoNode;
  std::size_t fewest = 0;
  std::array<NodeId, 2> left{};  // where it is true, and where not
  for (const NodeId condition : conditions_of(root)) {
    Renamed yes, no;
    const std::array<NodeId, 2> parts{where(root, condition, true, yes), where(root, condition, false, no)};
    const std::size_t count = conditions_of(parts[0]).size() + conditions_of(parts[1]).size();
    if (first != kNoNode && count >= fewest) continue;
    first = condition, fewest = count, left = parts;
  }
  if (first == kNoNode) return root;
  const std::array<NodeId, 3> operands{first, decided(left[0]), decided(left[1])};
  return make_(number_of<Selection>, operands);
}

std::set<NodeId> Decisions::conditions_of(NodeId root) const {
  std::set<NodeId> conditions, seen;
  std::vector<NodeId> next{root};
  while (!next.empty()) {
    const NodeId id = next.back();
    next.pop_back();
    if (!seen.insert(id).second || is_hoisted_(id)) continue;
    if (is_looked_into(id)) {
      next.insert(next.end(), graph_[id].inputs().begin(), graph_[id].inputs().end());
    } else if (graph_[id].type == Type::boolean) {
      conditions.insert(id);
    }
  }
  return conditions;
}

NodeId Decisions::where(NodeId id, NodeId condition, bool is_true, Renamed& known) {
  if (id == condition) return graph_.add_constant(Type::boolean, is_true ? 1 : 0);
  if (is_hoisted_(id) || !is_looked_into(id)) return id;
  if (const auto found = known.find(id); found != known.end()) return found->second;
  const Node node = graph_[id];
  std::array<NodeId, kMaxOperands> operands{};
  for (std::size_t i = 0; i < node.operand_count; ++i) operands[i] = where(node.operands[i], condition, is_true, known);
  return known[id] = simplified(node, {operands.data(), node.operand_count});
}

NodeId Decisions::simplified(const Node& node, std::span<const NodeId> operands) {
  const auto is_zero = [&](NodeId id) { return graph_[id].type == Type::real && graph_[id].is_constant(0); };
  if (is(node, number_of<Addition>) && is_zero(operands[0])) return operands[1];
  if ((is(node, number_of<Addition>) || is(node, number_of<Subtraction>)) && is_zero(operands[1])) return operands[0];
  if (is(node, number_of<Multiplication>) && (is_zero(operands[0]) || is_zero(operands[1]))) {
    return graph_.add_constant(Type::real, 0);
  }
  return make_(node.index, operands);
}

bool Decisions::is_looked_into(NodeId id) const {
  const Node& node = graph_[id];
  if (node.kind != Kind::operation) return false;
  if (is(node, number_of<Equal>)) {
    const NodeId a = node.operands[0];
    return graph_[node.operands[1]].is_constant() && graph_[a].type == Type::real && is_looked_into(a);
  }
  return node.type == Type::real && (node.index == number_of<Selection> || node.index == number_of<Addition> ||
                                     node.index == number_of<Subtraction> || node.index == number_of<Multiplication> ||
                                     node.index == number_of<Negation>);
}

int Decisions::operations_of(NodeId root) const {
  int count = 0;
  std::set<NodeId> seen;
  std::vector<NodeId> next{root};
  while (!next.empty()) {
    const NodeId id = next.back();
    next.pop_back();
    if (!seen.insert(id).second || is_hoisted_(id)) continue;
    if (graph_[id].kind == Kind::operation) ++count;
    next.insert(next.end(), graph_[id].inputs().begin(), graph_[id].inputs().end());
  }
  return count;
}

}  // namespace tilewise::variant
