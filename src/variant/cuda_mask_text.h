// The interval reading of a variant's mask as CUDA C++ text: what classifies tiles on a GPU.
#pragma once

#include <string>
#include <vector>

#include "variant/graph.h"

namespace tilewise::variant {

/// Namespace `variant_bounds`, to follow a variant's own text (cuda_text.h) and bounds of values, named Truth, Ints and
/// Reals, with a function for every operation:
///   struct UniformBounds, QueryBounds, KeyBounds
///                     bounds hoisted by what they depend on, made by uniform_bounds(), query_bounds() and
///                     key_bounds();
///   kept(...)         whether the entries of a box are kept: surely true, surely false, or neither.
/// `removes` [stages] says which stages may remove an entry; the others count only for what scores reach those.
/// A read is bounded by looking at all elements that a box may read, or, where those are more than 65536, not at all.
std::string cuda_mask_text(const Variant& variant, const std::vector<bool>& removes);

}  // namespace tilewise::variant
