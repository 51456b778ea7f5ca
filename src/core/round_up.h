// Lengths in whole steps.
#pragma once

#include <cstdint>

namespace tilewise {

/// How many steps reach `value`. value >= 0, step >= 1.
constexpr std::int64_t ceil_div(std::int64_t value, std::int64_t step) { return value / step + (value % step != 0); }

/// The least multiple of `step` that is `value` or more. value >= 0, step >= 1.
constexpr std::int64_t round_up(std::int64_t value, std::int64_t step) { return ceil_div(value, step) * step; }

}  // namespace tilewise
