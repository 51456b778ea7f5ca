// The adjoint against central differences in float64, and what it promises about zeros.
#include "variant/adjoint.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>

#include "core/element.h"
#include "tests/laws/operations.h"
#include "tests/laws/random_variant.h"
#include "tests/laws/reading.h"
#include "variant/build.h"

namespace tilewise::laws {
namespace {

using namespace variant;  // NOLINT(google-build-using-namespace): the laws look into graphs

/// Values that differences can be taken of: nothing infinite, and table elements that can be moved by a small step.
constexpr std::array kMovable{DType::float64};
const Options kTame{.depth = 4, .infinite = false, .nan = false, .wild_ints = false, .dtypes = kMovable};

/// The gradients of one entry, by what they belong to.
struct Gradients {
  double score = 0;
  std::map<std::int32_t, double> parameters;
  std::map<std::pair<std::int32_t, const std::byte*>, double> cells;  // by table and address: indices may share one
};

/// Where a read of a table falls.
template <class Real>
const std::byte* element_of(const Graph& graph, NodeId read, const BoundTable& table, ScalarReading<Real>& reading) {
  std::vector<std::int64_t> index;
  for (NodeId operand : graph[read].inputs()) {
    const std::int64_t last = table.extents[index.size()] - 1;
    index.push_back(std::clamp<std::int64_t>(reading.evaluate(operand).int32, 0, last));
  }
  return table.address(index);
}

template <class Real>
Gradients gradients_of(const StageAdjoint& stage, const Bound& bound, ScalarReading<Real>& reading) {
  Gradients gradients;
  if (stage.d_score != kNoNode) gradients.score = reading.evaluate(stage.d_score).real;
  for (const ParameterGradient& gradient : stage.parameters)
    gradients.parameters[gradient.parameter] += reading.evaluate(gradient.value).real;
  for (const TableGradient& gradient : stage.tables) {
    const BoundTable& table = bound.tables[static_cast<std::size_t>(gradient.table)];
    gradients.cells[{gradient.table, element_of(stage.graph, gradient.read, table, reading)}] +=
        reading.evaluate(gradient.value).real;
  }
  return gradients;
}

// Central differences.

enum class Verdict { agrees, both_zero, differs, kink, infinite, unsettled };

const char* to_string(Verdict verdict) {
  static constexpr const char* kNames[] = {
      "agrees",          "agrees, both 0",      "differs",
      "skipped: a kink", "skipped: not finite", "skipped: differences do not settle"};
  return kNames[static_cast<std::size_t>(verdict)];
}

/// Compares d with the slope of f at 0. The tolerance comes from f: central differences at two steps differ by 3/4 of
/// the larger one's error, h^2 f'''/6, plus rounding; one-sided slopes that do not approach each other show a kink.
template <class Function>
Verdict compare_with_difference(double d, double scale, Function f) {
  const double h = 0x1p-13 * scale;
  const auto central = [&f](double step) { return (f(step) - f(-step)) / (2 * step); };
  const auto second = [&f, middle = f(0)](double step) { return (f(step) - 2 * middle + f(-step)) / step; };
  const double wide = central(2 * h), narrow = central(h), narrowest = central(h / 2);
  const double bend = second(h), half_bend = second(h / 2);
  if (!std::isfinite(wide + narrow + narrowest + bend + half_bend) || !std::isfinite(d)) return Verdict::infinite;
  const double rounding = 0x1p-52 * (std::abs(f(0)) + 1) / h;
  const double tolerance = 4 * (std::abs(wide - narrow) + std::abs(narrow - narrowest)) + 16 * rounding;
  if (std::abs(half_bend) > tolerance && std::abs(half_bend) > 0.75 * std::abs(bend)) return Verdict::kink;
  if (tolerance > 1e-3 * (1 + std::abs(narrow))) return Verdict::unsettled;
  if (std::abs(d - narrow) > tolerance) return Verdict::differs;
  return d == 0 && narrow == 0 ? Verdict::both_zero : Verdict::agrees;
}

/// A stage at one entry whose variables can be moved.
class Entry {
 public:
  Entry(const Graph& graph, NodeId root, Bound bound, const Place& place, double score)
      : graph_(graph), root_(root), bound_(std::move(bound)), place_(place), score_(score) {}

  double at_score(double change) { return value(score_ + change); }
  double at_parameter(std::int32_t number, double change) {
    double& parameter = bound_.parameters[static_cast<std::size_t>(number)];
    const double kept = parameter;
    parameter += change;
    const double result = value(score_);
    parameter = kept;
    return result;
  }
  double at_cell(const std::byte* cell, double change) {
    auto* element = const_cast<std::byte*>(cell);  // the law owns the memory that bindings only read
    const double kept = load_real(element, DType::float64);
    store_real(element, DType::float64, kept + change);
    const double result = value(score_);
    store_real(element, DType::float64, kept);
    return result;
  }

  const Bound& bound() const { return bound_; }

 private:
  double value(double score) {
    ScalarReading<double> reading(graph_, bound_);
    reading.enter(place_);
    reading.set_score(score);
    return reading.evaluate(root_).real;
  }

  const Graph& graph_;
  NodeId root_;
  Bound bound_;
  Place place_;
  double score_;
};

/// Larger values leave too few bits to a difference.
template <class Real>
bool has_huge_value(const Graph& graph, NodeId root, ScalarReading<Real>& reading) {
  for (NodeId id = 0; id <= root; ++id) {
    if (graph[id].type == Type::real && std::abs(reading.evaluate(id).real) > 0x1p20) return true;
  }
  return false;
}

class Differences {
 public:
  void check(const RandomPart& part, const World& world, Choices& values) {
    const Graph& graph = part.variant.data().graph;
    const NodeId root = part.role == Role::sink ? part.variant.data().sink : part.variant.data().stages[0].root;
    const StageAdjoint stage = adjoint(graph, root);
    const Place place = random_place(values);
    const double score = static_cast<double>(values.between(-1024, 1024)) / 128, seed = values.once_in(2) ? -2 : 1;
    Entry entry(graph, root, bind(graph, world.bindings_for(graph)), place, score);
    ScalarReading<double> reading(stage.graph, entry.bound());
    reading.enter(place);
    reading.set_score(score);
    reading.set_seed(seed);
    if (has_huge_value(graph, root, reading)) {
      ++skipped_huge_;
      return;
    }
    const Gradients gradients = gradients_of(stage, entry.bound(), reading);
    RC_LOG() << listing(graph, root) << "score " << score << ", seed " << seed << '\n';
    count("score", compare_with_difference(gradients.score / seed, 1 + std::abs(score),
                                           [&](double change) { return entry.at_score(change); }));
    for (const auto& [number, gradient] : gradients.parameters) {
      const double scale = 1 + std::abs(entry.bound().parameters[static_cast<std::size_t>(number)]);
      count("parameter", compare_with_difference(gradient / seed, scale, [&, parameter = number](double change) {
              return entry.at_parameter(parameter, change);
            }));
    }
    for (const auto& [cell, gradient] : gradients.cells) {
      const Table& table = graph.tables()[static_cast<std::size_t>(cell.first)];
      if (table.dtype() != DType::float64 || table.frozen_data()) continue;  // not to be moved by small steps
      const double scale = 1 + std::abs(load_real(cell.second, DType::float64));
      count("cell", compare_with_difference(gradient / seed, scale, [&, element = cell.second](double change) {
              return entry.at_cell(element, change);
            }));
    }
  }

  /// What was compared and what was skipped, for the report.
  const std::map<std::string, std::map<Verdict, int>>& counts() const { return counts_; }
  int skipped_huge() const { return skipped_huge_; }

 private:
  void count(const std::string& what, Verdict verdict) {
    RC_LOG() << what << ' ' << to_string(verdict) << '\n';
    ++counts_[what][verdict];
    RC_ASSERT(verdict != Verdict::differs);
  }
  std::map<std::string, std::map<Verdict, int>> counts_;
  int skipped_huge_ = 0;
};

TEST(Adjoint, MatchesCentralDifferences) {
  Differences differences;
  EXPECT_TRUE(rc::check([&differences](Choices choices, Choices values) {
    const World world = random_world(choices, kTame);
    const RandomPart part = random_part(choices, kTame, world, choices.once_in(8) ? Role::sink : Role::score);
    for (int i = 0; i < 4; ++i) differences.check(part, world, values);
  }));
  std::cout << "skipped, a value above 2^20: " << differences.skipped_huge() << " entries\n";
  for (auto [what, verdicts] : differences.counts()) {
    int compared = verdicts[Verdict::agrees] + verdicts[Verdict::both_zero], all = 0;
    for (const auto& [verdict, count] : verdicts) {
      all += count;
      std::cout << what << ": " << to_string(verdict) << ": " << count << '\n';
    }
    EXPECT_GT(compared, all * 3 / 4) << what;
    EXPECT_GT(verdicts[Verdict::agrees], all / 4) << what;
  }
}

/// An operation on reals over straight lines through random points, as a function of the score near 0.
NodeId over_lines(Graph& graph, std::size_t number, Choices& choices) {
  const auto constant = [&graph](double value) { return graph.add_constant(Type::real, value); };
  const auto made = [&graph](std::int32_t operation, NodeId a, NodeId b) {
    return make_operation(graph, operation, std::array{a, b});
  };
  std::vector<NodeId> operands;
  for (Type type : operand_types(kInfo[number], Type::real)) {
    const auto slope = static_cast<double>(choices.between(1, 8)) / 4;
    const auto middle = static_cast<double>(choices.between(-32, 32)) / 8;
    const NodeId line = made(number_of<Addition>, made(number_of<Multiplication>, graph.add_score(), constant(slope)),
                             constant(middle));
    operands.push_back(type == Type::boolean ? made(number_of<Less>, line, constant(0)) : line);
  }
  if (static_cast<std::int32_t>(number) == number_of<Power>) {
    static constexpr std::array kExponents{2.0, 3.0, 0.5, -1.0, 0.0, -0.5, 0.1, -2.5};
    operands[1] = constant(choices.any_of(kExponents));
  }
  return make_operation(graph, static_cast<std::int32_t>(number), operands);
}

TEST(Adjoint, OfEachOperationMatchesCentralDifferences) {
  std::map<std::string, std::map<Verdict, int>> counts;
  EXPECT_TRUE(rc::check([&counts](std::uint64_t seed) {
    for (std::size_t number = 0; number < kInfo.size(); ++number) {
      const Info& info = kInfo[number];
      if (result_type(info, Type::real) != Type::real || info.rule == Rule::to_real) continue;
      Choices choices = full_tape(seed + number);
      Graph graph;
      const NodeId root = over_lines(graph, number, choices);
      const StageAdjoint stage = adjoint(graph, root);
      Entry entry(graph, root, bind(graph, {}), Place{}, 0);
      ScalarReading<double> reading(stage.graph, entry.bound());
      reading.set_seed(1);
      const double d = stage.d_score == kNoNode ? 0 : reading.evaluate(stage.d_score).real;
      const Verdict verdict = compare_with_difference(d, 1, [&](double change) { return entry.at_score(change); });
      RC_LOG() << info.name << ": adjoint " << d << '\n' << listing(graph, root);
      RC_ASSERT(verdict != Verdict::differs);
      ++counts[std::string(info.name)][verdict];
    }
  }));
  for (auto& [name, verdicts] : counts) {
    int all = 0;
    for (const auto& [verdict, count] : verdicts) all += count;
    // Roots, logarithms and powers of negatives are not finite: half of the cases.
    EXPECT_GT(verdicts[Verdict::agrees] + verdicts[Verdict::both_zero], all / 3) << name;
    EXPECT_TRUE(name == "floor" || verdicts[Verdict::agrees] > all / 4) << name;
  }
}

// What the zeros promise.

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
