// The gradients that an adjoint gives at one entry, gathered for the laws.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <utility>
#include <vector>

#include "variant/adjoint.h"
#include "variant/bindings.h"
#include "variant/scalar.h"

namespace tilewise::laws {

/// The gradients of one entry, by what they belong to.
struct Gradients {
  double score = 0;
  std::map<std::int32_t, double> parameters;
  std::map<std::pair<std::int32_t, const std::byte*>, double> cells;  // by table and address: indices may share one
};

/// Where a read of a table falls.
template <class Real>
const std::byte* element_of(const variant::Graph& graph, variant::NodeId read, const variant::BoundTable& table,
                            variant::ScalarReading<Real>& reading) {
  std::vector<std::int64_t> index;
  for (variant::NodeId operand : graph[read].inputs()) {
    const std::int64_t last = table.extents[index.size()] - 1;
    index.push_back(std::clamp<std::int64_t>(reading.evaluate(operand).int32, 0, last));
  }
  return table.address(index);
}

template <class Real>
Gradients gradients_of(const variant::StageAdjoint& stage, const variant::Bound& bound,
                       variant::ScalarReading<Real>& reading) {
  Gradients gradients;
  if (stage.d_score != variant::kNoNode) gradients.score = reading.evaluate(stage.d_score).real;
  for (const variant::ParameterGradient& gradient : stage.parameters)
    gradients.parameters[gradient.parameter] += reading.evaluate(gradient.value).real;
  for (const variant::TableGradient& gradient : stage.tables) {
    const variant::BoundTable& table = bound.tables[static_cast<std::size_t>(gradient.table)];
    gradients.cells[{gradient.table, element_of(stage.graph, gradient.read, table, reading)}] +=
        reading.evaluate(gradient.value).real;
  }
  return gradients;
}

}  // namespace tilewise::laws
