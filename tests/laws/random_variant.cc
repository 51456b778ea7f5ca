// Stages, sinks and their compositions.
#include "tests/laws/random_variant.h"

#include "variant/recording.h"

namespace tilewise::laws {

using namespace variant;  // NOLINT(google-build-using-namespace): variants are made of its words

RandomPart random_part(Choices& choices, const Options& options, const World& world, Role role) {
  const Type type = role == Role::keep ? Type::boolean : Type::real;
  RandomPart part{role, random_expression(choices, options, world, role, type), {}};
  const Expression& expression = part.expression;
  if (role == Role::sink) {
    part.variant = make_variant(expression.folded, {}, expression.folded_root, {});
  } else {
    const Stage::Kind kind = role == Role::keep ? Stage::Kind::keep : Stage::Kind::score;
    part.variant = make_variant(expression.folded, {{kind, expression.folded_root}}, kNoNode, {});
  }
  return part;
}

RandomVariant random_variant(Choices& choices, const Options& options) {
  RandomVariant random{.world = random_world(choices, options), .parts = {}, .variant = {}};
  for (std::int64_t i = 0, count = choices.between(1, options.stages); i < count; ++i) {
    const Role role = choices.once_in(2) ? Role::score : Role::keep;
    random.parts.push_back(random_part(choices, options, random.world, role));
  }
  if (choices.once_in(4)) random.parts.push_back(random_part(choices, options, random.world, Role::sink));
  for (const RandomPart& part : random.parts) random.variant = random.variant & part.variant;
  if (choices.once_in(6)) random.variant = random.variant & dropout(static_cast<double>(choices.below(5)) / 4);
  return random;
}

}  // namespace tilewise::laws
