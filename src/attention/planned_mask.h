// What of a variant's mask can be told when a plan is made.
#pragma once

#include "tiles/mask.h"
#include "tilewise/attention.h"

namespace tilewise::attention {

/// Whether what a call binds may decide what is kept.
bool binds_anything(const Variant& variant);

/// All that a coordinate can be in calls of a plan, whatever their offsets.
variant::IntervalPlace widest_universe(const PlanShape& shape);

/// The mask for all calls of a plan, whatever their offsets. Tables and parameters that calls bind are taken for any
/// values that they declare, so this is no mask to classify by where there are some; yet where it asks for nothing, no
/// call removes an entry.
tiles::Mask planned_mask(const Variant& variant, const PlanShape& shape);

}  // namespace tilewise::attention
