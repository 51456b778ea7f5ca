// Maps of tiles, with counts of the kept ones.
#pragma once

#include "tiles/classify.h"

namespace tilewise::tiles {

/// The classes of all tiles of a sequence and head. Throws as Classifier::walk.
TileMap map_of(Classifier& classifier, TileSizes tile, std::int64_t sequence, std::int64_t head);

}  // namespace tilewise::tiles
