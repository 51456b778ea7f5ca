// Lengths in whole steps.
#pragma once

#include <cstdint>

namespace tilewise {

/// The least multiple of `step` that is `value` or more. value >= 0, step >= 1.
constexpr std::int64_t round_up(std::int64_t value, std::int64_t step) { return (value + step - 1) / step * step; }

}  // namespace tilewise
