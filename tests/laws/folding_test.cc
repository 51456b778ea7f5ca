// Folding and canonical form change no value, in no reading and at no entry.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/laws/random_variant.h"
#include "tests/laws/reading.h"

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
