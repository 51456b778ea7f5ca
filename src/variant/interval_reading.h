// The interval reading: sound bounds of a variant's values over boxes of entries.
#pragma once

#include <array>
#include <span>
#include <utility>
#include <vector>

#include "variant/interval_program.h"
#include "variant/place.h"

namespace tilewise::variant {

/// A shortened program of an IntervalReading, good for one box and all boxes inside it. 0 is the whole program.
using Tape = std::size_t;

/// Evaluates a program. Holds the values of one group of boxes; make one for each thread. Evaluating allocates nothing.
///
/// What is decided over a box (a comparison, one side of an `or`) is decided the same all over it. A descent from large
/// boxes to small ones therefore asks for a tape where it opens a box, and goes on with that inside.
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

  /// The shortest known tape for boxes inside the box of a lane: the one in use where nothing new is decided. Good
  /// until `enter` or `drop_tapes`.
  Tape tape_inside(std::size_t lane);

  /// Goes on with a tape. Afterwards only `wanted` values are evaluated.
  void use(Tape tape);

  /// How many tapes there are, and forgetting those that came after: descents are last in, first out.
  std::size_t tapes() const { return tape_count_; }
  void drop_tapes(std::size_t count) { tape_count_ = count; }

  /// What the program is for, without bools that the tape in use has decided to be true: their conjunction's factors.
  std::span<const Register> wanted() const { return tapes_[active_].wanted; }

  /// A value's bounds over the box of a lane.
  const Interval& value(Register number, std::size_t lane = 0) const { return values_[number * kLanes + lane]; }

 private:
  struct Line {
    std::uint32_t result;  // of a coordinate that follows the query index or the key index
    double origin;         // its value at index 0
  };
  /// Where boxes lie along an axis.
  struct Extents {
    std::array<std::int64_t, kLanes> begin{}, end{};
  };
  struct Shortened {
    std::vector<Instruction> instructions;
    std::size_t of_queries = 0, of_keys = 0;             // the first ones, and those behind them
    std::vector<std::pair<Register, Interval>> decided;  // values that live instructions read
    std::vector<Register> wanted;
  };
  void set(Register number, const Interval& value);
  void enter_lines(std::span<const Line> lines, const Extents& extents);
  void count_rates(Shortened& tape) const;
  void forward_operands(std::span<const Instruction> instructions, std::size_t lane);
  void keep_live(const Shortened& from, std::size_t lane, Shortened& to);

  const IntervalProgram& program_;
  std::vector<Interval> values_;  // [registers * kLanes]
  std::vector<Line> query_lines_, key_lines_;
  Extents queries_, keys_;        // that values of their rates are known for
  bool is_known_ = false;         // whether they are, by the tape in use
  std::vector<Shortened> tapes_;  // [0] is the whole program; those from tape_count_ on are kept for their memory
  std::size_t tape_count_ = 1;
  Tape active_ = 0;
  std::vector<Register> stands_for_;  // [registers] scratch: the register with the same value
  std::vector<bool> is_live_;         // [registers] scratch
};

}  // namespace tilewise::variant
