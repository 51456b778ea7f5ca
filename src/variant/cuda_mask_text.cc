#include "variant/cuda_mask_text.h"

#include <fmt/format.h>

#include <cmath>

#include "variant/hoist.h"
#include "variant/operations/operations.h"

namespace tilewise::variant {
namespace {

constexpr const char* kReads = R"cuda(
using variant::value_of;

/// The smallest and largest of the values that are shown to it.
struct TruthSeen {
  Truth bounds{true, false};
  __device__ void see(bool x) { bounds = {bounds.low && x, bounds.high || x}; }
};
struct IntsSeen {
  Ints bounds{kIntMax, kIntMin};
  __device__ void see(int x) { bounds = {smaller(bounds.low, x), larger(bounds.high, x)}; }
};
struct RealsSeen {
  Reals bounds{unbounded(), -unbounded(), false};
  __device__ void see(float x) {
    if (x != x) {
      bounds.may_be_nan = true;
    } else {
      bounds.low = smaller(bounds.low, x), bounds.high = larger(bounds.high, x);
    }
  }
};
__device__ inline TruthSeen seen_of(bool) { return {}; }
__device__ inline IntsSeen seen_of(int) { return {}; }
__device__ inline RealsSeen seen_of(float) { return {}; }
__device__ inline Truth any_of(bool) { return unknown(); }
__device__ inline Ints any_of(int) { return any_int(); }
__device__ inline Reals any_of(float) { return any_real(); }

/// What lies at the indices within bounds, each clamped to its axis; zero where the table is empty.
template <class T, int rank, class... Index>
__device__ inline auto read_within(const variant::Table<T, rank>& table, const Index&... index) {
  constexpr double kMost = 65536;
  using Value = decltype(value_of(T{}));
  const Ints indices[] = {index...};
  int first[rank], last[rank], at[rank];
  double elements = 1;
  bool is_empty = false;
  for (int axis = 0; axis < rank; ++axis) {
    const double end = table.extents[axis] - 1;
    is_empty |= end < 0;
    first[axis] = at[axis] = int(smaller(larger(indices[axis].low, 0), end));
    last[axis] = int(smaller(larger(indices[axis].high, 0), end));
    elements *= last[axis] - first[axis] + 1;
  }
  auto seen = seen_of(Value());
  if (is_empty) {
    seen.see(Value());
    return seen.bounds;
  }
  if (elements > kMost) return any_of(Value());
  while (true) {
    long long offset = 0;
    for (int axis = 0; axis < rank - 1; ++axis) offset += at[axis] * table.strides[axis];
    for (int i = first[rank - 1]; i <= last[rank - 1]; ++i) {
      seen.see(value_of(table.data[offset + i * table.strides[rank - 1]]));
    }
    int axis = rank - 2;
    while (axis >= 0 && ++at[axis] > last[axis]) at[axis] = first[axis], --axis;
    if (axis < 0) return seen.bounds;
  }
}
)cuda";

const char* bounds_name(Type type) {
  switch (type) {
    case Type::boolean: return "Truth";
    case Type::int32: return "Ints";
    case Type::real: return "Reals";
  }
  return "";
}

std::string constant_text(const Node& node) {
  if (node.type == Type::boolean) return node.value != 0 ? "single(true)" : "single(false)";
  if (node.type == Type::int32) {
    return node.value == kIntMin ? "single(-2147483647 - 1)"
                                 : fmt::format("single({})", static_cast<std::int32_t>(node.value));
  }
  const auto value = static_cast<float>(node.value);
  if (std::isnan(value)) return "any_real()";
  if (std::isinf(value))
    return value > 0 ? "Reals{unbounded(), unbounded(), false}" : "Reals{-unbounded(), -unbounded(), false}";
  return fmt::format("single({:#}f)", value);
}

/// The place of a function among the hoisted classes, and what stands for an entry's indices in it. A value of a class
/// is the same all along what the class does not depend on, so index 0 stands for all of that.
struct Function {
  Hoist hoist;
  const char* query_index;
  const char* key_index;
};
constexpr Function kUniform{Hoist::uniform, "single(0)", "single(0)"};
constexpr Function kQuery{Hoist::query, "query_index", "single(0)"};
constexpr Function kKey{Hoist::key, "single(0)", "key_index"};
constexpr Function kEntry{Hoist::entry, "query_index", "key_index"};

std::string coordinate_text(Coordinate coordinate, const Function& within) {
  using enum Coordinate;
  const auto shifted = [](const char* index, const char* offset) {
    return fmt::format("add({}, single(sequence.{}))", index, offset);
  };
  switch (coordinate) {
    case query: return shifted(within.query_index, "query_offset");
    case key: return shifted(within.key_index, "key_offset");
    case query_index: return within.query_index;
    case key_index: return within.key_index;
    case query_token: return shifted(within.query_index, "query_token");
    case key_token: return shifted(within.key_index, "key_token");
    default: return fmt::format("single(sequence.{})", to_string(coordinate));
  }
}

class Writer {
 public:
  Writer(const Variant::Data& data, const std::vector<bool>& removes)
      : data_(data), graph_(data.graph), removes_(removes), hoist_(hoisting_classes(graph_)) {
    for (Hoist& hoist : hoist_) hoist = hoist == Hoist::diagonal ? Hoist::entry : hoist;
    for (const Node& node : graph_.nodes()) {
      bool reads = node.kind == Kind::score;
      for (const NodeId operand : node.inputs()) reads = reads || reads_score_[operand];
      reads_score_.push_back(reads);
    }
    for (std::size_t i = 0; i < data_.stages.size(); ++i) {
      if (removes_[i]) stages_ = i + 1;
    }
    for (std::size_t i = 0; i < stages_; ++i) {
      if (counts(i)) roots_.push_back(data_.stages[i].root);
    }
  }

  std::string write() {
    text_ =
        "namespace variant_bounds {\n\nusing namespace tilewise::cuda::bounds;\nusing variant::Arguments;\n"
        "using variant::Sequence;\n";
    text_ += kReads;
    const std::vector<bool> in_entry = needed_by(roots_, kEntry);
    write_class(kUniform, "Uniform", "", in_entry);
    write_class(kQuery, "Query", ", const Ints& query_index", in_entry);
    write_class(kKey, "Key", ", const Ints& key_index", in_entry);
    write_kept(in_entry);
    text_ += "}  // namespace variant_bounds\n";
    return std::move(text_);
  }

 private:
  /// Whether a stage has to be looked at: it removes entries, or makes the scores that a later one removes by.
  bool counts(std::size_t stage) const {
    if (removes_[stage]) return true;
    if (data_.stages[stage].kind == Stage::Kind::keep) return false;
    for (std::size_t i = stage + 1; i < stages_; ++i) {
      if (removes_[i] && data_.stages[i].kind == Stage::Kind::score) return true;
    }
    return false;
  }

  /// A hoisted function computes all that it needs; the entry's is given what is hoisted.
  bool is_local(NodeId id, const Function& within) const {
    return within.hoist != Hoist::entry || hoist_[id] == Hoist::entry;
  }

  std::vector<bool> needed_by(const std::vector<NodeId>& roots, const Function& within) const {
    std::vector<bool> needed(graph_.size(), false);
    for (const NodeId root : roots) needed[root] = true;
    for (auto id = static_cast<NodeId>(graph_.size()); id-- > 0;) {
      if (!needed[id] || !is_local(id, within)) continue;
      for (const NodeId operand : graph_[id].inputs()) needed[operand] = true;
    }
    return needed;
  }

  std::string name(NodeId id, const Function& within) const {
    if (graph_[id].kind == Kind::score) return "s";
    if (is_local(id, within)) return fmt::format("b{}", id);
    const char* holder = hoist_[id] == Hoist::uniform ? "uniform" : hoist_[id] == Hoist::query ? "query" : "key";
    return fmt::format("{}.b{}", holder, id);
  }

  std::string expression(const Node& node, const Function& within) const {
    switch (node.kind) {
      case Kind::constant: return constant_text(node);
      case Kind::literal: return fmt::format("single(arguments.literal{})", node.index);
      case Kind::parameter: return fmt::format("single(arguments.parameter{})", node.index);
      case Kind::coordinate: return coordinate_text(static_cast<Coordinate>(node.index), within);
      default: break;
    }
    std::vector<std::string> operands;
    for (const NodeId operand : node.inputs()) operands.push_back(name(operand, within));
    const std::string list = fmt::format("{}", fmt::join(operands, ", "));
    if (node.kind == Kind::read) return fmt::format("read_within(arguments.table{}, {})", node.index, list);
    return fmt::format("{}({})", kInfo[static_cast<std::size_t>(node.index)].name, list);
  }

  /// Statements for the nodes that `wanted` marks; of those that read the score, or of the others.
  void write_values(const Function& within, const std::vector<bool>& wanted, bool that_read_score,
                    const char* indent = "  ") {
    for (NodeId id = 0; id < graph_.size(); ++id) {
      const Node& node = graph_[id];
      if (!wanted[id] || !is_local(id, within) || reads_score_[id] != that_read_score || node.kind == Kind::score)
        continue;
      text_ += fmt::format("{}const {} b{} = {};\n", indent, bounds_name(node.type), id, expression(node, within));
    }
  }

  /// A struct of the nodes of a class that the entry's function reads, and the function that makes it.
  void write_class(const Function& function, const char* prefix, const char* index, const std::vector<bool>& in_entry) {
    std::vector<NodeId> fields;
    for (NodeId id = 0; id < graph_.size(); ++id) {
      if (in_entry[id] && hoist_[id] == function.hoist) fields.push_back(id);
    }
    text_ += fmt::format("\nstruct {}Bounds {{\n", prefix);
    for (const NodeId id : fields) text_ += fmt::format("  {} b{};\n", bounds_name(graph_[id].type), id);
    const char* lower = function.hoist == Hoist::uniform ? "uniform" : function.hoist == Hoist::query ? "query" : "key";
    text_ += fmt::format(
        "}};\n__device__ inline {}Bounds {}_bounds(const Arguments& arguments, const Sequence& sequence{}) {{\n",
        prefix, lower, index);
    write_values(function, needed_by(fields, function), false);
    std::vector<std::string> names;
    for (const NodeId id : fields) names.push_back(fmt::format("b{}", id));
    text_ += fmt::format("  return {{{}}};\n}}\n", fmt::join(names, ", "));
  }

  void write_kept(const std::vector<bool>& in_entry) {
    text_ +=
        "\n__device__ inline Truth kept(const Arguments& arguments, const Sequence& sequence, const UniformBounds& "
        "uniform,\n                              const QueryBounds& query, const KeyBounds& key, const Ints& "
        "query_index, const Ints& key_index) {\n  Truth result{true, true};\n"
        "  Reals usual = usual_score(), every = every_score();\n";
    write_values(kEntry, in_entry, false);
    for (std::size_t i = 0; i < stages_; ++i) {
      if (!counts(i)) continue;
      const NodeId root = data_.stages[i].root;
      if (data_.stages[i].kind == Stage::Kind::keep) {
        text_ += fmt::format("  result = both(result, {});\n", name(root, kEntry));
        continue;
      }
      const std::vector<bool> needed = needed_by({root}, kEntry);
      for (const char* which : {"usual", "every"}) {
        text_ += fmt::format("  {{\n    const Reals s = {};\n", which);
        write_values(kEntry, needed, true, "    ");
        text_ += fmt::format("    {} = {};\n  }}\n", which, name(root, kEntry));
      }
      if (removes_[i]) text_ += "  result = both(result, stage_keeps(usual, every));\n";
      text_ += "  usual = floored(usual), every = floored(every);\n";
    }
    text_ += "  return result;\n}\n";
  }

  const Variant::Data& data_;
  const Graph& graph_;
  const std::vector<bool>& removes_;  // [stages]
  std::vector<Hoist> hoist_;          // [nodes]; a diagonal's counts as an entry's
  std::vector<bool> reads_score_;     // [nodes]
  std::size_t stages_ = 0;            // up to the last that removes
  std::vector<NodeId> roots_;         // of the stages that count
  std::string text_;
};

}  // namespace

std::string cuda_mask_text(const Variant& variant, const std::vector<bool>& removes) {
  return Writer(variant.data(), removes).write();
}

}  // namespace tilewise::variant
