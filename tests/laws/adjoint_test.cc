// The adjoint against central differences in float64.
#include "variant/adjoint.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>

#include "core/element.h"
#include "tests/laws/gradients.h"
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

enum class Verdict { agrees, both_zero, differs, kink, rounded, infinite, unsettled };

const char* to_string(Verdict verdict) {
  static constexpr std::array kNames{"agrees",
                                     "agrees, both 0",
                                     "differs",
                                     "skipped: a kink or pole",
                                     "skipped: a part rounds to a constant",
                                     "skipped: not finite",
                                     "skipped: differences do not settle"};
  return kNames[static_cast<std::size_t>(verdict)];
}

/// Compares d with the slope of f at 0. The tolerance comes from f: central differences at seven steps spread by a
/// multiple of the middle one's error, h^2 f'''/6, and by what rounding inside of f makes of them.
template <class Function>
Verdict compare_with_difference(double d, double h, Function f) {
  const double middle = f(0);
  std::vector<double> slopes;
  for (double step : {h, 0.4 * h, 0.53 * h, 0.71 * h, 1.31 * h, 1.63 * h, 2 * h}) {
    const double above = f(step), below = f(-step);
    slopes.push_back((above - below) / (2 * step));
  }
  const double slope = slopes[0];
  const auto [least, most] = std::minmax_element(slopes.begin(), slopes.end());
  for (double slope_at_step : slopes) {
    if (!std::isfinite(slope_at_step) || !std::isfinite(d)) return Verdict::infinite;
  }
  const double rounding = 0x1p-52 * (std::abs(middle) + 1) / h;
  const double tolerance = 8 * (*most - *least) + 16 * rounding;
  if (tolerance > 1e-3 * (1 + std::abs(slope))) return Verdict::unsettled;
  if (d == 0 && slope == 0) return Verdict::both_zero;
  if (std::abs(d - slope) <= tolerance) return Verdict::agrees;
  return std::abs(d - slope) <= 100 * tolerance ? Verdict::unsettled : Verdict::differs;
}

/// Which piece of the function an entry lies on: all that is discrete inside of it, and the sides of poles. Where it
/// changes there is a kink or a pole.
std::vector<double> piece_of(const Graph& graph, NodeId root, ScalarReading<double>& reading) {
  std::vector<double> piece;
  for (NodeId id = 0; id <= root; ++id) {
    const Node& node = graph[id];
    if (node.kind != Kind::operation) continue;
    const double value = as_double(node.type, reading.evaluate(id));
    const auto operand = [&](std::size_t i) {
      return as_double(graph[node.operands[i]].type, reading.evaluate(node.operands[i]));
    };
    if (node.type != Type::real || node.index == number_of<RoundDown>) piece.push_back(value);
    if (node.index == number_of<Minimum> || node.index == number_of<Maximum>)
      piece.push_back(operand(0) < operand(1) ? -1 : operand(0) > operand(1));
    const bool has_side = node.index == number_of<Absolute> || node.index == number_of<Power>;
    if (has_side) piece.push_back(operand(0) < 0 ? -1 : operand(0) > 0);
    if (node.index == number_of<Division>) piece.push_back(operand(1) < 0 ? -1 : operand(1) > 0);
  }
  return piece;
}

/// Whether a part of the function changes by less than its last place over a step, though what it depends on changes:
/// erf near 1. Its differences are 0 and its derivative is not. (Factors of 0 and flat pieces are not meant.)
bool rounds_to_a_constant(const Graph& graph, NodeId root, ScalarReading<double>& below, ScalarReading<double>& above) {
  for (NodeId id = 0; id <= root; ++id) {
    const Node& node = graph[id];
    const bool smooth = node.kind == Kind::operation && node.type == Type::real && node.index != number_of<RoundDown> &&
                        node.index != number_of<Selection> && node.index != number_of<Minimum> &&
                        node.index != number_of<Maximum>;
    const double value = below.evaluate(id).real;
    if (!smooth || value == 0 || value != above.evaluate(id).real) continue;
    for (NodeId operand : node.inputs()) {
      if (graph[operand].type == Type::real && below.evaluate(operand).real != above.evaluate(operand).real)
        return true;
    }
  }
  return false;
}

/// What a derivative is taken towards.
struct Variable {
  enum class Kind : std::uint8_t { score, parameter, cell } kind;
  std::int32_t number = 0;          // of the parameter or table
  const std::byte* cell = nullptr;  // float64

  double of(const Gradients& gradients) const {
    if (kind == Kind::score) return gradients.score;
    if (kind == Kind::parameter) {
      const auto found = gradients.parameters.find(number);
      return found == gradients.parameters.end() ? 0 : found->second;
    }
    const auto found = gradients.cells.find({number, cell});
    return found == gradients.cells.end() ? 0 : found->second;
  }
};

/// A stage at one entry, whose variables can be moved.
class Entry {
 public:
  Entry(const StageAdjoint& stage, NodeId root, Bound bound, const Place& place, double score, double seed = 1)
      : stage_(stage), root_(root), bound_(std::move(bound)), place_(place), score_(score), seed_(seed) {}

  const Bound& bound() const { return bound_; }

  double value_of(const Variable& variable) const {
    switch (variable.kind) {
      case Variable::Kind::score: return score_;
      case Variable::Kind::parameter: return bound_.parameters[static_cast<std::size_t>(variable.number)];
      case Variable::Kind::cell: return load_real(variable.cell, DType::float64);
    }
    return 0;
  }

  Verdict compare(const Variable& variable) {
    const double kept = value_of(variable), h = 0x1p-13 * (1 + std::abs(kept));
    const auto moved = [&](double change) {
      set(variable, kept + change);
      ScalarReading<double> there = reading();
      for (NodeId id = 0; id < stage_.graph.size(); ++id) there.evaluate(id);  // while the variable is there
      set(variable, kept);
      return there;
    };
    const Graph& graph = stage_.graph;
    ScalarReading<double> below = moved(-2 * h), here = moved(0), above = moved(2 * h);
    const std::vector<double> piece = piece_of(graph, root_, here);
    if (piece_of(graph, root_, below) != piece || piece_of(graph, root_, above) != piece) return Verdict::kink;
    if (rounds_to_a_constant(graph, root_, below, above)) return Verdict::rounded;
    const double gradient = variable.of(gradients_of(stage_, bound_, here)) / seed_;
    return compare_with_difference(gradient, h, [&](double change) { return moved(change).evaluate(root_).real; });
  }

  ScalarReading<double> reading() const {
    ScalarReading<double> reading(stage_.graph, bound_);
    reading.enter(place_);
    reading.set_score(score_);
    reading.set_seed(seed_);
    return reading;
  }

 private:
  void set(const Variable& variable, double to) {
    switch (variable.kind) {
      case Variable::Kind::score: score_ = to; break;
      case Variable::Kind::parameter: bound_.parameters[static_cast<std::size_t>(variable.number)] = to; break;
      case Variable::Kind::cell:  // the law owns the memory that bindings only read
        store_real(const_cast<std::byte*>(variable.cell), DType::float64, to);
        break;
    }
  }

  const StageAdjoint& stage_;
  NodeId root_;
  Bound bound_;
  Place place_;
  double score_, seed_;
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
    Entry entry(stage, root, bind(graph, world.bindings_for(graph)), place, score, seed);
    ScalarReading<double> reading = entry.reading();
    if (has_huge_value(graph, root, reading)) {
      ++skipped_huge_;
      return;
    }
    const Gradients gradients = gradients_of(stage, entry.bound(), reading);
    RC_LOG() << listing(graph, root) << "score " << score << ", seed " << seed << '\n';
    count("score", entry.compare({Variable::Kind::score}));
    for (const auto& [number, gradient] : gradients.parameters)
      count("parameter", entry.compare({Variable::Kind::parameter, number}));
    for (const auto& [cell, gradient] : gradients.cells) {
      const Table& table = graph.tables()[static_cast<std::size_t>(cell.first)];
      if (!table.frozen_data()) count("cell", entry.compare({Variable::Kind::cell, cell.first, cell.second}));
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
    // Of some 400 parameters 75 to 93% are compared, by the seed (40 of them), and more of the rest.
    EXPECT_GT(compared, all * 2 / 3) << what;
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
      Entry entry(stage, root, bind(graph, {}), Place{}, 0);
      const Verdict verdict = entry.compare({Variable::Kind::score});
      RC_LOG() << info.name << '\n' << listing(graph, root);
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

}  // namespace
}  // namespace tilewise::laws
