#include "variant/forms.h"

#include <algorithm>
#include <utility>

namespace tilewise::variant {

NodeId Forms::added(NodeId id) {
  while (classes_.size() < graph_.size()) {
    const Node& node = graph_[static_cast<NodeId>(classes_.size())];
    Hoist hoist = node.kind == Kind::score ? Hoist::entry : Hoist::uniform;
    for (const NodeId operand : node.inputs()) hoist = joined(hoist, classes_[operand]);
    classes_.push_back(hoist);
  }
  return id;
}

NodeId Forms::product(NodeId a, NodeId b) {
  if (a == kNoNode || graph_[a].is_constant(1)) return b;
  return graph_[b].is_constant(1) ? a : operation<Multiplication>(a, b);
}

Form Forms::form_of(NodeId id) const {
  Form form;
  if (is_hoisted(id))
    form.offsets[static_cast<std::size_t>(classes_[id])] = id;
  else
    form.terms = {{kNoNode, id}};
  return form;
}

/// The one node that a form is, where it is one that does not belong to the entry.
NodeId Forms::hoisted_node(const Form& form) const {
  NodeId only = kNoNode;
  for (const NodeId offset : form.offsets) {
    if (offset == kNoNode) continue;
    if (only != kNoNode) return kNoNode;
    only = offset;
  }
  return form.terms.empty() ? only : kNoNode;
}

Form Forms::gathered(Form form) {
  NodeId& uniform = form.offsets[static_cast<std::size_t>(Hoist::uniform)];
  for (NodeId& offset : form.offsets) {
    if (&offset == &uniform || offset == kNoNode || uniform == kNoNode) continue;
    offset = operation<Addition>(offset, uniform);
    uniform = kNoNode;
  }
  return form;
}

NodeId Forms::taken_of_query(Form& form) {
  NodeId& of_query = form.offsets[static_cast<std::size_t>(Hoist::query)];
  return std::exchange(of_query != kNoNode ? of_query : form.offsets[static_cast<std::size_t>(Hoist::uniform)],
                       kNoNode);
}

NodeId Forms::sum_of_terms(const Form& form, NodeId sum) {
  for (const Form::Term& term : form.terms) {
    const NodeId one = product(term.factor, term.value);
    sum = sum == kNoNode ? one : operation<Addition>(sum, one);
  }
  return sum;
}

NodeId Forms::node_of(const Form& any_form) {
  Form form = gathered(any_form);
  // A product that is added to something is one operation: so several terms are added to an offset.
  NodeId sum = kNoNode;
  if (form.terms.size() > 1) {
    const auto last = std::find_if(form.offsets.rbegin(), form.offsets.rend(), [](NodeId id) { return id != kNoNode; });
    if (last != form.offsets.rend()) std::swap(sum, *last);
  }
  sum = sum_of_terms(form, sum);
  for (const NodeId offset : form.offsets) {
    if (offset != kNoNode) sum = sum == kNoNode ? offset : operation<Addition>(sum, offset);
  }
  return sum == kNoNode ? constant(0) : sum;
}

Form Forms::without_keys(const Form& form) {
  const auto of_keys = static_cast<std::size_t>(Hoist::key);
  if (form.offsets[of_keys] == kNoNode) return form;
  const std::optional<Form> others = by_queries(form.offsets[of_keys]);
  if (!others) return form;
  Form result = form;
  result.offsets[of_keys] = kNoNode;
  return sum(result, *others);
}

/// The real of a key's coordinate as what the query and the diagonal make of it. Reals of indices and of offsets are
/// added up as reals, since ints might wrap.
Form Forms::real_of_key(NodeId key_coordinate) {
  const NodeId query = added(graph_.add_coordinate(Coordinate::query_index)),
               key = added(graph_.add_coordinate(Coordinate::key_index));
  classes_[query] = Hoist::query, classes_[key] = Hoist::key;
  const NodeId offset = operation<Subtraction>(key_coordinate, key);
  const NodeId difference = operation<Subtraction>(key, query);
  classes_[offset] = Hoist::uniform, classes_[difference] = Hoist::diagonal;
  return sum(sum(form_of(operation<ToReal>(offset)), form_of(operation<ToReal>(query))),
             form_of(operation<ToReal>(difference)));
}

/// A value of keys without them; nothing if it is not linear.
std::optional<Form> Forms::by_queries(NodeId id) {
  if (classes_[id] == Hoist::uniform) return form_of(id);
  const Node node = graph_[id];
  if (node.kind != Kind::operation) return std::nullopt;
  if (node.index == number_of<ToReal>) {
    const Node& from = graph_[node.operands[0]];
    if (from.kind != Kind::coordinate || classes_[node.operands[0]] != Hoist::key) return std::nullopt;
    return real_of_key(node.operands[0]);
  }
  if (node.type != Type::real) return std::nullopt;
  std::vector<Form> operands;
  for (const NodeId operand : node.inputs()) {
    std::optional<Form> one = by_queries(operand);
    if (!one) return std::nullopt;
    operands.push_back(std::move(*one));
  }
  const auto is_uniform = [&](int i) { return classes_[node.operands[static_cast<std::size_t>(i)]] == Hoist::uniform; };
  if (node.index == number_of<Addition>) return sum(operands[0], operands[1]);
  if (node.index == number_of<Subtraction>) return sum(operands[0], times(operands[1], constant(-1)));
  if (node.index == number_of<Negation>) return times(operands[0], constant(-1));
  if (node.index == number_of<Multiplication> && is_uniform(0)) return times(operands[1], node.operands[0]);
  if (node.index == number_of<Multiplication> && is_uniform(1)) return times(operands[0], node.operands[1]);
  if (node.index == number_of<Division> && is_uniform(1)) {
    return times(operands[0], operation<Division>(constant(1), node.operands[1]));
  }
  return std::nullopt;
}

Form Forms::times(Form form, NodeId by) {
  bool all_stay = true;
  for (const Form::Term& term : form.terms)
    all_stay = all_stay && (term.factor == kNoNode || stay_hoisted(term.factor, by));
  for (const NodeId offset : form.offsets) all_stay = all_stay && (offset == kNoNode || stay_hoisted(offset, by));
  if (!all_stay) form = form_of(node_of(form));
  Form result;
  for (const Form::Term& term : form.terms) result.terms.push_back({product(term.factor, by), term.value});
  for (const NodeId offset : form.offsets) {
    if (offset == kNoNode) continue;
    // Of two classes: what is multiplied later is multiplied where one of them is hoisted.
    const bool stays = graph_[by].is_constant(1) || stay_hoisted(offset, by);
    result = sum(result, stays ? form_of(product(offset, by)) : Form{{{by, offset}}});
  }
  return result;
}

Form Forms::sum(Form a, const Form& b) {
  a.terms.insert(a.terms.end(), b.terms.begin(), b.terms.end());
  for (std::size_t i = 0; i < a.offsets.size(); ++i) {
    if (b.offsets[i] == kNoNode) continue;
    a.offsets[i] = a.offsets[i] == kNoNode ? b.offsets[i] : operation<Addition>(a.offsets[i], b.offsets[i]);
  }
  return a;
}

Form Forms::product(const Form& a, const Form& b) {
  if (const NodeId by = hoisted_node(b); by != kNoNode) return times(a, by);
  if (const NodeId by = hoisted_node(a); by != kNoNode) return times(b, by);
  return form_of(operation<Multiplication>(node_of(a), node_of(b)));
}

}  // namespace tilewise::variant
