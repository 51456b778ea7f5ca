// Holes of a block table: pages that are not there must be needed by no entry.
#pragma once

#include "tiles/key_spans.h"
#include "variant/call.h"

namespace tilewise::attention {

/// Throws Error(invalid_argument) naming an entry that is kept and whose key lies in a hole, and Error(unsupported)
/// where there may be one. `spans` has been started for the call; `heads_differ`: its mask follows the head.
void check_holes(const variant::Call& call, tiles::KeySpans& spans, bool heads_differ);

}  // namespace tilewise::attention
