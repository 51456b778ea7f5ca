// Rearranged scores: what is left to an entry, and what must stay as it is recorded.
#include "variant/rearranged.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <set>

#include "tilewise/zoo.h"
#include "variant/bindings.h"
#include "variant/cuda_text.h"
#include "variant/hoist.h"
#include "variant/operations/operations.h"
#include "variant/scalar.h"

namespace tilewise::variant {
namespace {

/// The names of the operations that an entry has to do for `root`.
std::multiset<std::string> work_of_entry(const Graph& graph, NodeId root) {
  const std::vector<Hoist> classes = hoisting_classes(graph);
  std::vector<bool> needed(graph.size(), false);
  needed[root] = true;
  std::multiset<std::string> work;
  for (NodeId id = root + 1; id-- > 0;) {
    if (!needed[id] || classes[id] != Hoist::entry) continue;
    for (const NodeId operand : graph[id].inputs()) needed[operand] = true;
    if (graph[id].kind == Kind::operation) work.emplace(kInfo[static_cast<std::size_t>(graph[id].index)].name);
  }
  return work;
}

using Work = std::multiset<std::string>;

TEST(Rearranged, LittleIsLeftToAnEntry) {
  const auto exponent_of = [](const Variant& variant) {
    const Rearranged made = rearranged(variant.data(), false);
    return work_of_entry(made.graph, made.exponent);
  };
  EXPECT_EQ(exponent_of(zoo::softcap(30)), (Work{"mul", "mul", "tanh"}));
  EXPECT_EQ(exponent_of(zoo::alibi(16)), (Work{"add", "mul"}));
  EXPECT_EQ(exponent_of(zoo::temperature(1.5)), (Work{"mul"}));
  EXPECT_EQ(exponent_of(zoo::log_n_scaling(1024)), (Work{"mul"}));
  EXPECT_EQ(exponent_of(zoo::relative_position(128)), (Work{"add", "mul"}));
}

/// The value of a node that is made of numbers, the product q.k, its scale and the places of its query and key.
double value_of(const Graph& graph, NodeId root, double product, double scale, const std::vector<double>& literals,
                std::int32_t query = 0, std::int32_t key = 0) {
  std::vector<Value<double>> values(root + 1);
  for (NodeId id = 0; id <= root; ++id) {
    const Node& node = graph[id];
    std::vector<Value<double>> operands;
    for (const NodeId operand : node.inputs()) operands.push_back(values[operand]);
    if (node.kind == Kind::score) values[id].real = product;
    if (node.kind == Kind::scale) values[id].real = scale;
    if (node.kind == Kind::constant) values[id].real = node.value;
    if (node.kind == Kind::literal) values[id].real = literals[static_cast<std::size_t>(node.index)];
    if (node.kind == Kind::coordinate) {
      const auto coordinate = static_cast<Coordinate>(node.index);
      values[id].int32 = coordinate == Coordinate::query || coordinate == Coordinate::query_index ? query : key;
    }
    if (node.kind == Kind::operation)
      values[id] = evaluate_operation<double>(node.index, graph[node.inputs().back()].type, operands.data());
  }
  return values[root].real;
}

// tanh.approx is right to 2^-11 of its value.
TEST(Rearranged, CapsOfSmallProductsAreCubics) {
  const Variant variant = zoo::softcap(30);
  const Rearranged made = rearranged(variant.data(), false);
  ASSERT_NE(made.small.exponent, kNoNode);
  EXPECT_EQ(work_of_entry(made.graph, made.small.exponent), (Work{"add", "mul", "mul", "mul"}));
  const std::vector<double> literals = bind(variant.data().graph, {}).literals;
  const double scale = 0.125, limit = std::sqrt(value_of(made.graph, made.small.square_limit, 0, scale, literals));
  EXPECT_NEAR(limit, 0.37 * 30 / scale, 1e-3);
  for (double product = -limit; product <= limit; product += limit / 1000) {
    const double exact = 30 * std::tanh(scale * product / 30) * std::numbers::log2e;
    const double cubic = value_of(made.graph, made.small.exponent, product, scale, literals);
    EXPECT_NEAR(cubic, exact, 0x1p-11 * std::abs(exact) + 1e-9) << product;
  }
}

// key is query - (query - key).
TEST(Rearranged, WhatIsLinearInKeysGoesToQueriesAndDiagonals) {
  const auto has_offset_of_keys = [](const Variant& variant, bool with_slope) {
    const Rearranged made = rearranged(variant.data(), with_slope);
    const std::vector<Hoist> classes = hoisting_classes(made.graph);
    std::vector<bool> needed(made.graph.size(), false);
    needed[made.of_entry] = true;
    bool has = false;
    for (NodeId id = made.of_entry + 1; id-- > 0;) {
      if (!needed[id]) continue;
      if (classes[id] == Hoist::key) has = true;
      for (const NodeId operand : made.graph[id].inputs()) needed[operand] = classes[id] == Hoist::entry;
    }
    return has;
  };
  const auto score_of = [](auto bias) {
    return score([&](Expr s, const At& at) { return s + to_real(abs(at.query - at.key)) + bias(at); });
  };
  const Variant linear = score_of([](const At& at) { return (to_real(at.key) * 0.5 - 3) / 7 + 1; });
  EXPECT_FALSE(has_offset_of_keys(linear, false));
  EXPECT_TRUE(has_offset_of_keys(linear, true));
  EXPECT_TRUE(has_offset_of_keys(score_of([](const At& at) { return to_real(at.key) * to_real(at.key); }), false));
  EXPECT_TRUE(has_offset_of_keys(score_of([](const At& at) { return to_real(min(at.key, 5)); }), false));
}

TEST(Rearranged, OtherFunctionsAreNotCubics) {
  for (const Variant& variant :
       {zoo::alibi(16), score([](Expr s, const At&) { return s + tanh(s); }),
        score([](Expr s, const At&at) { return tanh(s * to_real(at.key)); }), zoo::softcap(30) & zoo::softcap(20)}) {
    EXPECT_EQ(rearranged(variant.data(), false).small.exponent, kNoNode);
  }
}

TEST(Rearranged, SlopesThatAreFinite) {
  EXPECT_TRUE(rearranged(zoo::softcap(30).data(), true).slope_is_finite);
  EXPECT_TRUE(rearranged(zoo::alibi(16).data(), true).slope_is_finite);
  EXPECT_FALSE(rearranged(score([](Expr s, const At&) { return sqrt(s); }).data(), true).slope_is_finite);
}

/// The operations that an entry has to do for the slope.
Work slope_of(const Variant& variant) {
  const Rearranged made = rearranged(variant.data(), true);
  return work_of_entry(made.graph, made.slope);
}

// The adjoint adds up what comes through each operand; of min, max and select that is 0 but for one.
TEST(Rearranged, SlopesOfChoicesAreSelections) {
  const auto first = [](const At& at) { return to_real(at.query) * 0.5; };
  const auto second = [](const At& at) { return to_real(at.query - at.key) * 0.5; };
  // Below the distance s, above it s - 1, and at most the position: one comparison says which slope.
  const Variant step = score([&](Expr s, const At& at) { return min(first(at), select(s < second(at), s, s + -1.0)); });
  EXPECT_EQ(slope_of(step), (Work{"add", "lt", "lt", "mul", "select", "select"}));
  // A selection and a comparison for each min and max.
  const Variant clamps = score([&](Expr s, const At& at) { return max(min(max(first(at), s), s + 0.25), second(at)); });
  EXPECT_EQ(slope_of(clamps), (Work{"add", "gt", "gt", "lt", "max", "min", "mul", "select", "select", "select"}));
  EXPECT_EQ(slope_of(zoo::alibi(16)), Work{});
}

TEST(Rearranged, SlopesOfChoicesAreThoseOfTheScore) {
  for (const Variant& variant :
       {score([](Expr s, const At&) { return max(min(max(-1.5, s), max(s * 0.5, s + 0.25)), -3.0); }),
        score([](Expr s, const At&) { return select(s < 1.0, abs(s), min(s * s, 2.0)) * 0.7; }),
        score([](Expr s, const At&) { return tanh(s) * max(s, 0.3); }) &
            score([](Expr s, const At&) { return min(s, 0.4) - select(s < -0.5, s, 0.0); })}) {
    const Rearranged made = rearranged(variant.data(), true);
    const std::vector<double> literals = bind(variant.data().graph, {}).literals;
    const auto at = [&](NodeId root, double product) { return value_of(made.graph, root, product, 1, literals); };
    constexpr double kStep = 1e-5;
    for (double product = -4.0123; product < 4; product += 0.037) {
      const double difference = (at(made.score, product + kStep) - at(made.score, product - kStep)) / (2 * kStep);
      EXPECT_NEAR(at(made.slope, product), difference, 1e-4) << "at " << product;
    }
  }
}

// max(s, max(0.25 + s, -0.25)) is max(s + max(0, 0.25), -0.25), and its slope asks one condition.
TEST(Rearranged, SumsThatDifferByANumberAreOneOperand) {
  const Variant variant = score([](Expr s, const At&) { return max(s, max(0.25 + s, -0.25)); });
  const Rearranged made = rearranged(variant.data(), true);
  EXPECT_EQ(work_of_entry(made.graph, made.score), (Work{"add", "max", "mul"}));
  EXPECT_EQ(work_of_entry(made.graph, made.slope), (Work{"add", "gt", "mul", "select"}));
}

TEST(Rearranged, ChoicesAreThoseOfTheVariant) {
  struct Chosen {
    Variant variant;
    double (*score)(double s, double query, double key);
  };
  const auto query = [](const At& at) { return to_real(at.query); };
  const auto key = [](const At& at) { return to_real(at.key); };
  const auto distance = [](const At& at) { return to_real(at.query - at.key); };
  static constexpr auto at_least = [](double a, double b) { return std::max(a, b); };
  const std::vector<Chosen> all{
      {score([&](Expr s, const At& at) { return abs(distance(at)) * 0.5 - select(0.75 < s, -0.5, s); }),
       [](double s, double q, double k) { return std::abs(q - k) * 0.5 - (0.75 < s ? -0.5 : s); }},
      {score([&](Expr s, const At& at) {
         return min(query(at) * 0.5 + distance(at) * 0.5, select(s < distance(at) * 0.25, s, s + -1.0));
       }),
       [](double s, double q, double k) { return std::min(q * 0.5 + (q - k) * 0.5, s < (q - k) * 0.25 ? s : s - 1); }},
      {score([&](Expr s, const At& at) {
         return max(min(max(query(at) * 0.25, s), max(s, max(0.25 + s, -0.25))), abs(distance(at)) * 0.125);
       }),
       [](double s, double q, double k) {
         return at_least(std::min(at_least(q * 0.25, s), at_least(s, at_least(0.25 + s, -0.25))),
                         std::abs(q - k) * 0.125);
       }},
      {score([&](Expr s, const At& at) { return key(at) * 0.5 - min(max(s, s * 0.5 - 0.25), query(at) * 0.125); }),
       [](double s, double q, double k) { return k * 0.5 - std::min(at_least(s, s * 0.5 - 0.25), q * 0.125); }}};
  for (const Chosen& one : all) {
    const std::vector<double> literals = bind(one.variant.data().graph, {}).literals;
    for (const bool with_slope : {false, true}) {
      const Rearranged made = rearranged(one.variant.data(), with_slope);
      for (const double scale : {0.3, -0.3, 0.0}) {
        for (const auto& [q, k] : {std::pair{0, 0}, {3, 5}, {6, 2}, {7, 0}}) {
          for (double product = -9.0123; product < 9; product += 0.237) {
            const auto at = [&](NodeId root) { return value_of(made.graph, root, product, scale, literals, q, k); };
            const double s = scale * product, expected = one.score(s, q, k);
            EXPECT_NEAR(at(made.score), expected, 1e-5);
            EXPECT_NEAR(at(made.exponent), expected * std::numbers::log2e, 1e-5);
            if (!with_slope || scale == 0) continue;
            constexpr double kStep = 1e-6;
            EXPECT_NEAR(at(made.slope), (one.score(s + kStep, q, k) - one.score(s - kStep, q, k)) / (2 * kStep), 1e-4);
          }
        }
      }
    }
  }
}

// What a condition rests on is not free; what the score alone rests on is.
TEST(Rearranged, ConditionsStayAsTheyAreRecorded) {
  const Variant variant =
      score([](Expr s, const At& at) { return select(to_real(at.query - at.key) * 0.3 < 5.0, s * 0.7, s); });
  const Rearranged made = rearranged(variant.data(), false);
  const std::vector<Hoist> classes = hoisting_classes(made.graph);
  int of_condition = 0;
  for (NodeId id = 0; id < variant.data().graph.size(); ++id) {
    const Node& node = made.graph[id];
    if (node.kind != Kind::operation || node.index != number_of<Multiplication> || classes[id] == Hoist::entry)
      continue;
    EXPECT_FALSE(made.is_free[id]);
    ++of_condition;
  }
  EXPECT_EQ(of_condition, 1);
  EXPECT_TRUE(made.is_free[made.exponent]);
}

TEST(Rearranged, ArgumentsLieWhereTheExactTextHasThem) {
  for (const Variant& variant : {zoo::softcap(30), zoo::alibi(16) & zoo::window(7), zoo::t5_buckets()}) {
    const ArgumentLayout exact = cuda_text(variant).layout;
    for (const bool with_slope : {false, true}) {
      const ArgumentLayout layout = rearranged_cuda_text(variant, DType::bfloat16, with_slope).layout;
      EXPECT_EQ(layout.size, exact.size);
      EXPECT_EQ(layout.tables, exact.tables);
      EXPECT_EQ(layout.literals, exact.literals);
    }
  }
}

}  // namespace
}  // namespace tilewise::variant
