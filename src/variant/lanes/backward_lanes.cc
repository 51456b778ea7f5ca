#include "variant/lanes/backward_lanes.h"

#include <algorithm>

#include "variant/adjoint.h"
#include "variant/lanes/stage_lowering.h"
#include "variant/operations/operations.h"

namespace tilewise::variant {
namespace {

using ValueId = Lowering::ValueId;

/// The derivatives of all score stages, in one graph.
struct Derivatives {
  explicit Derivatives(const Variant::Data& variant) : graph(variant.graph) {
    for (const Stage& stage : variant.stages) {
      if (stage.kind != Stage::Kind::score) continue;
      stages.push_back(adjoint(graph, stage.root));
      graph = stages.back().graph;  // which holds all of the one before, under the same ids
    }
  }
  Graph graph;
  std::vector<StageAdjoint> stages;
};

class BackwardLowering {
 public:
  BackwardLowering(const Derivatives& derivatives, const std::vector<Stage>& stages, const LaneOptions& options,
                   bool with_keeps, bool with_gradients)
      : derivatives_(derivatives), lowering_(derivatives.graph, options), with_gradients_(with_gradients) {
    const ValueId seed = lowering_.seed();
    forward_ = lower_stages(lowering_, stages, with_keeps);
    ValueId d_score = seed;
    bool is_zero = false;
    for (std::size_t stage = derivatives.stages.size(); stage-- > 0 && !is_zero;) {
      const StageAdjoint& adjoint = derivatives.stages[stage];
      if (adjoint.seed == kNoNode) {
        is_zero = true;
        break;
      }
      lowering_.set_view(forward_.scores[stage].view);
      lowering_.set_seed(d_score);
      if (with_gradients) add_gradients(adjoint, seed);
      is_zero = adjoint.d_score == kNoNode;
      if (is_zero) break;
      d_score = lowering_.lower_gradient(adjoint.d_score);
      if (stage > 0) d_score = zero_where_clamped(forward_.scores[stage - 1].result, d_score);
    }
    kind_ = is_zero           ? BackwardLanes::DScore::zero
            : d_score == seed ? BackwardLanes::DScore::seed
                              : BackwardLanes::DScore::output;
    if (kind_ != BackwardLanes::DScore::output) return;
    outputs_.insert(outputs_.begin(), d_score);
    for (EntryGradient& gradient : gradients_) {
      if (gradient.value) ++*gradient.value;
      for (GradientIndex& index : gradient.indices) index.place += index.hoist == Hoist::entry ? 1 : 0;
    }
  }

  Lowering::Parts parts() const { return lowering_.split({{forward_.score}}, outputs_, strips_); }
  BackwardLanes::DScore d_score() const { return kind_; }
  std::vector<EntryGradient> gradients() const { return gradients_; }
  bool has_adjoint() const { return !outputs_.empty() || !strips_.empty() || !gradients_.empty(); }

 private:
  /// The clamp of a stage's result has derivative 0; a removed entry's seed is 0 already.
  ValueId zero_where_clamped(ValueId result, ValueId d_score) {
    const ValueId is_clamped = lowering_.operation<Less>(true, {result, lowering_.real_constant(-0x1p126)});
    return lowering_.operation<Selection>(true, {is_clamped, lowering_.real_constant(0), d_score});
  }

  void add_gradients(const StageAdjoint& adjoint, ValueId seed) {
    for (const TableGradient& of_table : adjoint.tables) {
      EntryGradient gradient{
          .is_table = true, .slot = of_table.table, .value = output_of(of_table.value, seed), .indices = {}};
      for (const NodeId node : derivatives_.graph[of_table.read].inputs()) {
        gradient.indices.push_back(index_of(node));
        gradient.hoist = joined(gradient.hoist, gradient.indices.back().hoist);
      }
      const Node& read = derivatives_.graph[of_table.read];
      gradient.is_one_to_one = !read.clamped && is_one_to_one(gradient.indices);
      gradient.by_head = reads_coordinate(read, Coordinate::head);
      gradient.by_batch = reads_coordinate(read, Coordinate::batch);
      gradients_.push_back(gradient);
    }
    for (const ParameterGradient& of_parameter : adjoint.parameters) {
      gradients_.push_back(
          {.slot = of_parameter.parameter, .value = output_of(of_parameter.value, seed), .indices = {}});
    }
  }

  /// The number of the output that holds a node's value, unless it is the seed itself.
  std::optional<std::size_t> output_of(NodeId node, ValueId seed) {
    const ValueId value = lowering_.lower(node);
    if (value == seed) return std::nullopt;
    outputs_.push_back(value);
    return outputs_.size() - 1;
  }

  GradientIndex index_of(NodeId node) {
    const ValueId value = lowering_.lower(node);
    std::vector<ValueId>& held = lowering_.class_of(value) == Hoist::entry ? outputs_ : strips_;
    held.push_back(value);
    return {lowering_.class_of(value), held.size() - 1, lowering_.form_of(node)};
  }

  /// Whether two of the indices tell query and key: both are affine, and their forms independent.
  static bool is_one_to_one(const std::vector<GradientIndex>& indices) {
    const auto is_known = [](const GradientIndex& index) { return index.form.known; };
    if (!std::all_of(indices.begin(), indices.end(), is_known)) return false;
    for (const GradientIndex& a : indices) {
      for (const GradientIndex& b : indices) {
        const auto number = [](std::uint32_t word) { return std::int64_t{static_cast<std::int32_t>(word)}; };
        if (number(a.form.query) * number(b.form.key) != number(a.form.key) * number(b.form.query)) return true;
      }
    }
    return false;
  }

  /// Whether one of the indices is a coordinate itself.
  bool reads_coordinate(const Node& read, Coordinate coordinate) const {
    const auto inputs = read.inputs();
    return std::any_of(inputs.begin(), inputs.end(), [&](NodeId input) {
      const Node& node = derivatives_.graph[input];
      return node.kind == Kind::coordinate && static_cast<Coordinate>(node.index) == coordinate;
    });
  }

  static Hoist joined(Hoist a, Hoist b) {
    if (a == Hoist::uniform || a == b) return b;
    return b == Hoist::uniform ? a : Hoist::entry;
  }

  const Derivatives& derivatives_;
  Lowering lowering_;
  bool with_gradients_;
  LoweredStages forward_{};
  BackwardLanes::DScore kind_ = BackwardLanes::DScore::zero;
  std::vector<ValueId> outputs_, strips_;  // of the adjoint program
  std::vector<EntryGradient> gradients_;
};

}  // namespace

BackwardLanes lower_backward(const Variant& variant, const LaneOptions& options, bool with_gradients) {
  const Variant::Data& data = variant.data();
  const Derivatives derivatives(data);
  const BackwardLowering full(derivatives, data.stages, options, false, with_gradients);
  const BackwardLowering partial(derivatives, data.stages, options, true, with_gradients);
  Lowering::Parts parts = full.parts();
  BackwardLanes lanes{.full = std::move(parts.before),
                      .partial = partial.parts().before,
                      .adjoint = {},
                      .d_score = full.d_score(),
                      .gradients = full.gradients()};
  if (full.has_adjoint()) lanes.adjoint.emplace(std::move(parts.after));
  return lanes;
}

}  // namespace tilewise::variant
