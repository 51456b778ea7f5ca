// The space of calls that attention must get right: axes, a call for each combination of their values, its check.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "tests/attention/covering.h"

namespace tilewise::attention::testing {

/// How many values each axis has; instruction sets are those of this processor.
std::span<const int> axis_sizes();

/// Combinations in all.
double combinations();

/// Multiplications of standard attention, in both precisions; open axes count at their cheapest.
double cost_of(const Combination& combination);

/// "dtype=bfloat16 s_q=23 ...".
std::string describe(const Combination& combination);

/// The number of an axis.
std::size_t axis_of(std::string_view name);

/// The value of the axis "isa" for an instruction set; -1 where this processor or this library lacks it.
int value_of_isa(std::string_view name);

/// Whether the combination takes a variant of the zoo, which check() is told.
bool takes_zoo(const Combination& combination);

/// Runs the call and holds it to the rule of exactness; false where the plan refused to read a table that could be read
/// outside, the only refusal that is let through. `zoo`: the number of a variant of the zoo.
bool check(const Combination& combination, std::size_t zoo, std::uint64_t seed);

}  // namespace tilewise::attention::testing
