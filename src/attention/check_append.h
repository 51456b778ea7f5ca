// Whether new keys and values fit the cache that they are to go into.
#pragma once

#include "tilewise/gpu_cache.h"
#include "variant/call.h"

namespace tilewise::attention {

/// Returns the shape. Throws Error(invalid_argument) naming the field, Error(unsupported) on another dtype.
const GpuCacheShape& check_append_shape(const GpuCacheShape& shape);

/// Checks all that is known on the host, sequences as those of an attention call whose queries are the new keys, and
/// returns that call. Throws Error(invalid_argument) naming the argument, its value and what was expected.
variant::Call check_append(const GpuCacheShape& shape, const GpuCacheAppend& call);

}  // namespace tilewise::attention
