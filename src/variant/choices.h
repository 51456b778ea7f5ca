// Scores that are chosen: min, max, select, and what compares for a selection.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "variant/forms.h"

namespace tilewise::variant {

/// Forms, of which some are chosen from others. What a choice is made of stays known: so a factor may go into what is
/// chosen from, and slopes ask the conditions by which it is chosen.
class Choices : protected Forms {
 protected:
  explicit Choices(Graph graph) : Forms(std::move(graph)), recorded_(static_cast<NodeId>(graph_.size())) {
    product_ = added(graph_.add_score()), scale_ = added(graph_.add_scale());
  }

  /// The node of an operation that chooses or compares, or of any other.
  NodeId choice_of(std::int32_t number, std::vector<Form> operands);
  /// A condition that a score decides, which is approximate anyway.
  NodeId soft(NodeId condition) {
    soft_.insert(condition);
    return condition;
  }
  bool is_soft(NodeId id) const { return soft_.count(id) != 0; }

  /// The form times a positive number, which also goes into what is chosen from: min(a, b) c is min(a c, b c), and
  /// what is hoisted of a and b takes no more operations of an entry.
  Form choices_times(const Form& form, NodeId by);

  /// The derivative by the scaled product of `form`, `unit` times a score that is chosen from multiples of the product.
  /// None if it is not.
  NodeId slope_of(const Form& form, NodeId unit);

  NodeId recorded_;  // as many nodes of the graph that was given
  NodeId product_, scale_;

 private:
  struct Choice {
    std::int32_t number;
    std::vector<Form> operands;
  };
  /// The choice of this kind that a form is, with nothing besides; none if it is no such.
  const Choice* choice_in(const Form& form, std::int32_t number) const;
  NodeId choice_times(NodeId id, NodeId by);

  std::vector<Form> without_twins(std::int32_t number, const std::vector<Form>& operands);
  void add_all(std::vector<Form>& all, std::int32_t number, const std::vector<Form>& operands) const;
  std::optional<Form> joined_twins(std::int32_t number, const Form& a, const Form& b);

  NodeId slope_of_choice(NodeId id, NodeId factor, NodeId unit);
  NodeId slope_of_multiple(NodeId factor, NodeId unit);

  std::map<NodeId, Choice> choices_;
  std::map<NodeId, NodeId> multiplied_;  // by log2(e)
  std::set<NodeId> soft_;
};

}  // namespace tilewise::variant
