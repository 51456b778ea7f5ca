#include "variant/choices.h"

#include <algorithm>
#include <array>
#include <functional>
#include <ranges>
#include <utility>

namespace tilewise::variant {
namespace {

constexpr auto kUniform = static_cast<std::size_t>(Hoist::uniform);

bool is_bound(std::int32_t number) { return number == number_of<Minimum> || number == number_of<Maximum>; }

bool have_same_terms(const Form& a, const Form& b) {
  return std::ranges::equal(a.terms, b.terms, [](const Form::Term& x, const Form::Term& y) {
    return x.factor == y.factor && x.value == y.value;
  });
}

}  // namespace

NodeId Choices::choice_of(std::int32_t number, std::vector<Form> operands) {
  if (is_bound(number)) {
    operands = without_twins(number, operands);
    if (operands.size() == 1) return node_of(operands[0]);
  }
  std::vector<NodeId> nodes;
  for (const Form& operand : operands) nodes.push_back(node_of(operand));
  const NodeId made = added(make_operation(graph_, number, nodes));
  const bool compares = number >= number_of<Equal> && number <= number_of<GreaterEqual>;
  const bool chooses = is_bound(number) || number == number_of<Selection>;
  // The last operand is no condition.
  if ((compares || chooses) && graph_[nodes.back()].type == Type::real) {
    choices_.insert({made, {number, std::move(operands)}});
  }
  return graph_[made].type == Type::boolean && made >= recorded_ ? soft(made) : made;
}

const Choices::Choice* Choices::choice_in(const Form& form, std::int32_t number) const {
  const bool is_alone = form.terms.size() == 1 && form.terms[0].factor == kNoNode &&
                        std::ranges::all_of(form.offsets, [](NodeId id) { return id == kNoNode; });
  if (!is_alone) return nullptr;
  const auto found = choices_.find(form.terms[0].value);
  return found != choices_.end() && found->second.number == number ? &found->second : nullptr;
}

// ---- Minima of sums that differ by a number.

/// min(x + a, x + b) is x + min(a, b), also where other operands of nested minima stand between the two.
std::vector<Form> Choices::without_twins(std::int32_t number, const std::vector<Form>& operands) {
  std::vector<Form> all, left;
  add_all(all, number, operands);
  for (const Form& form : all) {
    std::optional<Form> joined;
    for (Form& other : left) {
      if ((joined = joined_twins(number, other, form))) {
        other = *joined;
        break;
      }
    }
    if (!joined) left.push_back(form);
  }
  if (left.size() == all.size()) return operands;
  while (left.size() > 2) {
    const Form last = left.back();
    left.pop_back();
    left.back() = form_of(choice_of(number, {left.back(), last}));
  }
  return left;
}

void Choices::add_all(std::vector<Form>& all, std::int32_t number, const std::vector<Form>& operands) const {
  for (const Form& form : operands) {
    const Choice* const choice = choice_in(form, number);
    if (choice != nullptr)
      add_all(all, number, choice->operands);
    else
      all.push_back(form);
  }
}

std::optional<Form> Choices::joined_twins(std::int32_t number, const Form& a, const Form& b) {
  if (a.terms.empty() || !have_same_terms(a, b)) return std::nullopt;
  for (std::size_t i = 0; i < a.offsets.size(); ++i) {
    if (i != kUniform && a.offsets[i] != b.offsets[i]) return std::nullopt;
  }
  Form joined = a;
  const auto number_in = [&](const Form& form) {
    return form.offsets[kUniform] == kNoNode ? constant(0) : form.offsets[kUniform];
  };
  if (a.offsets[kUniform] != b.offsets[kUniform]) {
    joined.offsets[kUniform] = added(make_operation(graph_, number, std::array{number_in(a), number_in(b)}));
  }
  return joined;
}

// ---- Factors.

Form Choices::choices_times(const Form& form, NodeId by) {
  Form result = form;
  std::vector<NodeId> chosen;
  for (const Form::Term& term : form.terms) {
    if (term.factor == kNoNode && choices_.count(term.value) != 0) chosen.push_back(term.value);
  }
  std::erase_if(result.terms,
                [&](const Form::Term& term) { return term.factor == kNoNode && choices_.count(term.value) != 0; });
  result = times(result, by);
  for (const NodeId id : chosen) result.terms.push_back({kNoNode, choice_times(id, by)});
  return result;
}

/// Likewise a choice; a comparison stays what it is.
NodeId Choices::choice_times(NodeId id, NodeId by) {
  if (const auto known = multiplied_.find(id); known != multiplied_.end()) return known->second;
  const Choice choice = choices_.at(id);
  std::vector<Form> operands;
  const bool selects = choice.number == number_of<Selection>;
  for (std::size_t i = 0; i < choice.operands.size(); ++i) {
    operands.push_back(selects && i == 0 ? Form() : choices_times(choice.operands[i], by));
  }
  if (selects) {
    const NodeId condition = node_of(choice.operands[0]);
    const bool is_of_scores = choices_.count(condition) != 0 && is_soft(condition);
    operands[0] = form_of(is_of_scores ? choice_times(condition, by) : condition);
  }
  return multiplied_[id] = choice_of(choice.number, std::move(operands));
}

// ---- Slopes.

NodeId Choices::slope_of(const Form& form, NodeId unit) {
  NodeId slope = kNoNode;
  for (const auto& [factor, value] : form.terms) {
    if (slope != kNoNode) return kNoNode;
    slope = value == product_ ? slope_of_multiple(factor, unit) : slope_of_choice(value, factor, unit);
    if (slope == kNoNode) return kNoNode;
  }
  return slope == kNoNode ? constant(0) : slope;
}

NodeId Choices::slope_of_choice(NodeId id, NodeId factor, NodeId unit) {
  const auto found = choices_.find(id);
  if (found == choices_.end() || (factor != kNoNode && !is_hoisted(factor))) return kNoNode;
  const Choice choice = found->second;
  const bool selects = choice.number == number_of<Selection>;
  if (!selects && !is_bound(choice.number)) return kNoNode;
  std::array<NodeId, 2> slopes{};
  for (std::size_t i = 0; i < 2; ++i) {
    Form operand = choice.operands[selects ? i + 1 : i];
    for (Form::Term& term : operand.terms) {
      if (factor != kNoNode) term.factor = term.factor == kNoNode ? factor : product(factor, term.factor);
    }
    slopes[i] = slope_of(operand, unit);
    if (slopes[i] == kNoNode) return kNoNode;
  }
  if (slopes[0] == slopes[1]) return slopes[0];
  const NodeId a = node_of(choice.operands[0]), b = node_of(choice.operands[1]);
  // Of two that are the same the second one is taken, as adjoints have it.
  const NodeId takes_first = selects                               ? a
                             : choice.number == number_of<Minimum> ? soft(operation<Less>(a, b))
                                                                   : soft(operation<Greater>(a, b));
  return operation<Selection>(takes_first, slopes[0], slopes[1]);
}

/// factor / (scale unit), where the factor is a product in which both are found.
NodeId Choices::slope_of_multiple(NodeId factor, NodeId unit) {
  bool has_scale = false, has_unit = graph_[unit].is_constant(1);
  const std::function<NodeId(NodeId)> without = [&](NodeId id) -> NodeId {
    if (id == scale_ && !has_scale) {
      has_scale = true;
      return constant(1);
    }
    if (id == unit && !has_unit) {
      has_unit = true;
      return constant(1);
    }
    const Node node = graph_[id];
    if (node.kind != Kind::operation || node.index != number_of<Multiplication>) return id;
    const NodeId a = without(node.operands[0]), b = without(node.operands[1]);
    return product(a, b);
  };
  if (factor == kNoNode) return kNoNode;
  const NodeId slope = without(factor);
  return has_scale && has_unit ? slope : kNoNode;
}

}  // namespace tilewise::variant
