// What the adjoint promises about zeros and branches, and which graph it gives.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <cmath>

#include "tests/laws/gradients.h"
#include "tests/laws/random_variant.h"
#include "variant/build.h"
#include "variant/operations/operations.h"

namespace tilewise::laws {
namespace {

using namespace variant;  // NOLINT(google-build-using-namespace): the laws look into graphs

RC_GTEST_PROP(Adjoint, IsZeroWhereTheSeedIs, (Choices choices, Choices values)) {
  const Options options;
  const World world = random_world(choices, options);
  const RandomPart part = random_part(choices, options, world, Role::score);
  const Graph& graph = part.variant.data().graph;
  const StageAdjoint stage = adjoint(graph, part.variant.data().stages[0].root);
  const Bound bound = bind(graph, world.bindings_for(graph));
  const auto expect_zeros = [&]<class Real>(ScalarReading<Real> reading) {
    for (int i = 0; i < 4; ++i) {
      reading.enter(random_place(values));
      reading.set_score(static_cast<Real>(values.real(true, true)));
      reading.set_seed(values.once_in(2) ? Real(-0.0) : Real(0));
      const Gradients gradients = gradients_of(stage, bound, reading);
      RC_LOG() << listing(stage.graph, stage.d_score);
      RC_ASSERT(gradients.score == 0);
      for (const auto& [number, gradient] : gradients.parameters) RC_ASSERT(gradient == 0);
      for (const auto& [cell, gradient] : gradients.cells) RC_ASSERT(gradient == 0);
    }
  };
  expect_zeros(ScalarReading<float>(stage.graph, bound));
  expect_zeros(ScalarReading<double>(stage.graph, bound));
}

/// A branch that is not taken adds nothing, however infinite or undefined its derivative is there.
RC_GTEST_PROP(Adjoint, IsThatOfTheBranchTaken, (Choices choices, Choices values)) {
  const Options options;
  const World world = random_world(choices, options);
  // Both branches and the condition in one graph, so that they share what they can.
  Graph graph;
  std::array<NodeId, 3> operands{};
  for (std::size_t i = 0; i < 3; ++i) {
    const Expression expression =
        random_expression(choices, options, world, Role::score, i == 0 ? Type::boolean : Type::real);
    std::vector<NodeId> renamed;
    operands[i] = graph.import(expression.folded, expression.folded_root, renamed);
  }
  const NodeId root = make_operation(graph, number_of<Selection>, operands);
  const StageAdjoint both = adjoint(graph, root);
  const std::array<StageAdjoint, 2> alone{adjoint(graph, operands[2]), adjoint(graph, operands[1])};
  const Bound bound = bind(graph, world.bindings_for(graph));
  ScalarReading<double> of_both(both.graph, bound), of_false(alone[0].graph, bound), of_true(alone[1].graph, bound);
  for (int i = 0; i < 4; ++i) {
    const Place place = random_place(values);
    const double score = values.real(true);
    for (auto* reading : {&of_both, &of_false, &of_true}) {
      reading->enter(place);
      reading->set_score(score);
      reading->set_seed(1.5);
    }
    const bool taken = of_both.evaluate(operands[0]).boolean;
    const Gradients found = gradients_of(both, bound, of_both);
    Gradients expected = gradients_of(alone[taken ? 1 : 0], bound, taken ? of_true : of_false);
    RC_LOG() << listing(graph, root) << "score " << score << ", takes " << taken << '\n';
    // Where the branch alone gives NaN, by 0 * inf of its own, the guard of branches may give 0.
    const auto expect_equal = [](double a, double b) { RC_ASSERT(a == b || std::isnan(b)); };
    expect_equal(found.score, expected.score);
    for (const auto& [number, gradient] : found.parameters) expect_equal(gradient, expected.parameters[number]);
    for (const auto& [cell, gradient] : found.cells) expect_equal(gradient, expected.cells[cell]);
  }
}

RC_GTEST_PROP(Adjoint, KeepsTheOriginalsNodesAndBindsToItsLiterals, (Choices choices)) {
  const Options options;
  const World world = random_world(choices, options);
  const RandomPart part = random_part(choices, options, world, choices.once_in(4) ? Role::sink : Role::score);
  const Variant::Data& data = part.variant.data();
  const StageAdjoint stage = adjoint(data.graph, part.role == Role::sink ? data.sink : data.stages[0].root);
  RC_ASSERT(stage.graph.literals() == data.graph.literals());
  RC_ASSERT(stage.graph.tables() == data.graph.tables());
  RC_ASSERT(stage.graph.parameters() == data.graph.parameters());
  for (NodeId id = 0; id < data.graph.size(); ++id) RC_ASSERT(stage.graph[id] == data.graph[id]);
  // Nothing new that no gradient needs.
  std::vector<bool> needed(stage.graph.size(), false);
  const auto need = [&](NodeId id) {
    if (id != kNoNode) needed[id] = true;
  };
  need(stage.d_score);
  for (const TableGradient& gradient : stage.tables) need(gradient.value);
  for (const ParameterGradient& gradient : stage.parameters) need(gradient.value);
  for (NodeId id = static_cast<NodeId>(stage.graph.size()); id-- > 0;) {
    RC_ASSERT(needed[id] || id < data.graph.size());
    if (needed[id]) {
      for (NodeId operand : stage.graph[id].inputs()) needed[operand] = true;
    }
  }
}

}  // namespace
}  // namespace tilewise::laws
