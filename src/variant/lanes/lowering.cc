#include "variant/lanes/lowering.h"

#include <algorithm>
#include <limits>

#include "core/fail.h"
#include "core/round_up.h"

namespace tilewise::variant {
namespace {

enum class Axis : std::uint8_t { none, query, key };

/// Along which axis of the tile a coordinate counts.
Axis axis_of(Coordinate coordinate) {
  switch (coordinate) {
    case Coordinate::query:
    case Coordinate::query_index:
    case Coordinate::query_token: return Axis::query;
    case Coordinate::key:
    case Coordinate::key_index:
    case Coordinate::key_token: return Axis::key;
    default: return Axis::none;
  }
}

/// Whether values of class `own` can be read where those of class `domain` are computed.
bool is_usable(Hoist own, Hoist domain) { return own == domain || own == Hoist::uniform || domain == Hoist::entry; }

/// Whether the entries of a strip differ along an axis. A diagonal's entries are taken at key index 0.
bool varies(Axis axis, Hoist domain) {
  if (axis == Axis::query) return domain == Hoist::query || domain == Hoist::diagonal || domain == Hoist::entry;
  return axis == Axis::key && (domain == Hoist::key || domain == Hoist::entry);
}

Hoist wider(Hoist a, Hoist b) {
  if (a == b || b == Hoist::uniform) return a;
  return a == Hoist::uniform ? b : Hoist::entry;
}

std::int64_t whole_vectors(std::int64_t words) { return tilewise::round_up(words, kUniformWords); }

}  // namespace

Lowering::Lowering(const Graph& graph, const LaneOptions& options)
    : graph_(graph),
      options_(options),
      operations_(strip_operations(options.isa)),
      dependences_(dependences(graph)),
      sees_score_(graph.size()),
      sees_seed_(graph.size()),
      is_of_entries_(graph.size()),
      known_(graph.size(), {kNone, kNone, kNone, kNone, kNone}) {
  if (options.most_queries <= 0 || options.most_keys <= 0) {
    fail_argument("lane program: tiles of at most {} queries x {} keys, expected at least 1 x 1", options.most_queries,
                  options.most_keys);
  }
  const auto holds_a_tile = [](std::int64_t window, std::int64_t most) { return window == 0 || window >= most; };
  if (!holds_a_tile(options.query_window, options.most_queries) ||
      !holds_a_tile(options.key_window, options.most_keys)) {
    fail_argument("lane program: windows of {} queries and {} keys, expected 0 or at least the tiles' {} and {}",
                  options.query_window, options.key_window, options.most_queries, options.most_keys);
  }
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph[id];
    sees_score_[id] = node.kind == Kind::score;
    sees_seed_[id] = node.kind == Kind::seed;
    for (NodeId operand : node.inputs()) {
      sees_score_[id] = sees_score_[id] || sees_score_[operand];
      sees_seed_[id] = sees_seed_[id] || sees_seed_[operand];
    }
    is_of_entries_[id] = dependences_[id].hoist == Hoist::entry;
    if (!options.hoist) dependences_[id].hoist = Hoist::entry;
  }
  LaneInstruction external;
  external.result.space = Space::score;
  score_ = add(Hoist::entry, external, {});
  external.result.space = Space::seed;
  seed_ = add(Hoist::entry, external, {});
}

Lowering::ValueId Lowering::add(Hoist domain, const LaneInstruction& instruction, std::span<const ValueId> operands) {
  Value value{.domain = domain, .instruction = instruction};
  value.instruction.operand_count = static_cast<std::uint8_t>(operands.size());
  std::copy(operands.begin(), operands.end(), value.operands.begin());
  values_.push_back(value);
  return static_cast<ValueId>(values_.size() - 1);
}

Lowering::ValueId Lowering::strip(StripFunction function, std::initializer_list<ValueId> operands) {
  Hoist domain = Hoist::uniform;
  for (ValueId operand : operands) domain = wider(domain, class_of(operand));
  LaneInstruction instruction;
  instruction.function = function;
  return add(domain, instruction, operands);
}

void Lowering::set_score(ValueId value) {
  score_ = value;
  for (NodeId id = 0; id < graph_.size(); ++id) {
    if (sees_score_[id]) known_[id].fill(kNone);
  }
}

void Lowering::set_seed(ValueId value) {
  seed_ = value;
  for (NodeId id = 0; id < graph_.size(); ++id) {
    if (sees_seed_[id]) known_[id].fill(kNone);
  }
}

void Lowering::set_view(const View& view) {
  score_ = view.score;
  known_ = view.known;
}

/// In the pass that computes the score, where that is an operation; should another instruction need the score itself,
/// it is computed there too.
Lowering::ValueId Lowering::settle(ValueId score) {
  const Value value = values_[score];
  if (value.real_operation == kNoOperation || operations_.settled[value.real_operation] == nullptr)
    return strip(operations_.settle, {score});
  LaneInstruction instruction = value.instruction;
  instruction.function = operations_.settled[value.real_operation];
  return add(value.domain, instruction, {value.operands.data(), value.instruction.operand_count});
}

Lowering::ValueId Lowering::real_constant(double value) {
  return leaf({.kind = Kind::constant, .type = Type::real, .value = value}, Hoist::uniform);
}

Lowering::ValueId Lowering::int_constant(std::int32_t value) {
  return leaf({.kind = Kind::constant, .type = Type::int32, .value = double(value)}, Hoist::uniform);
}

Lowering::ValueId Lowering::leaf(const Node& node, Hoist domain) {
  LaneInstruction instruction;
  instruction.leaf = node;
  const bool is_ramp = node.kind == Kind::coordinate && varies(axis_of(static_cast<Coordinate>(node.index)), domain);
  instruction.kind = is_ramp ? LaneInstruction::Kind::ramp : LaneInstruction::Kind::fill;
  return add(is_ramp ? domain : Hoist::uniform, instruction, {});
}

/// How an index grows along the strips of `domain`.
IndexStep Lowering::step_of(NodeId index, Hoist domain) const {
  const Affine form = dependences_[index].form;
  if (!form.known || domain == Hoist::uniform) return {};
  const bool queries_inner = options_.layout == TileLayout::queries_inner;
  switch (domain) {
    case Hoist::query: return {true, static_cast<std::int32_t>(form.query)};
    case Hoist::key: return {true, static_cast<std::int32_t>(form.key)};
    case Hoist::diagonal: return {true, static_cast<std::int32_t>(queries_inner ? form.query : 0u - form.query)};
    default: break;
  }
  const auto query = static_cast<std::int32_t>(form.query), key = static_cast<std::int32_t>(form.key);
  return queries_inner ? IndexStep{true, query, key} : IndexStep{true, key, query};
}

Lowering::ValueId Lowering::lower_in(NodeId id, Hoist domain) {
  const Node& node = graph_[id];
  if (node.kind == Kind::score) return score_;
  if (node.kind == Kind::seed) return seed_;
  // A value of an unrelated class is one that an affine combination cancels, such as the key in (query - key) + key:
  // any entry of this strip will do, so it is computed on this strip.
  if (is_usable(dependences_[id].hoist, domain)) domain = dependences_[id].hoist;
  ValueId& known = known_[id][static_cast<std::size_t>(domain)];
  if (known != kNone) return known;

  if (node.kind != Kind::operation && node.kind != Kind::read) return known = leaf(node, domain);
  if (is_of_entries_[id] && is_operation(id, number_of<HyperbolicTangent>)) {
    if (const auto fused = lower_tanh(node)) return known_[id][static_cast<std::size_t>(domain)] = *fused;
  }
  std::array<ValueId, kMaxOperands> operands{};
  LaneInstruction instruction;
  for (std::size_t i = 0; i < node.operand_count; ++i) {
    operands[i] = lower_in(node.operands[i], domain);
    instruction.steps[i] = step_of(node.operands[i], domain);
  }
  const bool is_read = node.kind == Kind::read;
  const bool real = !is_read && graph_[node.operands[node.operand_count - 1]].type == Type::real;
  if (is_read) {
    instruction.kind = LaneInstruction::Kind::read;
    instruction.table = node.index;
  } else {
    instruction.function = operations_.operation[node.index][real ? 1 : 0];
  }
  known = add(domain, instruction, {operands.data(), node.operand_count});
  if (real) values_[known].real_operation = node.index;
  return known;
}

LaneProgram Lowering::finish(std::span<const ValueId> outputs, std::span<const ValueId> strips) {
  LaneProgram program;
  program.options_ = options_;
  program.outputs_ = outputs.size();
  std::vector<ValueId> results(outputs.begin(), outputs.end());
  results.insert(results.end(), strips.begin(), strips.end());
  fuse(results);
  results.resize(outputs.size());
  direct_outputs(results);
  results.insert(results.end(), strips.begin(), strips.end());
  assign_registers(needed_for(results), strips, program);
  program.only_adds_read_ = only_adds_read(program.instructions(Hoist::entry));
  return program;
}

/// Values at entries that do not follow from the seed, but are operands of what does.
std::vector<Lowering::ValueId> Lowering::taken_over(std::span<const ValueId> after) const {
  const std::vector<bool> needed = needed_for(after);
  std::vector<bool> follows_seed(values_.size());
  std::vector<ValueId> taken;
  for (ValueId v = 0; v < values_.size(); ++v) {
    const LaneInstruction& instruction = values_[v].instruction;
    const std::span operands(values_[v].operands.data(), instruction.operand_count);
    follows_seed[v] = instruction.result.space == Space::seed ||
                      std::any_of(operands.begin(), operands.end(), [&](ValueId of) { return follows_seed[of]; });
    if (!needed[v] || !follows_seed[v]) continue;
    for (const ValueId operand : operands) {
      const bool is_at_entries = class_of(operand) == Hoist::entry && !is_external(operand);
      if (!is_at_entries || follows_seed[operand]) continue;
      if (std::find(taken.begin(), taken.end(), operand) == taken.end()) taken.push_back(operand);
    }
  }
  return taken;
}

Lowering::Parts Lowering::split(std::span<const ValueId> before, std::span<const ValueId> after,
                                std::span<const ValueId> strips) const {
  const std::vector<ValueId> taken = taken_over(after);
  std::vector<ValueId> outputs(before.begin(), before.end());
  outputs.insert(outputs.end(), taken.begin(), taken.end());
  Lowering first = *this, second = *this;
  for (std::size_t i = 0; i < taken.size(); ++i) {
    LaneInstruction input;
    input.result = {Space::input, static_cast<std::uint32_t>(i)};
    second.values_[taken[i]] = {.domain = Hoist::entry, .instruction = input};
  }
  return {first.finish(outputs), second.finish(after, strips)};
}

/// Sends each output to its strip: the instruction that computes it writes there, unless it computes a narrower strip,
/// is the caller's own strip, or already writes to another output.
void Lowering::direct_outputs(std::vector<ValueId>& outputs) {
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (class_of(outputs[i]) != Hoist::entry || is_external(outputs[i])) {
      LaneInstruction copy;
      copy.function = operations_.copy;
      outputs[i] = add(Hoist::entry, copy, {{outputs[i]}});
    }
    values_[outputs[i]].instruction.result = {Space::output, static_cast<std::uint32_t>(i)};
  }
}

std::vector<bool> Lowering::needed_for(std::span<const ValueId> outputs) const {
  std::vector<bool> needed(values_.size());
  for (ValueId output : outputs) needed[output] = true;
  for (std::size_t v = values_.size(); v-- > 0;) {  // operands come before what uses them
    if (!needed[v]) continue;
    for (std::size_t i = 0; i < values_[v].instruction.operand_count; ++i) needed[values_[v].operands[i]] = true;
  }
  return needed;
}

/// Linear scan in each class: a register is free again after its value's last use in the class's own instructions;
/// values that other classes read keep theirs.
void Lowering::assign_registers(const std::vector<bool>& needed, std::span<const ValueId> strips,
                                LaneProgram& program) {
  constexpr auto kForever = std::numeric_limits<std::size_t>::max();
  std::vector<std::size_t> last_use(values_.size(), 0);
  for (std::size_t v = 0; v < values_.size(); ++v) {
    if (!needed[v]) continue;
    for (std::size_t i = 0; i < values_[v].instruction.operand_count; ++i) {
      const ValueId operand = values_[v].operands[i];
      const bool same_class = class_of(operand) == values_[v].domain;
      last_use[operand] = same_class && last_use[operand] != kForever ? v : kForever;
    }
  }
  for (const ValueId strip : strips) last_use[strip] = kForever;

  std::array<std::uint32_t, kRegisterSpaces> registers{};
  std::array<std::vector<std::uint32_t>, kRegisterSpaces> free;
  for (std::size_t v = 0; v < values_.size(); ++v) {
    if (!needed[v]) continue;
    Value& value = values_[v];
    const auto space = static_cast<std::size_t>(value.domain);
    for (std::size_t i = 0; i < value.instruction.operand_count; ++i) {
      const ValueId operand = value.operands[i];
      value.instruction.operands[i] = values_[operand].instruction.result;
      const bool seen = std::find(value.operands.begin(), value.operands.begin() + static_cast<std::ptrdiff_t>(i),
                                  operand) != value.operands.begin() + static_cast<std::ptrdiff_t>(i);
      // The result may take an operand's register: every instruction reads a word before it writes there.
      if (last_use[operand] == v && !is_external(operand) && !seen)
        free[space].push_back(values_[operand].instruction.result.place);
    }
    if (is_external(static_cast<ValueId>(v))) {
      if (value.instruction.result.space != Space::output) continue;
    } else if (free[space].empty()) {
      value.instruction.result = {space_of(value.domain), registers[space]++};
    } else {
      value.instruction.result = {space_of(value.domain), free[space].back()};
      free[space].pop_back();
    }
    program.instructions_[space].push_back(value.instruction);
  }
  for (const ValueId strip : strips) program.strips_.push_back(values_[strip].instruction.result);
  lay_out(program, registers);
  std::vector<bool> is_kept(values_.size());
  for (std::size_t v = 0; v < values_.size(); ++v) is_kept[v] = needed[v] && last_use[v] == kForever;
  lay_out_kept(is_kept, registers[static_cast<std::size_t>(Space::diagonal)], program);
}

/// Room for the diagonals' values that entries read.
void Lowering::lay_out_kept(const std::vector<bool>& is_kept, std::uint32_t registers, LaneProgram& program) const {
  program.kept_starts_.assign(registers, -1);
  if (options_.kept_diagonals == 0 || options_.layout != TileLayout::queries_inner) return;
  for (std::size_t v = 0; v < values_.size(); ++v) {
    if (!is_kept[v] || values_[v].domain != Hoist::diagonal) continue;
    const Slot slot = values_[v].instruction.result;
    program.kept_starts_[slot.place] = program.workspace_words_;
    program.workspace_words_ += whole_vectors(options_.kept_diagonals);
    program.kept_registers_.push_back(slot);
  }
}

void Lowering::lay_out(LaneProgram& program, const std::array<std::uint32_t, kRegisterSpaces>& registers) const {
  const bool queries_inner = options_.layout == TileLayout::queries_inner;
  const std::int64_t inner = queries_inner ? options_.most_queries : options_.most_keys;
  program.words_ = {kUniformWords, whole_vectors(std::max(options_.most_queries, options_.query_window)),
                    whole_vectors(std::max(options_.most_keys, options_.key_window)),
                    whole_vectors(options_.most_queries + options_.most_keys - 1),
                    std::max(kBlockWords, whole_vectors(inner))};
  for (std::size_t space = 0; space < kRegisterSpaces; ++space) {
    program.starts_[space] = program.workspace_words_;
    program.has_registers_[space] = registers[space] > 0;
    program.workspace_words_ += registers[space] * program.words_[space];
  }
}

LaneProgram::LaneProgram(const Graph& graph, std::span<const NodeId> roots, const LaneOptions& options) {
  Lowering lowering(graph, options);
  std::vector<Lowering::ValueId> outputs;
  for (NodeId root : roots) outputs.push_back(lowering.lower(root));
  *this = lowering.finish(outputs);
}

}  // namespace tilewise::variant
