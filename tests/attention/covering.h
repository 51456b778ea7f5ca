// Pairwise covering arrays: few combinations of many parameters, in which every two values of two parameters meet.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace tilewise::attention::testing {

/// One value's number for each parameter.
using Combination = std::vector<int>;

/// Whether a combination may be among the rows. It may be asked about incomplete ones, whose missing values are
/// kOpen; then the answer is whether some completion may be.
using Allowed = std::function<bool(const Combination&)>;
inline constexpr int kOpen = -1;

/// Rows in which every pair of values of two parameters occurs that some allowed row holds. Built greedily (Cohen,
/// Dalal, Fredman and Patton, "The AETG System", 1997): each row begins with a pair that is still missing, and every
/// further value is the one that brings most missing pairs along. The same seed gives the same rows.
///   values [parameters]: how many values each parameter has, at least 1.
std::vector<Combination> pairwise_rows(std::span<const int> values, std::uint64_t seed, const Allowed& allowed);

}  // namespace tilewise::attention::testing
