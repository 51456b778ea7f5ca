#include "variant/interval_program.h"

#include <algorithm>
#include <cmath>

#include "variant/operations/operations.h"

namespace tilewise::variant {
namespace {

template <class O, Type kOperandType>
void evaluate_lanes(const Instruction& instruction, Interval* registers) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    Interval* result = registers + instruction.result;
    const Interval* const operands[] = {registers + instruction.operands[I]...};
    for (std::size_t lane = 0; lane < kLanes; ++lane) result[lane] = O::interval(kOperandType, operands[I][lane]...);
  }
  (std::make_index_sequence<O::info.operands>{});
}

/// A floor division by a known positive power of two, which is the hottest instruction of block masks.
void divide_by_power_of_two(const Instruction& instruction, Interval* registers) {
  const Interval* dividend = registers + instruction.operands[0];
  const double inverse = 1 / registers[instruction.operands[1]].low;
  Interval* result = registers + instruction.result;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    result[lane] = {quotient_floor(dividend[lane].low * inverse), quotient_floor(dividend[lane].high * inverse), false};
  }
}

bool is_power_of_two(const Interval& value) {
  int exponent = 0;
  return value.is_single() && std::frexp(value.low, &exponent) == 0.5;
}

/// The functions of each operation, by operand type.
constexpr auto kFunctions = for_each_operation([]<class O>() {
  return std::array<Instruction::Function, 3>{&evaluate_lanes<O, Type::boolean>, &evaluate_lanes<O, Type::int32>,
                                              &evaluate_lanes<O, Type::real>};
});

/// An index as the clamped read sees it.
std::int64_t clamped_index(double index, double last) {
  return static_cast<std::int64_t>(std::min(std::max(index, 0.0), last));
}

template <std::size_t kRank>
void evaluate_read(const Instruction& instruction, Interval* registers) {
  const IntervalRead& read = *instruction.read;
  Interval* result = registers + instruction.result;
  std::array<std::int64_t, kRank> known_first{}, known_last{};
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    std::array<std::int64_t, kRank> first, last;
    // Boxes of one group are often neighbours, for which an index that follows the query alone is the same.
    bool is_known = lane > 0;
    for (std::size_t axis = 0; axis < kRank; ++axis) {
      const Interval& index = registers[instruction.operands[axis] + lane];
      first[axis] = clamped_index(index.low, read.last[axis]);
      last[axis] = clamped_index(index.high, read.last[axis]);
      is_known = is_known && first[axis] == known_first[axis] && last[axis] == known_last[axis];
    }
    if (is_known)
      result[lane] = result[lane - 1];
    else
      read.index->over(first, last, result[lane]);
    known_first = first;
    known_last = last;
  }
}

constexpr Instruction::Function kReads[] = {evaluate_read<1>, evaluate_read<2>, evaluate_read<3>, evaluate_read<4>};

void evaluate_unindexed_read(const Instruction& instruction, Interval* registers) {
  std::fill_n(registers + instruction.result, kLanes, instruction.read->range);
}

std::vector<bool> nodes_that_read_the_score(const Graph& graph) {
  std::vector<bool> result;
  for (const Node& node : graph.nodes()) {
    const auto inputs = node.inputs();
    result.push_back(node.kind == Kind::score ||
                     std::any_of(inputs.begin(), inputs.end(), [&](NodeId id) { return result[id]; }));
  }
  return result;
}

Forwards forwards_of(std::int32_t operation) {
  if (operation == number_of<Conjunction>) return Forwards::beside_true;
  if (operation == number_of<Disjunction>) return Forwards::beside_false;
  if (operation == number_of<Selection>) return Forwards::by_condition;
  return Forwards::never;
}

Interval rounded(Type type, double value) {
  return type == Type::real ? real_bounds(value, value, false) : single(value);
}

Rate rate_of(Coordinate coordinate) {
  if (coordinate > Coordinate::key_token) return Rate::head;
  const bool follows_key =
      coordinate == Coordinate::key || coordinate == Coordinate::key_index || coordinate == Coordinate::key_token;
  return follows_key ? Rate::key : Rate::query;
}

/// Of what follows from values of either rate.
Rate combined(Rate a, Rate b) {
  const Rate slower = std::min(a, b), faster = std::max(a, b);
  return slower == Rate::query && faster == Rate::key ? Rate::box : faster;
}

}  // namespace

SlotBounds bounds_of(const Graph& graph, const Bound& bound) {
  SlotBounds slots;
  for (std::size_t i = 0; i < bound.tables.size(); ++i) {
    slots.tables.push_back({bound.tables[i].extents, bound.tables[i], declared_range(graph.tables()[i])});
  }
  for (std::size_t i = 0; i < bound.parameters.size(); ++i) {
    slots.parameters.push_back(rounded(graph.parameters()[i].type(), bound.parameters[i]));
  }
  slots.literals = bound.literals;
  return slots;
}

Interval declared_range(const Table& table) {
  if (table.type() != Type::real) return {table.low(), table.high(), false};
  return real_bounds(table.low(), table.high(), table.info().may_hold_nan);
}

void IntervalProgram::keep_only(std::span<const Register> registers) {
  wanted.assign(registers.begin(), registers.end());
  std::vector<bool> is_live(rates.size(), false);
  for (const Register number : wanted) is_live[number] = true;
  std::vector<const IntervalRead*> live_reads;
  for (std::vector<Instruction>* instructions : {&of_box, &of_head}) {  // users before what they use
    std::vector<Instruction> live;
    for (auto instruction = instructions->rbegin(); instruction != instructions->rend(); ++instruction) {
      if (!is_live[instruction->result / kLanes]) continue;
      for (std::uint32_t i = 0; i < instruction->operand_count; ++i) is_live[instruction->operands[i] / kLanes] = true;
      if (instruction->read != nullptr) live_reads.push_back(instruction->read);
      live.push_back(*instruction);
    }
    instructions->assign(live.rbegin(), live.rend());
  }
  std::erase_if(coordinates, [&](const CoordinateRegister& coordinate) { return !is_live[coordinate.number]; });
  std::erase_if(reads, [&](const auto& read) {
    return std::find(live_reads.begin(), live_reads.end(), read.get()) == live_reads.end();
  });
  std::erase_if(indexes, [&](const auto& index) {
    return std::none_of(reads.begin(), reads.end(), [&](const auto& read) { return read->index == index.get(); });
  });
}

IntervalProgramBuilder::IntervalProgramBuilder(const Graph& graph, const SlotBounds& slots)
    : graph_(graph), slots_(slots), reads_score_(nodes_that_read_the_score(graph)), wide_(graph.tables().size()) {}

Register IntervalProgramBuilder::make_register(Rate rate, const Interval& value) {
  program_.initial.insert(program_.initial.end(), kLanes, value);
  program_.rates.push_back(rate);
  return static_cast<Register>(program_.rates.size() - 1);
}

Register IntervalProgramBuilder::add_known(const Interval& value) { return make_register(Rate::once, value); }

Register IntervalProgramBuilder::add_instruction(Instruction instruction, std::span<const Register> operands) {
  auto rate = Rate::once;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    instruction.operands[i] = operands[i] * kLanes;
    rate = combined(rate, program_.rates[operands[i]]);
  }
  instruction.operand_count = static_cast<std::uint8_t>(operands.size());
  const Register number = make_register(rate, kAnyReal);
  instruction.result = number * kLanes;
  auto& instructions = rate == Rate::once ? once_ : rate == Rate::head ? program_.of_head : program_.of_box;
  instructions.push_back(instruction);
  return number;
}

Register IntervalProgramBuilder::add_operation(std::int32_t number, Type operand_type,
                                               std::span<const Register> operands) {
  auto function = kFunctions[static_cast<std::size_t>(number)][static_cast<std::size_t>(operand_type)];
  // A register that is computed, if only once, is not known yet.
  if (number == number_of<FloorDivision> && is_power_of_two(program_.initial[operands[1] * kLanes]))
    function = divide_by_power_of_two;
  return add_instruction({.function = function, .forwards = forwards_of(number)}, operands);
}

Register IntervalProgramBuilder::add_function(Instruction::Function function, std::span<const Register> operands) {
  return add_instruction({.function = function}, operands);
}

Register IntervalProgramBuilder::add_coordinate(Coordinate coordinate) {
  const Register number = make_register(rate_of(coordinate), kAnyInt);
  program_.coordinates.push_back({coordinate, number});
  return number;
}

Register IntervalProgramBuilder::add_read(const Node& node, std::span<const Register> operands) {
  const TableBounds& table = slots_.tables[static_cast<std::size_t>(node.index)];
  const auto rank = node.operand_count;
  const bool is_empty =
      std::find(table.extents.begin(), table.extents.begin() + rank, 0) != table.extents.begin() + rank;
  if (is_empty) return add_known(single(0));  // as every reading has it
  program_.reads.push_back(std::make_unique<IntervalRead>(IntervalRead{nullptr, {}, table.range}));
  for (std::size_t axis = 0; axis < rank; ++axis)
    program_.reads.back()->last[axis] = static_cast<double>(table.extents[axis] - 1);
  Instruction read{.function = evaluate_unindexed_read, .read = program_.reads.back().get()};
  if (table.data) {
    read.function = kReads[operands.size() - 1];
    unindexed_.emplace_back(program_.reads.size() - 1, node.index);
    for (std::size_t axis = 0; axis < operands.size(); ++axis) {
      if (program_.rates[operands[axis]] > Rate::head) wide_[static_cast<std::size_t>(node.index)][axis] = true;
    }
  }
  return add_instruction(read, operands);
}

Register IntervalProgramBuilder::add(NodeId id, Register score) {
  const std::pair key{id, reads_score_[id] ? score : kNoRegister};
  if (const auto found = compiled_.find(key); found != compiled_.end()) return found->second;
  return compiled_[key] = compile(graph_[id], score);
}

Register IntervalProgramBuilder::compile(const Node& node, Register score) {
  std::array<Register, kMaxOperands> registers{};
  for (std::size_t i = 0; i < node.operand_count; ++i) registers[i] = add(node.operands[i], score);
  const std::span<const Register> operands(registers.data(), node.operand_count);
  const auto index = static_cast<std::size_t>(node.index);
  switch (node.kind) {
    case Kind::constant: return add_known(rounded(node.type, node.value));
    case Kind::literal: return add_known(rounded(node.type, slots_.literals[index]));
    case Kind::parameter: return add_known(slots_.parameters[index]);
    case Kind::coordinate: return add_coordinate(static_cast<Coordinate>(node.index));
    case Kind::score: return score != kNoRegister ? score : add_known(kAnyReal);
    case Kind::seed:
    case Kind::scale: return add_known(kAnyReal);
    case Kind::read: return add_read(node, operands);
    case Kind::operation: return add_operation(node.index, graph_[node.inputs().back()].type, operands);
  }
  return kNoRegister;
}

void IntervalProgramBuilder::make_indexes() {
  std::vector<const RangeIndex*> made(wide_.size(), nullptr);
  for (const auto& [read, table] : unindexed_) {
    const auto number = static_cast<std::size_t>(table);
    if (made[number] == nullptr) {
      program_.indexes.push_back(std::make_unique<RangeIndex>(*slots_.tables[number].data, wide_[number]));
      made[number] = program_.indexes.back().get();
    }
    program_.reads[read]->index = made[number];
  }
}

IntervalProgram IntervalProgramBuilder::finish() {
  make_indexes();
  const auto rate = [this](const Instruction& instruction) { return program_.rates[instruction.result / kLanes]; };
  std::ranges::stable_sort(program_.of_box, {}, rate);
  for (const Instruction& instruction : once_) instruction.function(instruction, program_.initial.data());
  return std::move(program_);
}

}  // namespace tilewise::variant
