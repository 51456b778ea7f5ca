// Gradients of tables, parameters and sinks of every named variant, against central differences of the float64 oracle.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "core/element.h"
#include "tests/attention/oracle.h"
#include "tilewise/reference.h"
#include "tilewise/zoo_entry.h"

namespace tilewise::attention::testing {
namespace {

using reference::AttentionData;

/// The sum of all o times d_o and all lse times d_lse.
double loss_of(const Variant& variant, const AttentionData& data, const ForwardInputs& inputs) {
  AttentionData exact(data.shape(), 0);
  standard_attention(variant, inputs, exact.outputs());
  double loss = 0;
  data.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
    for (std::int64_t c = 0; c < data.shape().d_v; ++c)
      loss += exact.at_query(exact.o, i, head, row, c) * data.at_query(data.d_o, i, head, row, c);
    const double lse = exact.at_query(exact.lse, i, head, row);
    if (std::isfinite(lse)) loss += lse * data.at_query(data.d_lse, i, head, row);
  });
  return loss;
}

class Differences : public ::testing::TestWithParam<const zoo::Entry*> {};

TEST_P(Differences, AreTheGradients) {
  const Variant variant = parse_variant(std::string(GetParam()->example));
  const reference::Shape shape = uniform(2, 4, 2, 37, 61, 8, 8);
  Bound bound = bind_random(variant, problem_of(shape), 3);
  AttentionData data(shape, 3, DType::float32, DType::float32);
  data.inputs.tables = bound.tables;
  data.inputs.parameters = bound.parameters;
  const Plan plan = Attention(variant).plan(plan_shape(shape, DType::float32, true, bound));
  const VariantOutputs gradients(bound);
  run(plan, data, &gradients);

  std::mt19937_64 random(1);
  constexpr double kStep = 0x1p-9;
  std::size_t number = 0;
  for (std::size_t i = 0; i < bound.tables.size(); ++i) {
    const Table& table = bound.tables[i].table;
    if (table.type() != Type::real) continue;
    const std::vector<double>& found = gradients.values[number++];
    ASSERT_EQ(table.dtype(), DType::float32) << "the step is one of float32";
    for (int times = 0; times < 12; ++times) {
      const std::size_t at = random() % found.size();
      auto* element = reinterpret_cast<float*>(bound.memory[i]->data()) + at;
      const float before = *element, above = before + static_cast<float>(kStep),
                  below = before - static_cast<float>(kStep);
      if (static_cast<double>(above) > table.high() || static_cast<double>(below) < table.low()) continue;
      *element = above;
      const double high = loss_of(variant, data, data.inputs);
      *element = below;
      const double low = loss_of(variant, data, data.inputs);
      *element = before;
      const double slope = (high - low) / static_cast<double>(above - below);
      EXPECT_NEAR(found[at], slope, 1e-4 * (1 + std::fabs(slope))) << table.name() << ", element " << at;
    }
  }
  for (std::size_t i = 0; i < bound.parameters.size(); ++i) {
    if (bound.parameters[i].parameter.type() != Type::real) continue;
    ForwardInputs inputs = data.inputs;
    const double before = inputs.parameters[i].value;
    inputs.parameters[i].value = before + kStep;
    const double high = loss_of(variant, data, inputs);
    inputs.parameters[i].value = before - kStep;
    const double slope = (high - loss_of(variant, data, inputs)) / (2 * kStep);
    EXPECT_NEAR(gradients.values[number++][0], slope, 1e-4 * (1 + std::fabs(slope)))
        << bound.parameters[i].parameter.name();
  }
}

std::vector<const zoo::Entry*> entries_with_gradients() {
  std::vector<const zoo::Entry*> found;
  for (const zoo::Entry& entry : zoo::entries()) {
    const Variant variant = parse_variant(std::string(entry.example));
    bool has = false;
    for (const Table& table : variant.tables()) has = has || (table.type() == Type::real && !table.frozen_data());
    for (const Parameter& parameter : variant.parameters()) has = has || parameter.type() == Type::real;
    if (has) found.push_back(&entry);
  }
  return found;
}

INSTANTIATE_TEST_SUITE_P(Zoo, Differences, ::testing::ValuesIn(entries_with_gradients()),
                         [](const auto& of) { return std::string(of.param->name); });

}  // namespace
}  // namespace tilewise::attention::testing
