// Where along the keys a box of queries keeps anything, in a few ranges.
#pragma once

#include <array>
#include <cstdint>

namespace tilewise::tiles {

/// Keys [begin, end).
struct KeyRange {
  std::int64_t begin = 0, end = 0;

  std::int64_t keys() const { return end - begin; }
  friend bool operator==(const KeyRange&, const KeyRange&) = default;
};

/// A few ranges in ascending order, with gaps between them that are worth leaving out.
class KeptRanges {
 public:
  static constexpr int kMost = 4;  // sinks, a window, and two more

  /// Keeps ranges apart where at least so many keys lie between them.
  explicit KeptRanges(std::int64_t least_gap) : least_gap_(least_gap) {}

  /// Adds a range behind those that were added. Where that makes too many, the two with the smallest gap become one.
  void add(KeyRange range);

  const KeyRange* begin() const { return ranges_.data(); }
  const KeyRange* end() const { return ranges_.data() + count_; }
  int count() const { return count_; }
  std::int64_t keys() const;  // of all ranges

 private:
  std::int64_t least_gap_;
  std::array<KeyRange, kMost + 1> ranges_;
  int count_ = 0;
};

}  // namespace tilewise::tiles
