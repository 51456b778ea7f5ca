#include "variant/interval_reading.h"

#include <algorithm>

namespace tilewise::variant {
namespace {

void run(std::span<const Instruction> instructions, Interval* registers) {
  for (const Instruction& instruction : instructions) instruction.function(instruction, registers);
}

bool follows_key(Coordinate coordinate) {
  return coordinate == Coordinate::key || coordinate == Coordinate::key_index || coordinate == Coordinate::key_token;
}

}  // namespace

IntervalReading::IntervalReading(const IntervalProgram& program) : program_(program), values_(program.initial) {
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
  run(program_.of_box, values_.data());
}

void IntervalReading::evaluate(const IntervalPlace& place) {
  for (const auto& [coordinate, number] : program_.coordinates)
    set(number, place[static_cast<std::size_t>(coordinate)]);
  run(program_.of_head, values_.data());
  run(program_.of_box, values_.data());
}

}  // namespace tilewise::variant
