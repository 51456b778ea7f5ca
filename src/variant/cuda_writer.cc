#include "variant/cuda_writer.h"

#include <fmt/format.h>

#include <cmath>
#include <set>

#include "variant/operations/operations.h"

namespace tilewise::variant {
namespace {

const char* storage_name(DType dtype) {
  switch (dtype) {
    case DType::float64: return "double";
    case DType::float32: return "float";
    case DType::float16: return "Float16";
    case DType::bfloat16: return "BFloat16";
    case DType::int64: return "long long";
    case DType::int32: return "int";
    case DType::int8: return "signed char";
    case DType::uint8: return "unsigned char";
    case DType::boolean: return "Bool";
    case DType::float8_e4m3: break;  // of no table
  }
  return "";
}

/// In the order of Hoist.
constexpr ClassText kClasses[] = {
    {Hoist::uniform, "Uniform", "uniform", "", "0", "0"},
    {Hoist::query, "Query", "query", ", int query_index", "query_index", "0"},
    {Hoist::key, "Key", "key", ", int key_index", "0", "key_index"},
    // Its values depend on the difference only, so the entry (difference, 0) stands for the whole diagonal.
    {Hoist::diagonal, "Diagonal", "diagonal", ", int difference", "difference", "0"},
    {Hoist::entry, "", "", ", int query_index, int key_index, float s", "query_index", "key_index"},
};

std::string coordinate_text(Coordinate coordinate, const ClassText& within) {
  using enum Coordinate;
  switch (coordinate) {
    case query: return fmt::format("{} + sequence.query_offset", within.query_index);
    case key: return fmt::format("{} + sequence.key_offset", within.key_index);
    case query_index: return within.query_index;
    case key_index: return within.key_index;
    case query_token: return fmt::format("{} + sequence.query_token", within.query_index);
    case key_token: return fmt::format("{} + sequence.key_token", within.key_index);
    case queries:
    case keys:
    case batch:
    case head:
    case kv_head: return fmt::format("sequence.{}", to_string(coordinate));
  }
  return "";
}

/// Leaves that every function can name at no cost, so that they are never hoisted into a struct.
bool is_named_everywhere(const Node& node) {
  return node.kind == Kind::constant || node.kind == Kind::scale || node.kind == Kind::literal ||
         node.kind == Kind::parameter ||
         (node.kind == Kind::coordinate && static_cast<Coordinate>(node.index) > Coordinate::key_token);
}

}  // namespace

const ClassText& text_of(Hoist hoist) { return kClasses[static_cast<std::size_t>(hoist)]; }

const char* type_name(Type type) {
  switch (type) {
    case Type::boolean: return "bool";
    case Type::int32: return "int";
    case Type::real: return "float";
  }
  return "";
}

std::string constant_text(const Node& node) {
  switch (node.type) {
    case Type::boolean: return node.value != 0 ? "true" : "false";
    case Type::int32:
      return node.value == kIntMin ? "(-2147483647 - 1)" : fmt::format("{}", static_cast<std::int32_t>(node.value));
    case Type::real: break;
  }
  const auto value = static_cast<float>(node.value);
  if (std::isinf(value)) return value > 0 ? "__int_as_float(0x7f800000)" : "__int_as_float(0xff800000)";
  return fmt::format("{:#}f", value);  // # keeps the point: 30.0f
}

CudaWriter::CudaWriter(const Variant::Data& data, const Graph& graph)
    : data_(data), graph_(graph), hoist_(hoisting_classes(graph)), crosses_(graph.size(), false) {}

void CudaWriter::mark_crossings() {
  for (NodeId id = 0; id < graph_.size(); ++id) {
    if (!live_[id]) continue;
    for (NodeId operand : graph_[id].inputs()) {
      if (!is_local(operand, text_of(hoist_[id]))) crosses_[operand] = true;
    }
  }
  if (data_.sink != kNoNode) crosses_[data_.sink] = true;
}

void CudaWriter::write_operations(const std::vector<const Graph*>& graphs) {
  static constexpr auto kText = for_each_operation([]<class O>() { return O::cuda; });
  std::set<std::int32_t> used;
  for (const Graph* graph : graphs) {
    for (NodeId id = 0; id < graph->size(); ++id) {
      const Node& node = (*graph)[id];
      if (node.kind == Kind::operation && (id >= live_.size() || live_[id])) used.insert(node.index);
    }
  }
  for (std::int32_t number : used) text_ += kText[static_cast<std::size_t>(number)];
}

void CudaWriter::write_arguments() {
  text_ += "\nstruct Arguments {\n";
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < graph_.tables().size(); ++i) {
    const Table& table = graph_.tables()[i];
    text_ += fmt::format("  Table<{}, {}> table{};\n", storage_name(table.dtype()), table.rank(), i);
    layout_.tables.push_back(offset);
    offset += table_view_size(table.rank());
  }
  const auto scalar = [&](const char* what, std::size_t i, Type type, std::vector<std::int64_t>& places) {
    text_ += fmt::format("  {} {}{};\n", type_name(type), what, i);
    places.push_back(offset);
    offset += 4;
  };
  for (const Node& node : graph_.nodes()) {
    if (node.kind == Kind::literal) scalar("literal", layout_.literals.size(), node.type, layout_.literals);
  }
  for (const Parameter& parameter : graph_.parameters()) {
    scalar("parameter", layout_.parameters.size(), parameter.type(), layout_.parameters);
  }
  layout_.size = (offset + 7) / 8 * 8;
  if (offset == 0) {
    text_ += "  long long none;\n";
    layout_.size = 8;
  } else if (offset % 8 != 0) {
    text_ += "  int padding;\n";
  }
  text_ +=
      fmt::format("}};\nstatic_assert(sizeof(Arguments) == {}, \"the host packs this layout\");\n\n", layout_.size);
}

/// Whether the function for class `within` computes the node itself. An entry is given all hoisted values. A hoisted
/// value is given the uniform ones; whatever else it is made of (the query and the key of a difference, the key of
/// key - key) stands for one entry of its class, at which it is computed anew.
bool CudaWriter::is_local(NodeId id, const ClassText& within) const {
  if (within.hoist == Hoist::entry) return hoist_[id] == Hoist::entry;
  return within.hoist == Hoist::uniform || hoist_[id] != Hoist::uniform;
}

/// How a node's value is named inside the function that makes class `within`.
std::string CudaWriter::name(NodeId id, const ClassText& within) const {
  const Node& node = graph_[id];
  switch (node.kind) {
    case Kind::constant: return constant_text(node);
    case Kind::literal: return fmt::format("arguments.literal{}", node.index);
    case Kind::parameter: return fmt::format("arguments.parameter{}", node.index);
    case Kind::score: return "s";
    case Kind::scale: return "sequence.scale";
    default: break;
  }
  if (is_named_everywhere(node)) return coordinate_text(static_cast<Coordinate>(node.index), within);
  return is_local(id, within) ? fmt::format("t{}", id) : fmt::format("{}.t{}", text_of(hoist_[id]).variable, id);
}

std::string CudaWriter::expression(NodeId id, const ClassText& within) const {
  const Node& node = graph_[id];
  if (node.kind == Kind::coordinate) return coordinate_text(static_cast<Coordinate>(node.index), within);
  std::vector<std::string> operands;
  for (NodeId operand : node.inputs()) operands.push_back(name(operand, within));
  const std::string list = fmt::format("{}", fmt::join(operands, ", "));
  if (node.kind == Kind::read) return fmt::format("read(arguments.table{}, {})", node.index, list);
  const auto name = kInfo[static_cast<std::size_t>(node.index)].name;
  return fmt::format("{}{}({})", is_fast(id) ? "fast::" : "", name, list);
}

bool CudaWriter::is_a_value(NodeId id, const ClassText& within) const {
  return is_local(id, within) && !is_named_everywhere(graph_[id]) && graph_[id].kind != Kind::score;
}

void CudaWriter::write_values(const ClassText& within, const std::vector<bool>& wanted) {
  for (NodeId id = 0; id < graph_.size(); ++id) {
    const Node& node = graph_[id];
    if (wanted[id] && is_a_value(id, within))
      text_ += fmt::format("  const {} t{} = {};\n", type_name(node.type), id, expression(id, within));
  }
}

std::string CudaWriter::parameters(const ClassText& within) const {
  std::string list = "const Arguments& arguments, const Sequence& sequence";
  for (const ClassText& one : kClasses) {
    // A class may use the uniform values; only an entry uses all of them.
    const bool earlier = one.hoist == Hoist::uniform ? within.hoist != Hoist::uniform : within.hoist == Hoist::entry;
    if (earlier && one.hoist != Hoist::entry) list += fmt::format(", const {}& {}", one.structure, one.variable);
  }
  return list + within.indices;
}

/// Whether a function that computes these nodes is written into each of its uses, a few hundred in a kernel's
/// unrolled loops, or called. A sum of 64 cosines, written out so often, takes a compiler minutes.
const char* CudaWriter::linkage(const std::vector<bool>& wanted, const ClassText& within) const {
  constexpr int kMostInlined = 96;  // operations and reads
  if (is_made_once(within)) return "__device__ inline";
  int operations = 0;
  for (NodeId id = 0; id < graph_.size(); ++id) {
    const Kind kind = graph_[id].kind;
    if (wanted[id] && is_local(id, within) && (kind == Kind::operation || kind == Kind::read)) ++operations;
  }
  return operations > kMostInlined ? "__device__ __noinline__" : "__device__ inline";
}

void CudaWriter::write_classes() {
  for (const ClassText& one : kClasses) {
    if (one.hoist != Hoist::entry) write_class(one);
  }
}

void CudaWriter::write_class(const ClassText& one) {
  std::vector<NodeId> fields;
  for (NodeId id = 0; id < graph_.size(); ++id) {
    if (hoist_[id] == one.hoist && crosses_[id] && !is_named_everywhere(graph_[id])) fields.push_back(id);
  }
  fields_[static_cast<std::size_t>(one.hoist)] = static_cast<int>(fields.size());
  text_ += fmt::format("/// Hoisted: values of one {}.\nstruct {} {{\n", one.variable, one.structure);
  for (NodeId id : fields) text_ += fmt::format("  {} t{};\n", type_name(graph_[id].type), id);
  const std::vector<bool> wanted = needed_by(fields, one);
  text_ +=
      fmt::format("}};\n{} {} {}_values({}) {{\n", linkage(wanted, one), one.structure, one.variable, parameters(one));
  write_values(one, wanted);
  std::vector<std::string> names;
  for (NodeId id : fields) names.push_back(fmt::format("t{}", id));
  text_ += fmt::format("  return {{{}}};\n}}\n\n", fmt::join(names, ", "));
}

void CudaWriter::write_sink() {
  const ClassText& uniform = text_of(Hoist::uniform);
  text_ += fmt::format("__device__ inline float sink_logit({}, const Uniform& uniform) {{\n", parameters(uniform));
  text_ += fmt::format("  return {};\n}}\n\n", name(data_.sink, text_of(Hoist::entry)));
}

}  // namespace tilewise::variant
