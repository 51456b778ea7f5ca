// Several operations in one pass: where a fused function stands for them.
#include <utility>

#include "variant/lanes/lowering.h"
#include "variant/operations/operations.h"

namespace tilewise::variant {

bool Lowering::is_operation(NodeId id, std::int32_t number) const {
  return graph_[id].kind == Kind::operation && graph_[id].index == number;
}

/// tanh of a product or quotient in one pass with it. A division at each entry would cost as much as tanh, so what is
/// divided by is inverted where it is hoisted: tanh never enlarges a relative error, of which this adds 2^-24.
std::optional<Lowering::ValueId> Lowering::lower_tanh(const Node& node) {
  const NodeId of = node.operands[0];
  const bool is_quotient = is_operation(of, number_of<Division>);
  if (!is_quotient && !is_operation(of, number_of<Multiplication>)) return {};
  const ValueId x = lower_in(graph_[of].operands[0], Hoist::entry);
  const ValueId factor = lower_in(graph_[of].operands[1], Hoist::entry);
  if (is_quotient && is_of_entries_[graph_[of].operands[1]]) return {};
  return strip(operations_.fused.tanh_of_product, {x, is_quotient ? reciprocal(factor) : factor});
}

/// x of the select(d == 0, 0, x) that an adjoint puts around a result, else the node itself.
NodeId Lowering::inside_guard(NodeId gradient) const {
  const Node& node = graph_[gradient];
  if (!is_operation(gradient, number_of<Selection>) || !is_operation(node.operands[0], number_of<Equal>))
    return gradient;
  const Node& condition = graph_[node.operands[0]];
  const bool is_guard = graph_[condition.operands[0]].kind == Kind::seed &&
                        graph_[condition.operands[1]].is_constant(0) && graph_[node.operands[1]].is_constant(0);
  return is_guard ? node.operands[2] : gradient;
}

Lowering::ValueId Lowering::lower_gradient(NodeId node) {
  std::optional<ValueId> factor, derivative;  // of what is hoisted, and of the rest
  const auto include = [this](std::optional<ValueId>& product, ValueId value) {
    product = product ? operation<Multiplication>(true, {*product, value}) : value;
  };
  NodeId at = inside_guard(node);
  while (graph_[at].kind != Kind::seed) {
    const NodeId a = graph_[at].operands[0], b = graph_[at].operands[1];
    if (is_operation(at, number_of<Negation>)) {
      include(factor, real_constant(-1));
      at = a;
    } else if (is_operation(at, number_of<Multiplication>) && sees_seed_[a] != sees_seed_[b]) {
      const ValueId other = lower(sees_seed_[a] ? b : a);
      include(class_of(other) == Hoist::entry ? derivative : factor, other);
      at = sees_seed_[a] ? a : b;
    } else if (is_operation(at, number_of<Division>) && !sees_seed_[b] && class_of(lower(b)) != Hoist::entry) {
      include(factor, reciprocal(lower(b)));
      at = a;
    } else {
      return lower(node);
    }
  }
  if (factor && derivative) return strip(operations_.fused.gradient, {seed_, *factor, *derivative});
  if (!factor && !derivative) return seed_;
  return strip(operations_.fused.scaled_gradient, {seed_, factor ? *factor : *derivative});
}

/// The function for a comparison of ints and another keep; null where `function` is none.
StripFunction Lowering::holds_and(StripFunction function) const {
  for (int number = 0; function != nullptr && number < kOperations; ++number) {
    if (operations_.holds_and[number] != nullptr && operations_.operation[number][0] == function)
      return operations_.holds_and[number];
  }
  return nullptr;
}

/// Lets an instruction compute the operand that nothing else takes, where there is one function for both.
void Lowering::fuse(std::span<const ValueId> outputs) {
  const std::vector<bool> needed = needed_for(outputs);
  std::vector<int> uses(values_.size(), 0);
  for (const ValueId output : outputs) ++uses[output];
  for (ValueId v = 0; v < values_.size(); ++v) {
    for (std::size_t i = 0; needed[v] && i < values_[v].instruction.operand_count; ++i) ++uses[values_[v].operands[i]];
  }
  const auto function_of = [this](ValueId value) { return values_[value].instruction.function; };
  for (ValueId v = 0; v < values_.size(); ++v) {
    Value& value = values_[v];
    if (!needed[v] || value.domain != Hoist::entry || value.instruction.operand_count != 2) continue;
    const auto [a, b] = std::pair(value.operands[0], value.operands[1]);
    if (function_of(v) == operations_.operation[number_of<Conjunction>][0]) {
      for (const auto& [compared, keep] : {std::pair(a, b), std::pair(b, a)}) {
        const StripFunction function = holds_and(function_of(compared));
        if (function == nullptr || class_of(compared) != Hoist::entry || uses[compared] != 1) continue;
        value.instruction.function = function;
        value.instruction.operand_count = 3;
        value.operands = {values_[compared].operands[0], values_[compared].operands[1], keep};
        break;
      }
    } else if (function_of(v) == operations_.settled[number_of<Multiplication>]) {
      for (const auto& [tanh, y] : {std::pair(a, b), std::pair(b, a)}) {
        if (function_of(tanh) != operations_.fused.tanh_of_product || uses[tanh] != 1) continue;
        value.instruction.function = operations_.fused.settled_tanh;
        value.instruction.operand_count = 3;
        value.operands = {values_[tanh].operands[0], values_[tanh].operands[1], y};
        break;
      }
    } else if (function_of(v) == operations_.operation[number_of<Subtraction>][1]) {
      const bool is_square = function_of(b) == operations_.operation[number_of<Multiplication>][1] &&
                             values_[b].operands[0] == values_[b].operands[1];
      if (!is_square || uses[b] != 1 || !values_[a].instruction.leaf.is_constant(1)) continue;
      value.instruction.function = operations_.fused.one_less_square;
      value.instruction.operand_count = 1;
      value.operands = {values_[b].operands[0]};
    }
  }
}

/// The runner then adds the words where they lie.
bool Lowering::only_adds_read(std::span<const LaneInstruction> at_entries) const {
  if (at_entries.size() != 2 || at_entries[0].kind != LaneInstruction::Kind::read) return false;
  if (at_entries[1].function != operations_.settled[number_of<Addition>]) return false;
  const auto is_register = [](Slot slot) { return slot.space == Space::entry; };
  return is_register(at_entries[1].operands[0]) != is_register(at_entries[1].operands[1]);
}

}  // namespace tilewise::variant
