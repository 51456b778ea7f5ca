#include "attention/decode_splits.h"

#include <algorithm>

#include "core/round_up.h"

namespace tilewise::attention {
namespace {

/// As few splits of at most `keys` keys as a range takes.
std::int64_t splits_of(const tiles::KeyRange& range, std::int64_t keys) { return ceil_div(range.keys(), keys); }

/// The length with which all ranges together have no more splits than are allowed: each range but one may add a split
/// that is not full.
std::int64_t keys_of_split(const tiles::KeptRanges& ranges, const SplitRules& rules) {
  const std::int64_t full = std::max<std::int64_t>(1, rules.most - std::max(0, ranges.count() - 1));
  return std::max(rules.least_keys, round_up(ceil_div(ranges.keys(), full), rules.step));
}

DecodeSplits splits_over(const tiles::KeptRanges& ranges, const SplitRules& rules) {
  return {ranges, keys_of_split(ranges, rules), rules.step};
}

}  // namespace

std::int64_t DecodeSplits::count() const {
  std::int64_t sum = 0;
  for (const tiles::KeyRange& range : ranges) sum += splits_of(range, keys);
  return std::max<std::int64_t>(1, sum);
}

tiles::KeyRange DecodeSplits::at(std::int64_t split) const {
  for (const tiles::KeyRange& range : ranges) {
    const std::int64_t count = splits_of(range, keys), steps = ceil_div(range.keys(), step);
    const auto begin_of = [&](std::int64_t i) { return std::min(range.begin + steps * i / count * step, range.end); };
    if (split < count) return {begin_of(split), begin_of(split + 1)};
    split -= count;
  }
  return {};
}

DecodeSplits split_all(std::int64_t keys, const SplitRules& rules) {
  tiles::KeptRanges all(1);
  if (keys > 0) all.add({0, keys});
  return splits_over(all, rules);
}

DecodeSplits split_kept(tiles::KeySpans& spans, const Box& box, const SplitRules& rules) {
  // Two splits' worth: one that a gap saves, and one that a range may add because it is not full.
  tiles::KeptRanges ranges(2 * rules.least_keys);
  spans.find_ranges(box, rules.step, ranges);
  return splits_over(ranges, rules);
}

}  // namespace tilewise::attention
