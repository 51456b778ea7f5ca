// The interval reading: sound bounds of a variant's values over boxes of entries.
#pragma once

#include <span>
#include <vector>

#include "variant/interval_program.h"
#include "variant/place.h"

namespace tilewise::variant {

/// Evaluates a program. Holds the values of one group of boxes; make one for each thread. Evaluating allocates nothing.
class IntervalReading {
 public:
  /// Keeps a reference to the program.
  explicit IntervalReading(const IntervalProgram& program);

  /// Moves to a sequence and head of a valid problem.
  void enter(const Problem& problem, std::int64_t sequence, std::int64_t head);

  /// Bounds over each of up to kLanes boxes of that sequence, none of them empty.
  void evaluate(std::span<const Box> boxes);

  /// Bounds over entries whose coordinates lie within `place`, in lane 0. It replaces the sequence and head.
  void evaluate(const IntervalPlace& place);

  /// A value's bounds over the box of a lane.
  const Interval& value(Register number, std::size_t lane = 0) const { return values_[number * kLanes + lane]; }

 private:
  struct Line {
    std::uint32_t result;  // of a coordinate that follows the query index or the key index
    bool follows_key;
    double origin;  // its value at index 0
  };
  void set(Register number, const Interval& value);

  const IntervalProgram& program_;
  std::vector<Interval> values_;  // [registers * kLanes]
  std::vector<Line> lines_;
};

}  // namespace tilewise::variant
