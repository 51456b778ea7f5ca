#include "reference/derivatives.h"

#include <algorithm>

#include "core/element.h"
#include "reference/entries.h"
#include "variant/place.h"

namespace tilewise::reference {

using variant::NodeId;

template <class Real>
Derivatives<Real>::Derivatives(const Variant& variant, const variant::Call& call) : call_(call) {
  const Variant::Data& data = variant.data();
  for (const variant::Stage& stage : data.stages) {
    if (stage.kind == variant::Stage::Kind::score)
      stages_.push_back(std::make_unique<Stage>(data.graph, stage.root, call.bound));
  }
  if (variant.has_sink()) sink_ = std::make_unique<Stage>(data.graph, data.sink, call.bound);
  for (const variant::BoundTable& table : call.bound.tables) {
    std::int64_t elements = 1;
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(table.rank); ++axis) elements *= table.extents[axis];
    gradients_.tables.emplace_back(is_floating(table.dtype) ? static_cast<std::size_t>(elements) : 0);
  }
  gradients_.parameters.resize(call.bound.parameters.size());
}

template <class Real>
void Derivatives<Real>::enter_head(std::int64_t sequence, std::int64_t head) {
  sequence_ = sequence;
  head_ = head;
}

template <class Real>
Real Derivatives<Real>::of_score(std::int64_t query, std::int64_t key, Real raw, Real d_score) {
  const variant::Place place = variant::place_of(call_.problem, sequence_, head_, query, key);
  const Real scale = static_cast<Real>(call_.scale);
  Real score = scale * raw;
  for (const auto& stage : stages_) {  // forward again: each derivative is taken at the score that entered its stage
    stage->reading.enter(place);
    stage->reading.set_score(score);
    score = stage->reading.evaluate(stage->root).real;
    stage->clamped = score < kLeastScore;
    if (stage->clamped) score = static_cast<Real>(kLeastScore);
  }
  for (auto at = stages_.rbegin(); at != stages_.rend(); ++at) {
    Stage& stage = **at;
    if (stage.clamped || stage.adjoint.seed == variant::kNoNode) return 0;
    stage.reading.set_seed(d_score);
    add_contributions(stage);
    if (stage.adjoint.d_score == variant::kNoNode) return 0;
    d_score = stage.reading.evaluate(stage.adjoint.d_score).real;
  }
  return scale * d_score;
}

template <class Real>
void Derivatives<Real>::of_sink(Real d_sink) {
  if (sink_->adjoint.seed == variant::kNoNode) return;
  sink_->reading.enter(variant::place_of(call_.problem, sequence_, head_, 0, 0));
  sink_->reading.set_seed(d_sink);
  add_contributions(*sink_);
}

template <class Real>
void Derivatives<Real>::add_contributions(Stage& stage) {
  const variant::Graph& graph = stage.adjoint.graph;
  for (const variant::TableGradient& contribution : stage.adjoint.tables) {
    const auto table = static_cast<std::size_t>(contribution.table);
    const variant::BoundTable& bound = call_.bound.tables[table];
    if (bound.is_empty()) continue;
    std::int64_t element = 0;
    const auto indices = graph[contribution.read].inputs();
    for (std::size_t axis = 0; axis < indices.size(); ++axis) {
      const std::int64_t index = stage.reading.evaluate(indices[axis]).int32;
      element = element * bound.extents[axis] + std::clamp<std::int64_t>(index, 0, bound.extents[axis] - 1);
    }
    gradients_.tables[table][static_cast<std::size_t>(element)] += stage.reading.evaluate(contribution.value).real;
  }
  for (const variant::ParameterGradient& contribution : stage.adjoint.parameters) {
    gradients_.parameters[static_cast<std::size_t>(contribution.parameter)] +=
        stage.reading.evaluate(contribution.value).real;
  }
}

template class Derivatives<float>;
template class Derivatives<double>;

}  // namespace tilewise::reference
