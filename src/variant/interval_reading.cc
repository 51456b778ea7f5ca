#include "variant/interval_reading.h"

#include <algorithm>
#include <numeric>

namespace tilewise::variant {
namespace {

void run(std::span<const Instruction> instructions, Interval* registers) {
  for (const Instruction& instruction : instructions) instruction.function(instruction, registers);
}

bool follows_key(Coordinate coordinate) {
  return coordinate == Coordinate::key || coordinate == Coordinate::key_index || coordinate == Coordinate::key_token;
}

}  // namespace

IntervalReading::IntervalReading(const IntervalProgram& program)
    : program_(program),
      values_(program.initial),
      tapes_{{program.of_box, {}, program.wanted}},
      stands_for_(program.rates.size()),
      is_live_(program.rates.size()) {
  std::iota(stands_for_.begin(), stands_for_.end(), Register{0});
  for (const auto& [coordinate, number] : program.coordinates) {
    if (program.rates[number] == Rate::box)
      lines_.push_back({static_cast<std::uint32_t>(number * kLanes), follows_key(coordinate), 0});
  }
}

void IntervalReading::set(Register number, const Interval& value) {
  std::fill_n(values_.begin() + static_cast<std::ptrdiff_t>(number * kLanes), kLanes, value);
}

void IntervalReading::enter(const Problem& problem, std::int64_t sequence, std::int64_t head) {
  const IntervalPlace origin = place_of(problem, sequence, head, Box{0, 1, 0, 1});
  auto line = lines_.begin();
  for (const auto& [coordinate, number] : program_.coordinates) {
    const Interval& value = origin[static_cast<std::size_t>(coordinate)];
    if (program_.rates[number] == Rate::box)
      (line++)->origin = value.low;
    else
      set(number, value);
  }
  run(program_.of_head, values_.data());
  active_ = 0;
  tape_count_ = 1;
}

void IntervalReading::evaluate(std::span<const Box> boxes) {
  for (const Line& line : lines_) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const Box& box = boxes[lane < boxes.size() ? lane : 0];
      const std::int64_t begin = line.follows_key ? box.key_begin : box.query_begin;
      const std::int64_t end = line.follows_key ? box.key_end : box.query_end;
      values_[line.result + lane] = {line.origin + static_cast<double>(begin),
                                     line.origin + static_cast<double>(end - 1), false};
    }
  }
  run(tapes_[active_].instructions, values_.data());
}

void IntervalReading::evaluate(const IntervalPlace& place) {
  for (const auto& [coordinate, number] : program_.coordinates)
    set(number, place[static_cast<std::size_t>(coordinate)]);
  run(program_.of_head, values_.data());
  run(program_.of_box, values_.data());
}

void IntervalReading::use(Tape tape) {
  if (tape == active_) return;
  active_ = tape;
  for (const auto& [number, value] : tapes_[tape].decided) set(number, value);
}

Tape IntervalReading::tape_inside(std::size_t lane) {
  const auto is_decided = [&](const Instruction& instruction) {
    return values_[instruction.result + lane].is_single();
  };
  const auto& instructions = tapes_[active_].instructions;
  if (std::none_of(instructions.begin(), instructions.end(), is_decided)) return active_;
  if (tape_count_ == tapes_.size()) tapes_.emplace_back();
  Shortened& to = tapes_[tape_count_];
  to.instructions.clear();
  to.decided.clear();
  to.wanted.clear();
  const Shortened& from = tapes_[active_];
  forward_operands(from.instructions, lane);
  keep_live(from, lane, to);
  return tape_count_++;
}

/// Finds the instructions that now give one of their operands unchanged, and lets that stand for their result.
void IntervalReading::forward_operands(std::span<const Instruction> instructions, std::size_t lane) {
  for (const Instruction& instruction : instructions) {
    const auto operand = [&](std::size_t i) { return static_cast<Register>(instruction.operands[i] / kLanes); };
    const auto forward = [&](std::size_t i) { stands_for_[instruction.result / kLanes] = stands_for_[operand(i)]; };
    switch (instruction.forwards) {
      case Forwards::never: break;
      case Forwards::beside_true:
      case Forwards::beside_false: {
        const double neutral = instruction.forwards == Forwards::beside_true ? 1 : 0;
        if (value(operand(0), lane) == single(neutral))
          forward(1);
        else if (value(operand(1), lane) == single(neutral))
          forward(0);
        break;
      }
      case Forwards::by_condition:
        if (value(operand(0), lane).is_single()) forward(value(operand(0), lane).is_true() ? 1 : 2);
        break;
    }
  }
}

/// Keeps what is wanted and not decided, and what that needs.
void IntervalReading::keep_live(const Shortened& from, std::size_t lane, Shortened& to) {
  is_live_.assign(is_live_.size(), false);
  for (const Register number : from.wanted) {
    if (value(number, lane) == single(1)) continue;
    to.wanted.push_back(stands_for_[number]);
    is_live_[stands_for_[number]] = true;
  }
  for (auto instruction = from.instructions.rbegin(); instruction != from.instructions.rend(); ++instruction) {
    const auto result = static_cast<Register>(instruction->result / kLanes);
    if (!is_live_[result]) continue;
    if (value(result, lane).is_single()) {
      to.decided.emplace_back(result, value(result, lane));
      continue;
    }
    to.instructions.push_back(*instruction);
    for (std::size_t i = 0; i < instruction->operand_count; ++i) {
      std::uint32_t& operand = to.instructions.back().operands[i];
      const Register source = stands_for_[operand / kLanes];
      is_live_[source] = true;
      operand = static_cast<std::uint32_t>(source * kLanes);
    }
  }
  for (const auto& [number, value] : from.decided) {
    if (is_live_[number]) to.decided.emplace_back(number, value);
  }
  std::reverse(to.instructions.begin(), to.instructions.end());
  for (const Instruction& instruction : from.instructions)
    stands_for_[instruction.result / kLanes] = static_cast<Register>(instruction.result / kLanes);
}

}  // namespace tilewise::variant
