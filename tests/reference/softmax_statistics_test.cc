// The laws of merged statistics: associative and commutative within rounding, with no keys as identity.
#include "reference/softmax_statistics.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <vector>

namespace tilewise::reference {
namespace {

constexpr std::int64_t kDV = 2;

/// Statistics as plain numbers: maximum, denominator, numerator.
using Numbers = std::vector<float>;

/// Those of a few keys: a maximum that reaches past exp's range, and sums as keys below it give them.
rc::Gen<Numbers> any_statistics() {
  const auto number = [](int low, int high) {
    return rc::gen::map(rc::gen::inRange(low * 1024, high * 1024), [](int n) { return static_cast<float>(n) / 1024; });
  };
  return rc::gen::map(rc::gen::tuple(number(-300, 300), number(1, 8), number(-8, 8), number(-8, 8)), [](const auto& t) {
    return Numbers{std::get<0>(t), std::get<1>(t), std::get<2>(t), std::get<3>(t)};
  });
}

Statistics make(Machine& machine, const Numbers& numbers) {
  Statistics statistics(machine, kDV);
  statistics.maximum() = numbers[0];
  std::copy(numbers.begin() + 1, numbers.end(), statistics.sums().begin());
  return statistics;
}

/// The numbers of a list merged from left to right into those of no keys.
Numbers merged(const std::vector<Numbers>& parts) {
  Machine machine;
  Statistics total(machine, kDV);
  for (const Numbers& part : parts) merge(machine, total, make(machine, part));
  Numbers result{total.maximum()};
  result.insert(result.end(), total.sums().begin(), total.sums().end());
  return result;
}

/// A factor exp(-x) is off by at most (x u) exp(-x) <= 0.37 u from the subtraction and 2 u from exp: below 3 u. A part
/// passes at most three merges, each with a factor, a product and a sum: 15 u. Numerators may cancel, so the bound goes
/// by the magnitudes, which denominators and numerators of at most 8 a part keep below 24. Both sides are off.
void expect_same(const Numbers& a, const Numbers& b) {
  RC_ASSERT(a[0] == b[0]);
  for (std::size_t i = 1; i < a.size(); ++i) RC_ASSERT(std::fabs(a[i] - b[i]) <= 2 * 15 * 24 * 0x1p-24f);
}

RC_GTEST_PROP(SoftmaxStatistics, MergeIsCommutative, ()) {
  const Numbers a = *any_statistics(), b = *any_statistics();
  expect_same(merged({a, b}), merged({b, a}));
}

RC_GTEST_PROP(SoftmaxStatistics, MergeIsAssociative, ()) {
  const Numbers a = *any_statistics(), b = *any_statistics(), c = *any_statistics();
  expect_same(merged({merged({a, b}), c}), merged({a, merged({b, c})}));
}

RC_GTEST_PROP(SoftmaxStatistics, NoKeysAreTheIdentity, ()) {
  const Numbers a = *any_statistics(), none{-INFINITY, 0, 0, 0};
  RC_ASSERT(merged({a, none}) == a);
  RC_ASSERT(merged({none, a}) == a);
}

RC_GTEST_PROP(SoftmaxStatistics, AnyCutOfTheKeysGivesTheSameOutput, ()) {
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  const auto keys = *rc::gen::inRange<std::int64_t>(2, 40);
  const auto cut = *rc::gen::inRange<std::int64_t>(1, keys);
  const LadderInputs in = random_ladder_inputs(1, keys, 3, kDV, 5, seed);
  Machine machine;
  const SlowMatrix k{keys, 3, in.k}, v{keys, kDV, in.v};
  const auto part = [&](std::int64_t first, std::int64_t count) {
    return statistics_of(machine, in.q, machine.load(k, first, count), machine.load(v, first, count));
  };
  Statistics total = part(0, cut);
  merge(machine, total, part(cut, keys - cut));
  const std::vector<double> truth = ladder_truth(in.problem());
  // |q| <= 3 * 5 / sqrt(3) < 8.7, so |score| <= 3 * 8.7 < 27 with an error of at most 3 * 27 = 81 u, and scores range
  // over
  // 54. A weight is then off by at most 81 + 2 * 54 + 4 * 40 + 4 = 353 u (softmax_ladder_test.cc derives this), and the
  // output, with |v| <= 1, by twice that and its division.
  for (std::size_t c = 0; c < kDV; ++c) {
    RC_ASSERT(std::fabs(total.numerator()[c] / total.denominator() - truth[c]) <= 2 * 355 * 0x1p-24);
  }
}

TEST(SoftmaxStatistics, TwoEmptySetsStayEmpty) {
  EXPECT_EQ(merged({{-INFINITY, 0, 0, 0}, {-INFINITY, 0, 0, 0}}), (Numbers{-INFINITY, 0, 0, 0}));
}

}  // namespace
}  // namespace tilewise::reference
