// One call in all three ways: by a plan, by standard attention in the same precision, and by the float64 oracle.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/attention/axes.h"

namespace tilewise::attention::testing {

/// Runs the call and holds it to the rule of exactness; false where the plan refused to read a table that could be read
/// outside, the only refusal that is let through.
bool check(const Combination& combination, std::uint64_t seed);

}  // namespace tilewise::attention::testing
