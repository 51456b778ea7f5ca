#include "tiles/mask.h"

#include <algorithm>
#include <limits>

#include "variant/operations/operations.h"

namespace tilewise::tiles {

using namespace variant;  // NOLINT(google-build-using-namespace): this layer is over that one

namespace {

// Analysis takes scores as finite. An entry is surely removed where that holds for every finite score. It is surely
// kept where that holds for scores up to 2^63: a function that turns larger ones into -inf does so by overflow, which
// no kernel's scores reach.
constexpr double kLargestFloat = std::numeric_limits<float>::max();
constexpr Interval kEveryScore{-kLargestFloat, kLargestFloat, false};
constexpr Interval kUsualScore{-0x1p63, 0x1p63, false};
constexpr Interval kFloor{-0x1p126, -0x1p126, false};

/// Whether a stage keeps an entry, from its result for usual scores and for every score. A NaN is kept.
void stage_keeps(const Instruction& instruction, Interval* registers) {
  const Interval* usual = registers + instruction.operands[0];
  const Interval* every = registers + instruction.operands[1];
  Interval* result = registers + instruction.result;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    const bool surely_kept = usual[lane].low > -kUnbounded;
    const bool surely_removed = every[lane].high == -kUnbounded && !every[lane].may_be_nan;
    result[lane] = three_valued(surely_kept && !surely_removed, surely_removed);
  }
}

/// The score that enters the next stage.
Register clamped_from_below(IntervalProgramBuilder& builder, Register score) {
  const Register operands[] = {score, builder.add_known(kFloor)};
  return builder.add_operation(number_of<Maximum>, Type::real, operands);
}

bool follows_head(const IntervalProgram& program) {
  return std::any_of(program.coordinates.begin(), program.coordinates.end(), [](const auto& slot) {
    return slot.coordinate == Coordinate::head || slot.coordinate == Coordinate::kv_head;
  });
}

}  // namespace

Mask make_mask(const Variant::Data& variant, const SlotBounds& slots, const IntervalPlace& universe) {
  IntervalProgramBuilder builder(variant.graph, slots);
  Register usual = builder.add_known(kUsualScore), every = builder.add_known(kEveryScore);
  std::vector<Register> conditions;
  for (const Stage& stage : variant.stages) {
    if (stage.kind == Stage::Kind::keep) {
      conditions.push_back(builder.add(stage.root));
      continue;
    }
    const Register results[] = {builder.add(stage.root, usual), builder.add(stage.root, every)};
    conditions.push_back(builder.add_function(stage_keeps, results));
    usual = clamped_from_below(builder, results[0]);
    every = clamped_from_below(builder, results[1]);
  }

  Mask mask;
  mask.program = builder.finish();
  IntervalReading reading(mask.program);
  reading.evaluate(universe);
  for (const Register condition : conditions) mask.removes.push_back(!reading.value(condition).is_true());
  std::erase_if(conditions, [&](Register condition) { return reading.value(condition).is_true(); });
  mask.program.keep_only(conditions);
  mask.follows_head = follows_head(mask.program);
  return mask;
}

IntervalPlace universe_of(const Problem& problem) {
  IntervalPlace universe;
  universe.fill(single(0));
  bool is_first = true;
  for (std::int64_t i = 0; i < problem.b(); ++i) {
    const Box box = entries_of(problem.sequences[static_cast<std::size_t>(i)]);
    if (box.is_empty()) continue;
    for (const std::int64_t head : {std::int64_t{0}, problem.h_q - 1}) {
      const IntervalPlace place = place_of(problem, i, head, box);
      for (std::size_t c = 0; c < place.size(); ++c) universe[c] = is_first ? place[c] : hull(universe[c], place[c]);
      is_first = false;
    }
  }
  return universe;
}

}  // namespace tilewise::tiles
