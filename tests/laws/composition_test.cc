// a & b: first a, then b on a's scores.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/laws/random_variant.h"
#include "tests/laws/reading.h"

namespace tilewise::laws {
namespace {

using namespace variant;  // NOLINT(google-build-using-namespace): the laws look into graphs

/// A variant of up to `stages` keeps and scores.
Variant random_stages(Choices& choices, const Options& options, const World& world, std::int64_t stages) {
  Variant variant;
  for (std::int64_t i = 0, count = choices.between(1, stages); i < count; ++i) {
    variant = variant & random_part(choices, options, world, choices.once_in(2) ? Role::score : Role::keep).variant;
  }
  return variant;
}

template <class Real>
void expect_in_turn(const World& world, const Variant& a, const Variant& b, Choices& values) {
  const Variant both = a & b;
  const auto bound_of = [&world](const Variant& v) { return bind(v.data().graph, world.bindings_for(v)); };
  const Bound a_bound = bound_of(a), b_bound = bound_of(b), both_bound = bound_of(both);
  ScalarReading<Real> a_reading(a.data().graph, a_bound), b_reading(b.data().graph, b_bound);
  ScalarReading<Real> both_reading(both.data().graph, both_bound);
  for (int i = 0; i < 8; ++i) {
    const Place place = random_place(values);
    for (auto* reading : {&a_reading, &b_reading, &both_reading}) reading->enter(place);
    const Outcome<Real> entry{true, static_cast<Real>(random_score(values))};
    const Outcome<Real> after_a = apply(a, a_reading, entry);
    const Outcome<Real> expected = apply(b, b_reading, after_a);
    const Outcome<Real> found = apply(both, both_reading, entry);
    RC_LOG() << "a:\n" << listing(a) << "b:\n" << listing(b) << "a & b:\n" << listing(both);
    RC_ASSERT(found == expected);
  }
}

RC_GTEST_PROP(Composition, MasksWhereAMasksOrBDoesGivenItsScores, (Choices choices, Choices values)) {
  const Options options;
  const World world = random_world(choices, options);
  const Variant a = random_stages(choices, options, world, 2), b = random_stages(choices, options, world, 2);
  expect_in_turn<float>(world, a, b, values);
  expect_in_turn<double>(world, a, b, values);
}

RC_GTEST_PROP(Composition, IsAssociativeWithPlainAttentionAsItsOne, (Choices choices)) {
  const Options options;
  const World world = random_world(choices, options);
  std::vector<Variant> parts;
  for (int i = 0; i < 3; ++i) parts.push_back(random_stages(choices, options, world, 2));
  // The sink and the dropout stand in any of the three.
  Variant& with_sink = parts[choices.below(3)];
  with_sink = with_sink & random_part(choices, options, world, Role::sink).variant;
  Variant& with_dropout = parts[choices.below(3)];
  with_dropout = dropout(0.25) & with_dropout;
  const Variant &a = parts[0], &b = parts[1], &c = parts[2];

  const Variant left = (a & b) & c, right = a & (b & c);
  RC_LOG() << "(a & b) & c:\n" << listing(left) << "a & (b & c):\n" << listing(right);
  RC_ASSERT(left.key() == right.key());
  RC_ASSERT(left.literals() == right.literals());
  RC_ASSERT(left.tables() == right.tables());
  RC_ASSERT(left.parameters() == right.parameters());
  RC_ASSERT(left.data().dropout_probability == right.data().dropout_probability);
  for (const Variant& same : {Variant() & a, a & Variant()}) {
    RC_ASSERT(same.key() == a.key());
    RC_ASSERT(same.literals() == a.literals());
  }
}

}  // namespace
}  // namespace tilewise::laws
