#include "attention/planned_mask.h"

#include <algorithm>
#include <limits>

#include "attention/check_plan.h"
#include "tiles/reads.h"

namespace tilewise::attention {

variant::IntervalPlace widest_universe(const PlanShape& shape) {
  constexpr double kLow = std::numeric_limits<std::int32_t>::min(), kHigh = std::numeric_limits<std::int32_t>::max();
  variant::IntervalPlace universe;
  universe.fill({0, kHigh, false});
  const auto at = [&](variant::Coordinate coordinate) -> variant::Interval& {
    return universe[static_cast<std::size_t>(coordinate)];
  };
  at(variant::Coordinate::query) = at(variant::Coordinate::key) = {kLow, kHigh, false};
  at(variant::Coordinate::head) = {0, static_cast<double>(shape.h_q - 1), false};
  at(variant::Coordinate::kv_head) = {0, static_cast<double>(shape.h_kv - 1), false};
  return universe;
}

bool binds_anything(const Variant& variant) {
  return !variant.parameters().empty() ||
         std::ranges::any_of(variant.tables(), [](const Table& table) { return !table.frozen_data().has_value(); });
}

tiles::Mask planned_mask(const Variant& variant, const PlanShape& shape) {
  const variant::SlotBounds slots = tiles::declared_bounds(variant.data().graph, planned_extents(variant, shape));
  return tiles::make_mask(variant.data(), slots, widest_universe(shape));
}

}  // namespace tilewise::attention
