#include "variant/interval_reading.h"

#include <algorithm>
#include <numeric>

namespace tilewise::variant {
namespace {

void run(std::span<const Instruction> instructions, Interval* registers) {
  for (const Instruction& instruction : instructions) instruction.function(instruction, registers);
}

}  // namespace

IntervalReading::IntervalReading(const IntervalProgram& program)
    : program_(program),
      values_(program.initial),
      tapes_{{program.of_box, 0, 0, {}, program.wanted}},
      stands_for_(program.rates.size()),
      is_live_(program.rates.size()) {
  std::iota(stands_for_.begin(), stands_for_.end(), Register{0});
  for (const auto& [coordinate, number] : program.coordinates) {
    if (program.rates[number] <= Rate::head) continue;
    (program.rates[number] == Rate::key ? key_lines_ : query_lines_)
        .push_back({static_cast<std::uint32_t>(number * kLanes), 0});
  }
  count_rates(tapes_[0]);
}

void IntervalReading::set(Register number, const Interval& value) {
  std::fill_n(values_.begin() + static_cast<std::ptrdiff_t>(number * kLanes), kLanes, value);
}

void IntervalReading::enter(const Problem& problem, std::int64_t sequence, std::int64_t head) {
  const IntervalPlace origin = place_of(problem, sequence, head, Box{0, 1, 0, 1});
  auto query_line = query_lines_.begin(), key_line = key_lines_.begin();
  for (const auto& [coordinate, number] : program_.coordinates) {
    const Interval& value = origin[static_cast<std::size_t>(coordinate)];
    if (program_.rates[number] <= Rate::head)
      set(number, value);
    else
      (program_.rates[number] == Rate::key ? key_line : query_line)++->origin = value.low;
  }
  run(program_.of_head, values_.data());
  active_ = 0;
  tape_count_ = 1;
  is_known_ = false;
}

void IntervalReading::count_rates(Shortened& tape) const {
  const auto count = [&](Rate rate) {
    return static_cast<std::size_t>(std::ranges::count_if(tape.instructions, [&](const Instruction& instruction) {
      return program_.rates[instruction.result / kLanes] == rate;
    }));
  };
  tape.of_queries = count(Rate::query);
  tape.of_keys = count(Rate::key);
}

void IntervalReading::enter_lines(std::span<const Line> lines, const Extents& extents) {
  for (const Line& line : lines) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      values_[line.result + lane] = {line.origin + static_cast<double>(extents.begin[lane]),
                                     line.origin + static_cast<double>(extents.end[lane] - 1), false};
    }
  }
}

/// Values that follow the queries alone, or the keys, stay where neighbouring groups of boxes share those.
void IntervalReading::evaluate(std::span<const Box> boxes) {
  bool has_queries = is_known_, has_keys = is_known_;
  const auto enter = [](std::int64_t& known, std::int64_t is, bool& has) {
    has = has && known == is;
    known = is;
  };
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    const Box& box = boxes[lane < boxes.size() ? lane : 0];
    enter(queries_.begin[lane], box.query_begin, has_queries);
    enter(queries_.end[lane], box.query_end, has_queries);
    enter(keys_.begin[lane], box.key_begin, has_keys);
    enter(keys_.end[lane], box.key_end, has_keys);
  }
  is_known_ = true;
  const Shortened& tape = tapes_[active_];
  const std::span all(tape.instructions);
  if (!has_queries) {
    enter_lines(query_lines_, queries_);
    run(all.first(tape.of_queries), values_.data());
  }
  if (!has_keys) {
    enter_lines(key_lines_, keys_);
    run(all.subspan(tape.of_queries, tape.of_keys), values_.data());
  }
  run(all.subspan(tape.of_queries + tape.of_keys), values_.data());
}

void IntervalReading::evaluate(const IntervalPlace& place) {
  for (const auto& [coordinate, number] : program_.coordinates)
    set(number, place[static_cast<std::size_t>(coordinate)]);
  run(program_.of_head, values_.data());
  run(program_.of_box, values_.data());
  is_known_ = false;
}

void IntervalReading::use(Tape tape) {
  if (tape == active_) return;
  active_ = tape;
  is_known_ = false;
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
  count_rates(to);
  for (const Instruction& instruction : from.instructions)
    stands_for_[instruction.result / kLanes] = static_cast<Register>(instruction.result / kLanes);
}

}  // namespace tilewise::variant
