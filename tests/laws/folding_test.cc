// Folding and canonical form change no value, in no reading and at no entry.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "tests/laws/operations.h"
#include "tests/laws/random_variant.h"
#include "tests/laws/reading.h"
#include "tilewise/error.h"
#include "variant/build.h"

namespace tilewise::laws {
namespace {

using namespace variant;  // NOLINT(google-build-using-namespace): the laws look into graphs

template <class Real>
void expect_same_values(const World& world, const Graph& a, NodeId a_root, const Graph& b, NodeId b_root,
                        Choices& values) {
  const Bound a_bound = bind(a, world.bindings_for(a)), b_bound = bind(b, world.bindings_for(b));
  ScalarReading<Real> a_reading(a, a_bound), b_reading(b, b_bound);
  RC_ASSERT(a[a_root].type == b[b_root].type);
  for (int i = 0; i < 8; ++i) {
    const Place place = random_place(values);
    const auto score = static_cast<Real>(values.real(true, true));
    const auto value_of = [&](ScalarReading<Real>& reading, NodeId root) {
      reading.enter(place);
      reading.set_score(score);
      return reading.evaluate(root);
    };
    const Value<Real> x = value_of(a_reading, a_root), y = value_of(b_reading, b_root);
    const Type type = a[a_root].type;
    if (!same(type, x, y)) {
      RC_LOG() << "one:\n" << listing(a, a_root) << "other:\n" << listing(b, b_root) << "score " << score << '\n';
      RC_LOG() << as_double(type, x) << " != " << as_double(type, y);
      RC_FAIL("two forms of one expression differ");
    }
  }
}

RC_GTEST_PROP(Folding, ChangesNoValue, (Choices choices, Choices values)) {
  const Options options;
  const World world = random_world(choices, options);
  const auto role = static_cast<Role>(choices.below(3));
  const Expression built = random_expression(choices, options, world, role, static_cast<Type>(choices.below(3)));
  expect_same_values<float>(world, built.raw, built.raw_root, built.folded, built.folded_root, values);
  expect_same_values<double>(world, built.raw, built.raw_root, built.folded, built.folded_root, values);
}

/// Every operation with an edge value baked in as each operand, read at every edge value of the others.
class FoldingAtTheEdges {
 public:
  void expect_no_value_changed(std::size_t number, Type chosen) {
    const std::vector<Type> types = operand_types(kInfo[number], chosen);
    for (std::size_t baked = 0; baked < types.size(); ++baked) {
      const std::vector<double>& edges = types[baked] == Type::real    ? kReals
                                         : types[baked] == Type::int32 ? kInts
                                                                       : kBools;
      for (double edge : edges) {
        if (std::isnan(edge)) continue;
        const bool is_power = static_cast<std::int32_t>(number) == number_of<Power>;
        const bool may_be_refused = is_power ? baked == 0 : baked == 1 && edge == 0;  // exponents, divisors
        try {
          compare(number, types, baked, edge);
        } catch (const Error&) {
          EXPECT_TRUE(may_be_refused) << kInfo[number].name << " with " << edge;
        }
      }
    }
  }
  int folded() const { return folded_; }

 private:
  /// Leaves that take any value: the score and the seed, two coordinates, two comparisons.
  static NodeId variable(Graph& graph, Type type, std::size_t place) {
    if (type == Type::real) return place % 2 == 0 ? graph.add_score() : graph.add_seed();
    const NodeId of_int = graph.add_coordinate(place % 2 == 0 ? Coordinate::query : Coordinate::key);
    if (type == Type::int32) return of_int;
    return graph.add({.kind = Kind::operation,
                      .type = Type::boolean,
                      .operand_count = 2,
                      .index = number_of<NotEqual>,
                      .operands = {of_int, graph.add_constant(Type::int32, 0)}});
  }

  void compare(std::size_t number, const std::vector<Type>& types, std::size_t baked, double edge) {
    Graph graph;
    std::vector<NodeId> operands;
    for (std::size_t i = 0; i < types.size(); ++i)
      operands.push_back(i == baked ? graph.add_constant(types[i], edge) : variable(graph, types[i], i));
    const NodeId folded = make_operation(graph, static_cast<std::int32_t>(number), operands);
    Node node{.kind = Kind::operation,
              .type = result_type(kInfo[number], types.back()),
              .operand_count = static_cast<std::uint8_t>(types.size()),
              .index = static_cast<std::int32_t>(number)};
    std::copy(operands.begin(), operands.end(), node.operands.begin());
    const NodeId raw = graph.add(node);
    if (raw == folded) return;
    ++folded_;
    compare_values<float>(graph, raw, folded);
    compare_values<double>(graph, raw, folded);
  }

  template <class Real>
  void compare_values(const Graph& graph, NodeId raw, NodeId folded) {
    const Bound bound;
    ScalarReading<Real> reading(graph, bound);
    ASSERT_EQ(graph[raw].type, graph[folded].type);
    for (std::size_t i = 0; i < kReals.size() * kReals.size(); ++i) {
      const std::size_t first = i % kReals.size(), second = i / kReals.size();
      Place place{};
      place[0] = static_cast<std::int32_t>(kInts[first % kInts.size()]);
      place[1] = static_cast<std::int32_t>(kInts[second % kInts.size()]);
      reading.enter(place);
      reading.set_score(static_cast<Real>(kReals[first]));
      reading.set_seed(static_cast<Real>(kReals[second]));
      ASSERT_TRUE(same(graph[raw].type, reading.evaluate(raw), reading.evaluate(folded)))
          << listing(graph, raw) << "folded to\n"
          << listing(graph, folded) << "score " << kReals[first] << ", seed " << kReals[second] << ", query "
          << place[0] << ", key " << place[1];
    }
  }

  static inline const std::vector<double> kBools{0, 1};
  static inline const std::vector<double> kInts{0,          1,   -1,   2,       5, -7, 31, 32, -2147483648.0,
                                                2147483647, 255, -256, 16777217};
  static inline const std::vector<double> kReals{0.0,       -0.0,         1,
                                                 -1,        0.5,          2,
                                                 -3,        0.1,          HUGE_VAL,
                                                 -HUGE_VAL, std::nan(""), 0x1p-149,
                                                 -0x1p-149, 0x1p-126,     0x1.fffffep127,
                                                 0x1p24,    16777217.0,   1e300,
                                                 -1e-300,   0x1.000002p0};
  int folded_ = 0;
};

TEST(Folding, ChangesNoValueAtTheEdges) {
  FoldingAtTheEdges edges;
  for (std::size_t number = 0; number < kInfo.size(); ++number) {
    for (Type chosen : {Type::int32, Type::real}) edges.expect_no_value_changed(number, chosen);
  }
  EXPECT_GT(edges.folded(), 40);  // there is folding to be checked
}

RC_GTEST_PROP(CanonicalForm, ChangesNoValue, (Choices choices, Choices values)) {
  const RandomVariant random = random_variant(choices);
  const Variant::Data& whole = random.variant.data();
  for (std::size_t i = 0; i < random.parts.size(); ++i) {
    const Expression& part = random.parts[i].expression;
    const NodeId root = random.parts[i].role == Role::sink ? whole.sink : whole.stages[i].root;
    expect_same_values<float>(random.world, part.folded, part.folded_root, whole.graph, root, values);
    expect_same_values<double>(random.world, part.folded, part.folded_root, whole.graph, root, values);
  }
}

}  // namespace
}  // namespace tilewise::laws
