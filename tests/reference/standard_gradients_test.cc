// Every gradient of standard attention against central differences of its float64 forward pass, which other tests hold
// to the formula.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <functional>
#include <sstream>

#include "tests/reference/attention_cases.h"

namespace tilewise::reference {
namespace {

/// The loss whose gradients in o and lse are d_o and d_lse. Rows that keep nothing have no lse to weigh.
double loss(const Case& c, AttentionData& data) {
  c.bind(data.inputs);
  standard_attention(c.variant, data.inputs, data.outputs());
  double sum = 0;
  data.for_each_query([&](std::int64_t b, const Sequence&, std::int64_t head, std::int64_t row) {
    for (std::int64_t i = 0; i < data.shape().d_v; ++i)
      sum += data.at_query(data.o, b, head, row, i) * data.at_query(data.d_o, b, head, row, i);
    const double lse = data.at_query(data.lse, b, head, row);
    if (lse > -1e30) sum += lse * data.at_query(data.d_lse, b, head, row);
  });
  return sum;
}

/// d(loss)/dx by a difference of fourth order: its error is of the order of h^4 = 1e-12 times the fifth derivative,
/// beside 1e-16 / h = 1e-13 times the loss from rounding.
double difference(double x, const std::function<void(double)>& set, const std::function<double()>& evaluate) {
  constexpr double kStep = 1e-3;
  const auto at = [&](double steps) {
    set(x + steps * kStep);
    return evaluate();
  };
  const double slope = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * kStep);
  set(x);
  return slope;
}

constexpr double kTolerance = 1e-8;  // of gradients that are mostly of the order of 0.1 to 10

/// Compares all gradients; returns what differs, or nothing.
std::string disagreement(Case c, AttentionData& data) {
  std::vector<std::vector<double>> d_tables;
  std::vector<double> d_parameters(c.parameters.size(), NAN);
  c.bind(data.inputs);
  BackwardOutputs outputs = data.gradients();
  for (const TableData& table : c.tables) {
    d_tables.emplace_back(static_cast<std::size_t>(table.size()), NAN);
    if (table.table().type() != Type::real) continue;
    outputs.d_tables.push_back({table.table(), Tensor(d_tables.back().data(), DType::float64, table.extents())});
  }
  for (std::size_t i = 0; i < c.parameters.size(); ++i) {
    if (c.parameters[i].parameter.type() != Type::real) continue;
    outputs.d_parameters.push_back({c.parameters[i].parameter, Tensor(&d_parameters[i], DType::float64, {})});
  }
  standard_attention_backward(c.variant, data.inputs, data.given(), outputs);

  std::ostringstream wrong;
  const auto evaluate = [&] { return loss(c, data); };
  const auto compare = [&](const std::string& what, double gradient, double x, const std::function<void(double)>& set) {
    const double expected = difference(x, set, evaluate);
    if (!(std::fabs(gradient - expected) <= kTolerance * (1 + std::fabs(expected))))
      wrong << c.name << ": " << what << " is " << gradient << ", the difference " << expected << "\n";
  };
  const auto compare_array = [&](const char* what, Array& array, const Array& gradient) {
    for (std::int64_t i = 0; i < array.size(); ++i) {
      if (std::isnan(array.get(i))) continue;  // a row of no sequence, or before key_start
      compare(std::string(what) + " " + std::to_string(i), gradient.get(i), array.get(i),
              [&](double x) { array.set(i, x); });
    }
  };
  compare_array("d_q", data.q, data.d_q);
  compare_array("d_k", data.k, data.d_k);
  compare_array("d_v", data.v, data.d_v);
  for (std::size_t t = 0; t < c.tables.size(); ++t) {
    TableData& table = c.tables[t];
    if (table.table().type() != Type::real) continue;
    for (std::int64_t i = 0; i < table.size(); ++i) {
      compare("d_" + table.table().name() + " " + std::to_string(i), d_tables[t][static_cast<std::size_t>(i)],
              table.get(i), [&](double x) { table.set(i, x); });
    }
  }
  for (std::size_t i = 0; i < c.parameters.size(); ++i) {
    if (c.parameters[i].parameter.type() != Type::real) continue;
    compare("d_" + c.parameters[i].parameter.name(), d_parameters[i], c.parameters[i].value,
            [&](double x) { c.parameters[i].value = x; });
  }
  return wrong.str();
}

TEST(StandardGradients, EveryCaseMatchesCentralDifferences) {
  const Shape shape = ordinary_shape();
  AttentionData data(shape, 31);
  data.inputs.seed = 5;
  for (const Case& c : attention_cases(shape, 32)) EXPECT_EQ(disagreement(c, data), "");
}

RC_GTEST_PROP(StandardGradients, RandomShapesMatchCentralDifferences, (std::uint64_t seed)) {
  const Shape shape = random_shape(seed);
  AttentionData data(shape, seed + 1);
  data.inputs.seed = seed + 2;
  const auto cases = attention_cases(shape, seed + 3);
  const std::string wrong = disagreement(cases[seed % cases.size()], data);
  if (!wrong.empty()) RC_FAIL(wrong);
}

TEST(StandardGradients, WhatIsLeftOutChangesNothingElse) {
  const Shape shape = ordinary_shape();
  AttentionData all(shape, 41), some(shape, 41);
  const Case c = attention_cases(shape, 42)[8];  // with a sink
  c.bind(all.inputs), c.bind(some.inputs);
  standard_attention_backward(c.variant, all.inputs, all.given(), all.gradients());
  standard_attention_backward(c.variant, some.inputs, some.given(), {.d_k = some.d_k.tensor()});
  all.for_each_key([&](std::int64_t b, const Sequence&, std::int64_t head, std::int64_t row) {
    EXPECT_EQ(all.at_key(all.d_k, b, head, row), some.at_key(some.d_k, b, head, row));
  });
  for (std::int64_t i = 0; i < some.d_q.size(); ++i) EXPECT_TRUE(std::isnan(some.d_q.get(i)));

  // No d_lse is a d_lse of 0.
  all.for_each_query([&](std::int64_t b, const Sequence& sequence, std::int64_t head, std::int64_t row) {
    all.d_lse.set(all.d_lse.place(b, head, row, sequence.first_query_token), 0);
  });
  standard_attention_backward(c.variant, all.inputs, all.given(), all.gradients());
  standard_attention_backward(c.variant, some.inputs, {.d_o = some.d_o.view()}, some.gradients());
  all.for_each_query([&](std::int64_t b, const Sequence&, std::int64_t head, std::int64_t row) {
    EXPECT_EQ(all.at_query(all.d_q, b, head, row), some.at_query(some.d_q, b, head, row));
  });
}

}  // namespace
}  // namespace tilewise::reference
