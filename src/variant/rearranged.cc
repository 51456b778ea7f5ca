#include "variant/rearranged.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <optional>
#include <utility>

#include "variant/adjoint.h"
#include "variant/choices.h"
#include "variant/cuda_text.h"
#include "variant/decisions.h"

namespace tilewise::variant {
namespace {

class Rearrangement : Choices {
 public:
  Rearrangement(const Variant::Data& data, bool with_slope) : Choices(data.graph), data_(data) {
    for (NodeId id = 0; id < graph_.size(); ++id) {
      const Node& node = graph_[id];
      bool reads = node.kind == Kind::score;
      for (const NodeId operand : node.inputs()) reads = reads || reads_score_[operand];
      reads_score_.push_back(reads);
    }
    score_.terms = {{scale_, product_}};
    slope_ = form_of(constant(1));
    const auto last = std::find_if(data.stages.rbegin(), data.stages.rend(), is_score);
    for (const Stage& stage : data.stages) {
      if (stage.kind == Stage::Kind::score) apply(stage, with_slope, &stage == &*last);
    }
  }

  Rearranged result(bool with_slope) {
    Rearranged made;
    if (any_stage_) {
      // A backward kernel's threads have a key or two each.
      if (!with_slope && score_.offsets[static_cast<std::size_t>(Hoist::diagonal)] != kNoNode) {
        score_ = without_keys(score_);
      }
      made.score = kept_or_removed(node_of(score_));
      const auto [exponent, slope] = exponent_of(score_, with_slope);
      made.exponent = kept_or_removed(node_of(exponent));
      Form of_entry = exponent;
      made.of_query = taken_of_query(of_entry);
      made.of_entry = kept_or_removed(node_of(of_entry));
      if (removed_.empty()) {
        made.parts = parts_of(exponent);
        made.small = small_of(of_entry);
      }
      made.slope = slope;
    }
    made.graph = std::move(graph_);
    made.slope_is_finite = with_slope && any_stage_ && is_finite(made.graph, made.slope);
    made.is_free = free_nodes(made.graph, {made.score, made.exponent, made.of_entry, made.slope, made.small.exponent});
    return made;
  }

 private:
  static bool is_score(const Stage& stage) { return stage.kind == Stage::Kind::score; }

  /// Of a form that is gathered.
  ExponentParts parts_of(const Form& form) {
    const auto offset = [&](Hoist hoist) { return form.offsets[static_cast<std::size_t>(hoist)]; };
    ExponentParts parts;
    if (form.terms.empty() || offset(Hoist::key) != kNoNode || offset(Hoist::diagonal) == kNoNode) return parts;
    const Form::Term& first = form.terms.front();
    const bool has_one_factor =
        form.terms.size() == 1 && (first.factor == kNoNode || classes_[first.factor] == Hoist::uniform);
    const NodeId value = has_one_factor ? first.value : sum_of_terms(form);
    if (!depends_on_product_and_query(value)) return parts;
    if (has_one_factor) parts.factor = first.factor;
    parts.value = value;
    parts.of_diagonal = offset(Hoist::diagonal);
    return parts;
  }

  /// tanh(x) is x (1 + b x^2) to 2^-11.26 of it for |x| <= 0.37: the least largest relative error of those that are
  /// right near 0, where a cap far above scores leaves them as large as they are.
  SmallExponent small_of(const Form& form) {
    constexpr double kLargest = 0.37, kCubic = -0.318885;
    SmallExponent small;
    if (form.terms.size() != 1) return small;
    const auto [factor, value] = form.terms.front();
    if (!is_operation<HyperbolicTangent>(value)) return small;
    const NodeId argument = graph_[value].operands[0];
    if (!is_operation<Multiplication>(argument)) return small;
    const NodeId inner = graph_[argument].operands[0], s = graph_[argument].operands[1];
    if (classes_[inner] != Hoist::uniform || graph_[s].kind != Kind::score) return small;
    const NodeId squared = square(inner), outer = product(factor, inner);
    const NodeId bent = operation<Multiplication>(product(product(outer, squared), constant(kCubic)), square(s));
    Form cubic = form;
    cubic.terms = {{kNoNode, operation<Multiplication>(s, operation<Addition>(bent, outer))}};
    small.exponent = node_of(cubic);
    small.square_limit = product(operation<Division>(constant(1), squared), constant(kLargest * kLargest));
    return small;
  }
  template <class Operation>
  bool is_operation(NodeId id) const {
    return graph_[id].kind == Kind::operation && graph_[id].index == number_of<Operation>;
  }
  NodeId square(NodeId id) { return operation<Multiplication>(id, id); }

  /// Whether all that a node is made of belongs to the product, to the query or to all.
  bool depends_on_product_and_query(NodeId root) const {
    std::vector<bool> needed(root + 1, false);
    needed[root] = true;
    for (NodeId id = root + 1; id-- > 0;) {
      if (!needed[id] || classes_[id] == Hoist::uniform || classes_[id] == Hoist::query) continue;
      if (is_hoisted(id) || graph_[id].kind == Kind::coordinate) return false;
      for (const NodeId operand : graph_[id].inputs()) needed[operand] = true;
    }
    return true;
  }

  /// A node of a stage's graph (the variant's or one that extends it), as it is here.
  Form form_in(const Graph& source, NodeId id, std::vector<std::optional<Form>>& known) {
    const bool is_recorded = id < data_.graph.size() && !reads_score_[id];
    if (is_recorded && (is_hoisted(id) || graph_[id].type != Type::real)) return form_of(id);
    if (!known[id]) known[id] = make_form(source, source[id], known);
    return *known[id];
  }

  Form make_form(const Graph& source, const Node& node, std::vector<std::optional<Form>>& known) {
    if (node.kind == Kind::score) return score_;
    if (node.kind == Kind::seed) return form_of(constant(1));
    if (node.kind != Kind::operation) {  // a read by the score's value, or a derivative's constant
      if (node.kind == Kind::constant) return form_of(added(graph_.add(node)));
      Node read = node;
      for (int i = 0; i < node.operand_count; ++i) read.operands[i] = node_of(form_in(source, node.operands[i], known));
      return form_of(added(graph_.add(read)));
    }
    const auto operand = [&](int i) { return form_in(source, node.operands[static_cast<std::size_t>(i)], known); };
    if (node.type == Type::real) {
      if (node.index == number_of<Addition>) return sum(operand(0), operand(1));
      if (node.index == number_of<Subtraction>) return sum(operand(0), product(operand(1), form_of(constant(-1))));
      if (node.index == number_of<Negation>) return product(operand(0), form_of(constant(-1)));
      if (node.index == number_of<Multiplication>) return product(operand(0), operand(1));
      if (node.index == number_of<Division>) return product(operand(0), reciprocal(operand(1)));
    }
    std::vector<Form> operands;
    for (int i = 0; i < node.operand_count; ++i) operands.push_back(operand(i));
    return form_of(choice_of(node.index, std::move(operands)));
  }

  // ---- Of the ways to make an exponent the one of which an entry has least to do.

  struct Exponent {
    Form form;
    NodeId slope;  // where it is asked for
  };

  /// A score in log2 units. A kernel keeps no more than kMostKeptFields of a class.
  Exponent exponent_of(const Form& score, bool with_slope) {
    const NodeId by = constant(std::numbers::log2e);
    const Form outside = gathered(times(score, by)), inside = gathered(choices_times(score, by));
    const NodeId slope = with_slope ? node_of(slope_) : kNoNode, of_score = node_of(score);
    const Work kept = work_of({node_of(inside), slope, of_score});
    const bool are_kept = std::ranges::all_of(std::array{Hoist::query, Hoist::key, Hoist::diagonal}, [&](Hoist hoist) {
      return kept.reads[static_cast<std::size_t>(hoist)] <= kMostKeptFields;
    });
    const bool is_less = work_of({node_of(inside), slope}).operations < work_of({node_of(outside), slope}).operations;
    const bool goes_inside = are_kept && is_less;
    const Form& form = goes_inside ? inside : outside;
    if (!with_slope) return {form, kNoNode};
    // By the exponent's own conditions, or as the adjoint has it.
    const NodeId decided = this->decided(slope), root = node_of(form);
    const NodeId own = goes_inside ? slope_of(inside, by) : slope_of(score, constant(1));
    if (own == kNoNode || work_of({root, own}).operations >= work_of({root, decided}).operations)
      return {form, decided};
    return {form, own};
  }

  struct Work {
    int operations = 0;          // of an entry
    std::array<int, 5> reads{};  // by Hoist: values that are made for many
  };
  Work work_of(const std::vector<NodeId>& roots) const {
    std::vector<bool> needed(graph_.size(), false);
    for (const NodeId root : roots) {
      if (root != kNoNode) needed[root] = true;
    }
    Work work;
    for (auto id = static_cast<NodeId>(graph_.size()); id-- > 0;) {
      const Node& node = graph_[id];
      if (!needed[id] || (node.kind != Kind::operation && node.kind != Kind::read)) continue;
      if (is_hoisted(id)) {
        ++work.reads[static_cast<std::size_t>(classes_[id])];
        continue;
      }
      ++work.operations;
      for (const NodeId operand : node.inputs()) needed[operand] = true;
    }
    return work;
  }

  // ---- Stages.

  void apply(const Stage& stage, bool with_slope, bool is_last) {
    any_stage_ = true;
    std::optional<StageAdjoint> derivative;
    if (with_slope) derivative = adjoint(data_.graph, stage.root);
    const Graph& source = derivative ? derivative->graph : data_.graph;
    std::vector<std::optional<Form>> known(source.size());
    const Form result = form_in(source, stage.root, known);
    if (derivative) {
      const NodeId d = derivative->d_score;
      slope_ = d == kNoNode ? form_of(constant(0)) : product(slope_, form_in(source, d, known));
    }
    score_ = result;
    if (is_last) return;
    // What a stage removes stays removed, and what goes on is clamped from below.
    const NodeId value = node_of(result), floor = constant(-0x1p126);
    removed_.push_back(soft(operation<Equal>(value, constant(-std::numeric_limits<double>::infinity()))));
    const NodeId is_below = soft(operation<Less>(value, floor));
    score_ = form_of(operation<Selection>(is_below, floor, value));
    if (derivative) slope_ = form_of(operation<Selection>(is_below, constant(0), node_of(slope_)));
  }

  /// What min, max and select leave of a slope, as few selections.
  NodeId decided(NodeId slope) {
    const auto make = [&](std::int32_t number, std::span<const NodeId> operands) {
      const NodeId made = added(make_operation(graph_, number, operands));
      return graph_[made].type == Type::boolean && made >= data_.graph.size() ? soft(made) : made;
    };
    return added(Decisions(graph_, make, [&](NodeId id) { return is_hoisted(added(id)); }).tree(slope));
  }

  NodeId kept_or_removed(NodeId score) {
    for (const NodeId removed : removed_) {
      score = operation<Selection>(removed, constant(-std::numeric_limits<double>::infinity()), score);
    }
    return score;
  }

  /// Whether a real is finite where products are, by what it is made of.
  static bool is_finite(const Graph& graph, NodeId root) {
    std::vector<bool> needed(graph.size(), false);
    needed[root] = true;
    for (NodeId id = root + 1; id-- > 0;) {
      if (!needed[id]) continue;
      const Node& node = graph[id];
      if (node.type != Type::real) continue;
      const auto is = [&](std::int32_t number) { return node.kind == Kind::operation && node.index == number; };
      for (const NodeId operand : node.inputs()) needed[operand] = true;
      const bool is_one_of_them = is(number_of<Selection>) || is(number_of<Minimum>) || is(number_of<Maximum>) ||
                                  is(number_of<Absolute>) || is(number_of<ToReal>);
      const bool divides_by_a_number =
          is(number_of<Division>) && (graph[node.operands[1]].kind == Kind::literal ||
                                      (graph[node.operands[1]].is_constant() && graph[node.operands[1]].value != 0));
      const bool is_bounded = is(number_of<HyperbolicTangent>) || is(number_of<Sigmoid>);
      const bool is_polynomial = is(number_of<Addition>) || is(number_of<Subtraction>) ||
                                 is(number_of<Multiplication>) || is(number_of<Negation>);
      const bool is_finite_leaf = node.kind == Kind::literal || node.kind == Kind::score || node.kind == Kind::scale ||
                                  (node.is_constant() && std::abs(node.value) < 0x1p127);
      if (!is_one_of_them && !divides_by_a_number && !is_bounded && !is_polynomial && !is_finite_leaf) return false;
    }
    return true;
  }

  /// Reals that reach neither a bool nor an int, but for the soft conditions made here.
  std::vector<bool> free_nodes(const Graph& graph, const std::vector<NodeId>& roots) const {
    std::vector<bool> needed(graph.size(), false), is_free(graph.size(), true);
    for (const Stage& stage : data_.stages) needed[stage.root] = needed[stage.root] || !is_score(stage);
    if (data_.sink != kNoNode) needed[data_.sink] = true;
    for (const NodeId root : roots) {
      if (root != kNoNode) needed[root] = true;
    }
    for (auto id = static_cast<NodeId>(graph.size()); id-- > 0;) {
      if (graph[id].type != Type::real) is_free[id] = false;
      if (!needed[id]) continue;
      for (const NodeId operand : graph[id].inputs()) {
        needed[operand] = true;
        if (!is_free[id] && !is_soft(id)) is_free[operand] = false;
      }
    }
    return is_free;
  }

  const Variant::Data& data_;
  std::vector<bool> reads_score_;  // [nodes of the variant]
  Form score_, slope_;
  bool any_stage_ = false;
  std::vector<NodeId> removed_;  // conditions
};

}  // namespace

Rearranged rearranged(const Variant::Data& data, bool with_slope) {
  return Rearrangement(data, with_slope).result(with_slope);
}

}  // namespace tilewise::variant
