#include "variant/lanes/variant_lanes.h"

#include <algorithm>
#include <array>
#include <optional>

#include "variant/lanes/stage_lowering.h"

namespace tilewise::variant {
namespace {

using ValueId = Lowering::ValueId;

/// The conjunction of keeps, joined class by class: a window's bools are joined on the diagonal, not at each entry.
class Kept {
 public:
  explicit Kept(Lowering& lowering) : lowering_(lowering) {}

  void require(ValueId keep) { join(parts_[static_cast<std::size_t>(lowering_.class_of(keep))], keep); }

  std::optional<ValueId> all() const {
    std::optional<ValueId> whole;
    for (const auto& part : parts_) {
      if (part) join(whole, *part);
    }
    return whole;
  }

 private:
  void join(std::optional<ValueId>& whole, ValueId part) const {
    whole = whole ? lowering_.operation<Conjunction>(false, {*whole, part}) : part;
  }

  Lowering& lowering_;
  std::array<std::optional<ValueId>, kRegisterSpaces> parts_;
};

std::size_t count(const std::vector<Stage>& stages, Stage::Kind kind) {
  return static_cast<std::size_t>(
      std::count_if(stages.begin(), stages.end(), [kind](const Stage& stage) { return stage.kind == kind; }));
}

LaneProgram lower_scores(const Variant::Data& data, const LaneOptions& options, bool with_keeps) {
  Lowering lowering(data.graph, options);
  const LoweredStages stages = lower_stages(lowering, data.stages, with_keeps);
  return lowering.finish({{stages.score}});
}

}  // namespace

LoweredStages lower_stages(Lowering& lowering, const std::vector<Stage>& stages, bool with_keeps) {
  Kept kept(lowering);
  LoweredStages lowered{};
  std::size_t scores_left = count(stages, Stage::Kind::score);
  std::optional<ValueId> unsettled;  // the last score stage's result: settled with the keeps in one pass
  for (const Stage& stage : stages) {
    if (stage.kind == Stage::Kind::keep) {
      if (with_keeps) kept.require(lowering.lower(stage.root));
      continue;
    }
    const ValueId result = lowering.lower(stage.root);
    lowered.scores.push_back({lowering.view(), result});
    if (--scores_left == 0) {
      unsettled = result;
      continue;
    }
    const ValueId settled = lowering.settle(result);
    // Later stages may give a removed entry any score: remember that it is removed.
    kept.require(lowering.operation<NotEqual>(true, {settled, lowering.real_constant(-kInfinity)}));
    lowering.set_score(settled);
  }

  const auto keep = kept.all();
  lowered.score = lowering.score();
  if (unsettled) {
    lowered.score = keep ? lowering.settle_kept(*keep, *unsettled) : lowering.settle(*unsettled);
  } else if (keep) {
    lowered.score = lowering.keep_where(*keep, lowered.score);
  }
  return lowered;
}

VariantLanes lower_variant(const Variant& variant, const LaneOptions& options) {
  const Variant::Data& data = variant.data();
  return {.full = lower_scores(data, options, false),
          .partial = lower_scores(data, options, true),
          .changes_full_tiles = count(data.stages, Stage::Kind::score) > 0,
          .changes_partial_tiles = !data.stages.empty()};
}

}  // namespace tilewise::variant
