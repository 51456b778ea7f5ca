#include "variant/adjoint.h"

#include <cmath>

#include "core/fail.h"
#include "variant/operations/operations.h"
#include "variant/recording.h"

namespace tilewise::variant {
namespace {

using Contributions = std::vector<Expr>;  // [operands]

/// An operation's adjoint by number: from its result, the result's adjoint and its operands.
Contributions contributions_of(std::int32_t number, Expr y, Expr d, const std::vector<Expr>& operands) {
  static constexpr auto kAdjoints = for_each_operation([]<class O>() {
    return +[](Expr result, Expr adjoint_of_result, const std::vector<Expr>& x) {
      const auto gradients = [&]<std::size_t... I>(std::index_sequence<I...>) {
        return O::adjoint(result, adjoint_of_result, x[I]...);
      }
      (std::make_index_sequence<O::info.operands>{});
      return Contributions(gradients.begin(), gradients.end());
    };
  });
  return kAdjoints[static_cast<std::size_t>(number)](y, d, operands);
}

bool is_operation(const Node& node, std::int32_t number) {
  return node.kind == Kind::operation && node.index == number;
}

/// Whether a node is 0 wherever `vanishing(operand)` says that its operands are, in float32 too: NaN is ruled out.
template <class Vanishing>
bool vanishes(const Graph& graph, NodeId id, Vanishing vanishing) {
  const Node& node = graph[id];
  if (node.is_constant()) return node.value == 0;
  if (node.kind != Kind::operation) return false;
  const NodeId a = node.operands[0], b = node.operands[1];
  const auto is_finite = [&graph](NodeId factor) {
    return graph[factor].is_constant() && std::isfinite(static_cast<float>(graph[factor].value));
  };
  if (node.index == number_of<Negation>) return vanishing(a);
  if (node.index == number_of<Addition> || node.index == number_of<Subtraction>) return vanishing(a) && vanishing(b);
  if (node.index == number_of<Multiplication>) {
    return (vanishing(a) && is_finite(b)) || (vanishing(b) && is_finite(a));
  }
  if (node.index == number_of<Division>) {
    return vanishing(a) && graph[b].is_constant() && static_cast<float>(graph[b].value) != 0;
  }
  if (node.index != number_of<Selection>) return false;
  const Node& condition = graph[a];  // select(d == 0, 0, x) with a d that vanishes never takes x
  const bool takes_first = is_operation(condition, number_of<Equal>) && vanishing(condition.operands[0]) &&
                           graph[condition.operands[1]].is_constant(0);
  return vanishing(b) && (takes_first || vanishing(node.operands[2]));
}

class Differentiation {
 public:
  Differentiation(const Graph& graph, NodeId root)
      : original_(graph),
        recording_(graph),
        reaches_(root + 1, false),
        adjoints_(root + 1, kNoNode),
        masked_(root + 1, false) {
    seed_ = recording_.graph().add_seed();
    find_what_reaches_a_variable();
    if (!reaches_[root]) return;
    adjoints_[root] = seed_;
    for (NodeId id = root + 1; id-- > 0;) {
      if (adjoints_[id] != kNoNode && original_[id].kind == Kind::operation) differentiate(id);
    }
  }

  StageAdjoint result() {
    StageAdjoint stage;
    stage.graph = original_;
    const std::vector<bool> vanishing = vanishing_with_seed();
    std::vector<NodeId> renamed(original_.size());  // nodes of the original keep their ids
    for (NodeId id = 0; id < original_.size(); ++id) renamed[id] = id;
    const auto taken_over = [&](NodeId id) {
      const NodeId value = vanishing[adjoints_[id]] ? adjoints_[id] : zero_where_zero(seed_, adjoints_[id]);
      return stage.graph.import(recording_.graph(), value, renamed);
    };
    for (NodeId id = 0; id < adjoints_.size(); ++id) {
      if (adjoints_[id] == kNoNode) continue;
      switch (original_[id].kind) {
        case Kind::score: stage.d_score = taken_over(id); break;
        case Kind::read: stage.tables.push_back({original_[id].index, id, taken_over(id)}); break;
        case Kind::parameter: stage.parameters.push_back({original_[id].index, taken_over(id)}); break;
        default: break;
      }
    }
    renamed.resize(recording_.graph().size(), kNoNode);
    stage.seed = renamed[seed_];
    return stage;
  }

 private:
  /// Reals that depend on the score, a table or a parameter through reals.
  void find_what_reaches_a_variable() {
    for (NodeId id = 0; id < reaches_.size(); ++id) {
      const Node& node = original_[id];
      if (node.type != Type::real) continue;
      bool reaches = node.kind == Kind::score || node.kind == Kind::parameter || node.kind == Kind::read;
      if (node.kind == Kind::operation) {
        for (NodeId operand : node.inputs()) reaches = reaches || reaches_[operand];
      }
      reaches_[id] = reaches;
    }
  }

  void differentiate(NodeId id) {
    const Node& node = original_[id];
    std::vector<Expr> operands;
    for (NodeId operand : node.inputs()) operands.push_back(recording_.handle(operand));
    const NodeId d = adjoints_[id];
    const Contributions contributions =
        contributions_of(node.index, recording_.handle(id), recording_.handle(d), operands);
    for (std::size_t i = 0; i < node.operand_count; ++i) {
      if (reaches_[node.operands[i]]) add(node.operands[i], contributions[i].node(), d, masked_[id]);
    }
  }

  /// Adds to an operand's adjoint what comes through a result whose adjoint is `d`.
  void add(NodeId operand, NodeId contribution, NodeId d, bool d_masked) {
    Graph& graph = recording_.graph();
    if (graph[contribution].is_constant(0)) return;
    const bool masked = d_masked || is_operation(graph[contribution], number_of<Selection>);
    if (d_masked && !vanishes_with(contribution, d)) contribution = zero_where_zero(d, contribution);
    if (adjoints_[operand] == kNoNode) {
      adjoints_[operand] = contribution;
      masked_[operand] = masked;
    } else {
      adjoints_[operand] = (recording_.handle(adjoints_[operand]) + recording_.handle(contribution)).node();
      masked_[operand] = masked_[operand] && masked;
    }
  }

  NodeId zero_where_zero(NodeId d, NodeId value) {
    return select(recording_.handle(d) == 0.0, 0.0, recording_.handle(value)).node();
  }

  /// Whether `id`, which was made from `d`, is 0 where d is.
  bool vanishes_with(NodeId id, NodeId d) {
    const auto vanishing = [&](NodeId operand) { return vanishes_with(operand, d); };
    // What depends on d stands behind it; the rest is only looked at for being 0.
    return id == d || (id > d ? vanishes(recording_.graph(), id, vanishing) : recording_.graph()[id].is_constant(0));
  }

  std::vector<bool> vanishing_with_seed() {
    const Graph& graph = recording_.graph();
    std::vector<bool> vanishing(graph.size(), false);
    for (NodeId id = 0; id < graph.size(); ++id) {
      vanishing[id] = id == seed_ || vanishes(graph, id, [&](NodeId operand) { return vanishing[operand]; });
    }
    return vanishing;
  }

  const Graph& original_;
  Recording recording_;
  NodeId seed_ = kNoNode;
  std::vector<bool> reaches_;     // [nodes up to the root]
  std::vector<NodeId> adjoints_;  // [nodes up to the root], in the recording's graph
  std::vector<bool> masked_;      // [nodes up to the root]: its adjoint is 0 where no branch that was taken uses it
};

}  // namespace

StageAdjoint adjoint(const Graph& graph, NodeId root) {
  if (graph[root].type != Type::real)
    fail_argument("adjoint(): the root is {}, expected real", tilewise::to_string(graph[root].type));
  return Differentiation(graph, root).result();
}

}  // namespace tilewise::variant
