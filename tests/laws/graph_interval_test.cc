// The interval of an expression over a box, and of each part of it, contains its scalar values, float32 and float64.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/laws/random_variant.h"
#include "tests/laws/reading.h"
#include "variant/interval_reading.h"

namespace tilewise::laws {
namespace {

using namespace variant;  // NOLINT(google-build-using-namespace): the laws look into graphs

/// Mostly finite, as kernels' scores are; sometimes anything.
Interval random_scores(Choices& choices) {
  if (choices.once_in(8)) return kAnyReal;
  const double a = random_score(choices), b = choices.once_in(4) ? a : random_score(choices);
  return {std::min(a, b), std::max(a, b), false};
}

/// A score of the interval that float32 holds.
float score_of(Choices& choices, Interval scores) {
  if (scores.may_be_nan) return static_cast<float>(choices.real(true, true));
  const std::array candidates{scores.low, scores.high,
                              std::clamp<double>(random_score(choices), scores.low, scores.high)};
  return static_cast<float>(choices.any_of(candidates));
}

bool covers(Interval bounds, double value) { return std::isnan(value) ? bounds.may_be_nan : bounds.contains(value); }

struct Law {
  const Graph& graph;
  NodeId node;
  Interval bounds;

  template <class Real>
  void expect_at(ScalarReading<Real>& reading, const Place& place, float score) const {
    reading.enter(place);
    reading.set_score(static_cast<Real>(score));
    const double value = as_double(graph[node].type, reading.evaluate(node));
    if (covers(bounds, value)) return;
    RC_LOG() << listing(graph, node) << fmt::format("at {}, score {}\n", fmt::join(place, " "), score);
    RC_FAIL(fmt::format("{}-bit value {} is not in [{}, {}{}]", 8 * sizeof(Real), value, bounds.low, bounds.high,
                        bounds.may_be_nan ? " or NaN" : ""));
  }
};

/// Tables bounded by their data, or by what they declare where nothing is bound yet.
SlotBounds slots_of(const Graph& graph, const Bound& bound, bool data_is_known) {
  SlotBounds slots = bounds_of(graph, bound);
  if (data_is_known) return slots;
  for (std::size_t i = 0; i < slots.tables.size(); ++i) {
    slots.tables[i].data.reset();
    slots.tables[i].range = declared_range(graph.tables()[i]);
  }
  for (std::size_t i = 0; i < slots.parameters.size(); ++i) {
    const Parameter& parameter = graph.parameters()[i];
    slots.parameters[i] = {round_down(parameter.low()), round_up(parameter.high()), false};
  }
  return slots;
}

RC_GTEST_PROP(Intervals, ContainEveryScalarValueOfTheirBox, (Choices choices, Choices values)) {
  const RandomVariant random = random_variant(choices);
  const Graph& graph = random.variant.data().graph;
  const Bound bound = bind(graph, random.bindings());
  const Problem problem = random_problem(values);
  const std::int64_t sequence = values.between(0, problem.b() - 1), head = values.between(0, problem.h_q - 1);
  const Box box = random_box(values, problem.sequences[static_cast<std::size_t>(sequence)]);
  const Interval scores = random_scores(values);

  const SlotBounds slots = slots_of(graph, bound, !values.once_in(4));
  IntervalProgramBuilder builder(graph, slots);
  const Register score_register = builder.add_known(scores);
  std::vector<Register> registers;
  for (NodeId node = 0; node < graph.size(); ++node) registers.push_back(builder.add(node, score_register));
  const IntervalProgram program = builder.finish();
  IntervalReading reading(program);
  reading.enter(problem, sequence, head);
  reading.evaluate(std::span(&box, 1));

  ScalarReading<float> narrow(graph, bound);
  ScalarReading<double> wide(graph, bound);
  for (int i = 0; i < 8; ++i) {
    const Entry entry = random_entry_of(values, sequence, head, box);
    const Place place = place_of(problem, sequence, head, entry.query_index, entry.key_index);
    const float score = score_of(values, scores);
    for (NodeId node = 0; node < graph.size(); ++node) {
      const Law law{graph, node, reading.value(registers[node])};
      law.expect_at(narrow, place, score);
      law.expect_at(wide, place, score);
    }
  }
}

}  // namespace
}  // namespace tilewise::laws
