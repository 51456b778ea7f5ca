// What a plan can tell beforehand of the tiles that its calls keep.
#pragma once

#include <algorithm>

#include "tilewise/variant.h"

namespace tilewise::attention {

/// Tiles that are classified for a prediction, at most: some tenths of a second.
inline constexpr double kMostPredictedTiles = 1 << 20;

/// Whether calls bind something that may decide which entries are kept.
inline bool has_bindings(const Variant& variant) {
  const auto is_bound = [](const Table& table) { return !table.frozen_data().has_value(); };
  return !variant.parameters().empty() || std::ranges::any_of(variant.tables(), is_bound);
}

}  // namespace tilewise::attention
