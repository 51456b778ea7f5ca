#include "variant/lanes/runner.h"

#include <algorithm>
#include <bit>

#include "core/fail.h"

namespace tilewise::variant {
namespace {

std::int32_t wrapping_sum(std::int32_t a, std::int64_t b) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
}

bool is_query(const Node& leaf) {
  const auto coordinate = static_cast<Coordinate>(leaf.index);
  return coordinate == Coordinate::query || coordinate == Coordinate::query_index ||
         coordinate == Coordinate::query_token;
}

/// The word of a number on lanes.
std::int32_t word_of(Type type, double number) {
  switch (type) {
    case Type::boolean: return number != 0 ? -1 : 0;
    case Type::int32: return static_cast<std::int32_t>(number);
    case Type::real: return std::bit_cast<std::int32_t>(static_cast<float>(number));
  }
  return 0;
}

}  // namespace

LaneRunner::LaneRunner(const LaneProgram& program, std::span<std::byte> workspace)
    : program_(program),
      operations_(strip_operations(program.options().isa)),
      words_(reinterpret_cast<std::int32_t*>(workspace.data())) {
  const auto address = reinterpret_cast<std::uintptr_t>(workspace.data());
  if (static_cast<std::int64_t>(workspace.size()) < program.workspace_bytes() ||
      address % LaneProgram::kWorkspaceAlignment != 0) {
    fail_argument("workspace: {} bytes at address {:#x}, expected at least {} bytes at a multiple of {}",
                  workspace.size(), address, program.workspace_bytes(), LaneProgram::kWorkspaceAlignment);
  }
}

void LaneRunner::enter(const Bound& bound, const Place& origin) {
  bound_ = &bound;
  origin_ = origin;
  query_window_ = key_window_ = {};
  box_ = {};
  known_begin_ = known_end_ = 0;
  run_on_strip(Hoist::uniform, kUniformWords);
}

void LaneRunner::run(const Box& box, TileStrip score, TileStrip seed, std::span<const TileStrip> outputs,
                     std::span<const TileStrip> inputs) {
  if (box.is_empty()) return;
  score_ = score;
  seed_ = seed;
  outputs_ = outputs;
  inputs_ = inputs;
  enter_tile(box);
  if (program_.only_adds_read() && add_read()) return;

  // Registers hold a block of rows, for transposition in whole squares.
  const std::int64_t most = program_.register_words(Space::entry) / tile_.inner;
  const std::int64_t rows = !program_.has_registers(Space::entry) ? tile_.outer
                            : most > 8                            ? most / 8 * 8
                                                                  : std::max<std::int64_t>(most, 1);
  for (std::int64_t row = 0; row < tile_.outer; row += rows) {
    const Shape block{std::min(rows, tile_.outer - row), tile_.inner};
    for (const LaneInstruction& instruction : program_.instructions(Hoist::entry))
      execute(instruction, Hoist::entry, block, row);
  }
}

/// Adds a table's words from where they lie, if they lie so that this is possible.
bool LaneRunner::add_read() {
  const LaneInstruction &read = program_.instructions(Hoist::entry)[0], &add = program_.instructions(Hoist::entry)[1];
  std::array<Strip, kMaxOperands> indices;
  for (std::size_t i = 0; i < read.operand_count; ++i) indices[i] = strip_of(read.operands[i], Hoist::entry, 0);
  const auto words = strip_of_read(bound_->tables[static_cast<std::size_t>(read.table)], read.steps,
                                   {tile_.outer, tile_.inner, {}, indices.data()});
  if (!words) return false;
  const Slot other = add.operands[add.operands[0].space == Space::entry ? 1 : 0];
  const Strip operands[] = {strip_of(other, Hoist::entry, 0), *words};
  if (words->inner != 1 && operands[0].inner != 1) return false;
  const StripFunction function = words->inner == 1 ? add.function : operations_.fused.add_across;
  function({tile_.outer, tile_.inner, strip_of(add.result, Hoist::entry, 0), operands});
  return true;
}

void LaneRunner::enter_tile(const Box& box) {
  const LaneOptions& options = program_.options();
  const std::int64_t queries = box.query_end - box.query_begin, keys = box.key_end - box.key_begin;
  if (queries > options.most_queries || keys > options.most_keys) {
    fail_argument("tile: {} queries x {} keys, expected at most the program's {} x {}", queries, keys,
                  options.most_queries, options.most_keys);
  }
  tile_ = options.layout == TileLayout::queries_inner ? Shape{keys, queries} : Shape{queries, keys};
  enter_strips(box);
}

ReadLines LaneRunner::lines_ahead(const Box& box) {
  if (box.is_empty()) return {};
  enter_tile(box);
  ReadLines most;
  for (const LaneInstruction& instruction : program_.instructions(Hoist::entry)) {
    if (instruction.kind != LaneInstruction::Kind::read) continue;
    std::array<Strip, kMaxOperands> operands;
    bool is_known = true;  // indices at entries are computed with the rest
    for (std::size_t i = 0; i < instruction.operand_count; ++i) {
      is_known = is_known && instruction.operands[i].space < Space::entry;
      if (is_known) operands[i] = strip_of(instruction.operands[i], Hoist::entry, 0);
    }
    if (!is_known) continue;
    const StripCall call{tile_.outer, tile_.inner, {}, operands.data()};
    const ReadLines lines =
        lines_of_read(bound_->tables[static_cast<std::size_t>(instruction.table)], instruction.steps, call);
    if (lines.rows * lines.row_bytes > most.rows * most.row_bytes) most = lines;
  }
  return most;
}

/// Computes the strips of the tile's queries, keys and diagonals, as far as they are not known.
void LaneRunner::enter_strips(const Box& box) {
  const bool is_last = box == box_;
  box_ = box;
  if (is_last) return;
  enter_window(Hoist::query, box.query_begin, box.query_end);
  enter_window(Hoist::key, box.key_begin, box.key_end);
  enter_diagonals();
}

/// Sees to it that the values of queries or keys [begin, end) are known. Some past the last one are computed as well;
/// reads of tables are clamped.
void LaneRunner::enter_window(Hoist hoist, std::int64_t begin, std::int64_t end) {
  const LaneOptions& options = program_.options();
  const std::int64_t room = hoist == Hoist::query ? options.query_window : options.key_window;
  Window& window = hoist == Hoist::query ? query_window_ : key_window_;
  const bool is_known =
      room == 0 ? window.begin == begin && window.end == end : window.begin <= begin && end <= window.end;
  if (is_known) return;
  window = {begin, std::max(end, begin + room)};
  run_on_strip(hoist, window.end - window.begin);
}

/// Computes the tile's diagonals, where they are kept those that are not known yet.
void LaneRunner::enter_diagonals() {
  const bool queries_inner = program_.options().layout == TileLayout::queries_inner;
  const std::int64_t count = tile_.outer + tile_.inner - 1;
  first_diagonal_ = box_.query_begin - box_.key_begin + (queries_inner ? -(tile_.outer - 1) : tile_.outer - 1);
  if (!keeps_diagonals()) return run_on_strip(Hoist::diagonal, count);
  const std::int64_t begin = first_diagonal_, end = begin + count, room = program_.options().kept_diagonals;
  const bool knows_any = known_begin_ < known_end_;
  if (!knows_any || begin < window_begin_ || end > window_begin_ + room) {
    // Where the last window was left, the walk is likely to go on.
    window_begin_ = !knows_any ? begin + count / 2 - room / 2 : begin < window_begin_ ? end - room : begin;
    known_begin_ = known_end_ = begin;
  }
  if (begin < known_begin_) {
    compute_diagonals(begin, known_begin_);
    known_begin_ = begin;
  }
  if (end > known_end_) {
    compute_diagonals(known_end_, end);
    known_end_ = end;
  }
  first_diagonal_ = begin;
}

void LaneRunner::compute_diagonals(std::int64_t begin, std::int64_t end) {
  const LaneOptions& options = program_.options();
  const std::int64_t most = options.most_queries + options.most_keys - 1;
  for (; begin < end; begin += most) {
    first_diagonal_ = begin;
    const std::int64_t count = std::min(most, end - begin);
    run_on_strip(Hoist::diagonal, count);
    for (const Slot slot : program_.kept_registers())
      std::copy_n(words_ + program_.start(slot), count, words_ + program_.kept_start(slot) + begin - window_begin_);
  }
}

const std::int32_t* LaneRunner::strip(std::size_t number) const {
  const Slot slot = program_.strips()[number];
  if (slot.space == Space::diagonal && keeps_diagonals())
    return words_ + program_.kept_start(slot) + first_diagonal_ - window_begin_;
  return words_ + program_.start(slot) + within_window(slot);
}

/// Words of a register before the tile's first.
std::int64_t LaneRunner::within_window(Slot slot) const {
  if (slot.space == Space::query) return box_.query_begin - query_window_.begin;
  return slot.space == Space::key ? box_.key_begin - key_window_.begin : 0;
}

void LaneRunner::run_on_strip(Hoist hoist, std::int64_t count) {
  for (const LaneInstruction& instruction : program_.instructions(hoist)) execute(instruction, hoist, {1, count}, 0);
}

/// The words of a register where instructions of class `hoist` read or write it, from a row of the tile on. Written
/// field by field: a copy of a strip would be loaded as one vector before its fields' stores have come through.
void LaneRunner::find_strip(Slot slot, Hoist hoist, std::int64_t first_row, Strip& strip) const {
  const auto set = [&strip](std::int32_t* start, std::int64_t outer, std::int64_t inner) {
    strip.data = start;
    strip.outer = outer;
    strip.inner = inner;
  };
  const auto set_callers = [&](const TileStrip& tile) {
    set(static_cast<std::int32_t*>(tile.data) + first_row * tile.stride, tile.stride, 1);
  };
  switch (slot.space) {
    case Space::score: return set_callers(score_);
    case Space::seed: return set_callers(seed_);
    case Space::output: return set_callers(outputs_[slot.place]);
    case Space::input: return set_callers(inputs_[slot.place]);
    default: break;
  }
  std::int32_t* start = words_ + program_.start(slot);
  if (slot.space == space_of(hoist)) return set(start, hoist == Hoist::entry ? tile_.inner : 0, 1);
  const bool queries_inner = program_.options().layout == TileLayout::queries_inner;
  switch (slot.space) {
    case Space::uniform: return set(start, 0, 0);
    case Space::query:
    case Space::key:
      start += within_window(slot);
      if ((slot.space == Space::query) == queries_inner) return set(start, 0, 1);
      return set(start + first_row, 1, 0);
    default: break;
  }
  if (keeps_diagonals()) start = words_ + program_.kept_start(slot) + first_diagonal_ - window_begin_;
  set(start + tile_.outer - 1 - first_row, -1, 1);  // a diagonal, seen from an entry
}

Strip LaneRunner::strip_of(Slot slot, Hoist hoist, std::int64_t first_row) const {
  Strip strip;
  find_strip(slot, hoist, first_row, strip);
  return strip;
}

void LaneRunner::execute(const LaneInstruction& instruction, Hoist hoist, Shape shape, std::int64_t first_row) {
  if (instruction.kind == LaneInstruction::Kind::fill) return fill(instruction);
  if (instruction.kind == LaneInstruction::Kind::ramp) return ramp(instruction, hoist, shape, first_row);
  std::array<Strip, kMostLaneOperands> operands;
  StripCall call{shape.outer, shape.inner, {}, operands.data()};
  find_strip(instruction.result, hoist, first_row, call.result);
  bool is_flat = call.result.outer == shape.inner;
  for (std::size_t i = 0; i < instruction.operand_count; ++i) {
    find_strip(instruction.operands[i], hoist, first_row, operands[i]);
    is_flat = is_flat && operands[i].outer == shape.inner * operands[i].inner;
  }
  if (instruction.kind == LaneInstruction::Kind::read) {
    return read_table(bound_->tables[static_cast<std::size_t>(instruction.table)], instruction.steps, call,
                      operations_.transpose);
  }
  if (is_flat) {  // rows that follow one another are one long row
    call.inner = shape.outer * shape.inner;
    call.outer = 1;
  }
  instruction.function(call);
}

void LaneRunner::fill(const LaneInstruction& instruction) {
  const Node& leaf = instruction.leaf;
  const auto index = static_cast<std::size_t>(leaf.index);
  const std::int32_t word = [&] {
    switch (leaf.kind) {
      case Kind::literal: return word_of(leaf.type, bound_->literals[index]);
      case Kind::parameter: return word_of(leaf.type, bound_->parameters[index]);
      case Kind::coordinate: return origin_[index];
      default: return word_of(leaf.type, leaf.value);
    }
  }();
  std::fill_n(words_ + program_.start(instruction.result), kUniformWords, word);
}

/// A coordinate along its strip. The diagonals' entries lie at key index 0.
void LaneRunner::ramp(const LaneInstruction& instruction, Hoist hoist, Shape shape, std::int64_t first_row) {
  const Strip result = strip_of(instruction.result, hoist, first_row);
  const std::int32_t base = origin_[static_cast<std::size_t>(instruction.leaf.index)];
  const bool queries_inner = program_.options().layout == TileLayout::queries_inner;
  const bool of_query = is_query(instruction.leaf);
  std::int64_t first = of_query ? box_.query_begin : box_.key_begin;
  std::int64_t row_step = 0, column_step = 1;
  if (hoist == Hoist::query || hoist == Hoist::key) {
    first = of_query ? query_window_.begin : key_window_.begin;
  } else if (hoist == Hoist::diagonal) {
    column_step = queries_inner ? 1 : -1;
    first = first_diagonal_;
  } else if (hoist == Hoist::entry) {
    column_step = of_query == queries_inner ? 1 : 0;
    row_step = 1 - column_step;
    first += row_step * first_row;
  }
  for (std::int64_t row = 0; row < shape.outer; ++row) {
    auto* words = static_cast<std::int32_t*>(result.data) + row * result.outer;
    for (std::int64_t column = 0; column < shape.inner; ++column)
      words[column] = wrapping_sum(base, first + row * row_step + column * column_step);
  }
}

}  // namespace tilewise::variant
