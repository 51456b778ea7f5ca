#include "tiles/kept_ranges.h"

#include <algorithm>

namespace tilewise::tiles {

void KeptRanges::add(KeyRange range) {
  if (count_ > 0 && range.begin - ranges_[static_cast<std::size_t>(count_ - 1)].end < least_gap_) {
    ranges_[static_cast<std::size_t>(count_ - 1)].end = range.end;
    return;
  }
  ranges_[static_cast<std::size_t>(count_++)] = range;
  if (count_ <= kMost) return;
  const auto gap_behind = [&](std::size_t i) { return ranges_[i + 1].begin - ranges_[i].end; };
  std::size_t smallest = 0;
  for (std::size_t i = 1; i < kMost; ++i) {
    if (gap_behind(i) < gap_behind(smallest)) smallest = i;
  }
  ranges_[smallest].end = ranges_[smallest + 1].end;
  std::copy(ranges_.begin() + static_cast<std::ptrdiff_t>(smallest) + 2, ranges_.end(),
            ranges_.begin() + static_cast<std::ptrdiff_t>(smallest) + 1);
  --count_;
}

std::int64_t KeptRanges::keys() const {
  std::int64_t sum = 0;
  for (const KeyRange& range : *this) sum += range.keys();
  return sum;
}

}  // namespace tilewise::tiles
