#include "variant/cuda_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>

#include "variant/adjoint.h"
#include "variant/cuda_prelude.h"
#include "variant/hoist.h"
#include "variant/operations/operations.h"
#include "variant/rearranged.h"

namespace tilewise::variant {
namespace {

const char* type_name(Type type) {
  switch (type) {
    case Type::boolean: return "bool";
    case Type::int32: return "int";
    case Type::real: return "float";
  }
  return "";
}

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
  }
  return "";
}

/// What a hoisted class is called in the text: its struct, the variable that holds one, and the index arguments that
/// its function takes. In the order of Hoist.
struct ClassText {
  Hoist hoist;
  const char* structure;
  const char* variable;
  const char* indices;      // parameters of the function that makes it
  const char* query_index;  // what stands for at.query_index within it
  const char* key_index;
};
constexpr ClassText kClasses[] = {
    {Hoist::uniform, "Uniform", "uniform", "", "0", "0"},
    {Hoist::query, "Query", "query", ", int query_index", "query_index", "0"},
    {Hoist::key, "Key", "key", ", int key_index", "0", "key_index"},
    // Its values depend on the difference only, so the entry (difference, 0) stands for the whole diagonal.
    {Hoist::diagonal, "Diagonal", "diagonal", ", int difference", "difference", "0"},
    {Hoist::entry, "", "", ", int query_index, int key_index, float s", "query_index", "key_index"},
};

const ClassText& text_of(Hoist hoist) { return kClasses[static_cast<std::size_t>(hoist)]; }

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

class Writer {
 public:
  /// The text as it is recorded.
  Writer(const Variant::Data& data, bool with_slope, bool with_gradients) : Writer(data, data.graph) {
    live_.assign(graph_.size(), true);
    for (const Stage& stage : data_.stages) {
      if ((with_slope || with_gradients) && stage.kind == Stage::Kind::score)
        adjoints_.push_back(adjoint(graph_, stage.root));
    }
    has_slope_ = with_slope;
    has_gradients_ = with_gradients;
    if (with_gradients) {
      if (data_.sink != kNoNode) sink_adjoint_ = adjoint(graph_, data_.sink);
      for (const StageAdjoint& derivative : adjoints_) mark_what_gradients_read(derivative);
      if (sink_adjoint_) mark_what_gradients_read(*sink_adjoint_);
    }
    for (const Stage& stage : data_.stages) crosses_[stage.root] = true;
    mark_crossings();
  }

  /// The rearranged one.
  Writer(const Variant::Data& data, const Rearranged& rearranged) : Writer(data, rearranged.graph) {
    rearranged_ = &rearranged;
    std::vector<NodeId> roots;
    for (const NodeId root : {rearranged.score, rearranged.exponent, rearranged.slope}) {
      if (root != kNoNode) roots.push_back(root);
    }
    for (const Stage& stage : data.stages) {
      if (stage.kind == Stage::Kind::keep) roots.push_back(stage.root);
    }
    for (const NodeId root : roots) crosses_[root] = true;
    if (data.sink != kNoNode) roots.push_back(data.sink);
    live_ = needed_by(roots, [](NodeId) { return true; });
    mark_crossings();
  }

  CudaText write_rearranged(DType dtype) {
    text_ = "namespace variant {\n";
    text_ += kCudaPrelude;
    text_ += kFastOperations;
    text_ += dtype == DType::bfloat16 ? kFastTanhOfBFloat16 : kFastTanh;
    text_ += "}  // namespace fast\n";
    write_operations();
    write_arguments();
    write_classes();
    write_keeps();
    if (rearranged_->score != kNoNode) {
      write_value("score", rearranged_->score);
      write_value("exponent", rearranged_->exponent);
    }
    has_slope_ = rearranged_->slope != kNoNode;
    if (has_slope_) write_value("slope", rearranged_->slope);
    if (data_.sink != kNoNode) write_sink();
    text_ += "}  // namespace variant\n";
    CudaText text{std::move(text_), std::move(layout_), has_slope_, false, fields_, rearranged_->slope_is_finite};
    count_operations(text);
    return text;
  }

  CudaText write() {
    text_ = "namespace variant {\n";
    text_ += kCudaPrelude;
    write_operations();
    write_arguments();
    write_classes();
    write_score("full_score", false);
    write_score("partial_score", true);
    if (has_slope_) write_slope();
    if (data_.sink != kNoNode) write_sink();
    if (has_gradients_) write_gradients();
    text_ += "}  // namespace variant\n";
    return {std::move(text_), std::move(layout_), has_slope_, has_gradients_, fields_};
  }

 private:
  Writer(const Variant::Data& data, const Graph& graph)
      : data_(data), graph_(graph), hoist_(hoisting_classes(graph)), crosses_(graph.size(), false) {}

  void mark_crossings() {
    for (NodeId id = 0; id < graph_.size(); ++id) {
      if (!live_[id]) continue;
      for (NodeId operand : graph_[id].inputs()) {
        if (!is_local(operand, text_of(hoist_[id]))) crosses_[operand] = true;
      }
    }
    if (data_.sink != kNoNode) crosses_[data_.sink] = true;
  }

  /// The definitions of the operations that occur, each once.
  void write_operations() {
    static constexpr auto kText = for_each_operation([]<class O>() { return O::cuda; });
    std::set<std::int32_t> used;
    const auto use = [&](const Graph& graph) {
      for (NodeId id = 0; id < graph.size(); ++id) {
        if (graph[id].kind == Kind::operation && (id >= live_.size() || live_[id])) used.insert(graph[id].index);
      }
    };
    use(graph_);
    for (const StageAdjoint& derivative : adjoints_) use(derivative.graph);
    if (sink_adjoint_) use(sink_adjoint_->graph);
    for (std::int32_t number : used) text_ += kText[static_cast<std::size_t>(number)];
  }

  void write_arguments() {
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
  bool is_local(NodeId id, const ClassText& within) const {
    if (within.hoist == Hoist::entry) return hoist_[id] == Hoist::entry;
    return within.hoist == Hoist::uniform || hoist_[id] != Hoist::uniform;
  }

  /// How a node's value is named inside the function that makes class `within`.
  std::string name(NodeId id, const ClassText& within) const {
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

  std::string expression(const Node& node, const ClassText& within) const {
    if (node.kind == Kind::coordinate) return coordinate_text(static_cast<Coordinate>(node.index), within);
    std::vector<std::string> operands;
    for (NodeId operand : node.inputs()) operands.push_back(name(operand, within));
    const std::string list = fmt::format("{}", fmt::join(operands, ", "));
    if (node.kind == Kind::read) return fmt::format("read(arguments.table{}, {})", node.index, list);
    const auto name = kInfo[static_cast<std::size_t>(node.index)].name;
    return fmt::format("{}{}({})", is_fast(node) ? "fast::" : "", name, list);
  }

  /// Whether an operation has a contracted or approximate form that may stand for it.
  bool is_fast(const Node& node) const {
    static const std::set<std::int32_t> kFast = {number_of<Addition>,
                                                 number_of<Subtraction>,
                                                 number_of<Multiplication>,
                                                 number_of<Negation>,
                                                 number_of<Division>,
                                                 number_of<Exponential>,
                                                 number_of<Exponential2>,
                                                 number_of<Logarithm>,
                                                 number_of<Logarithm2>,
                                                 number_of<SquareRoot>,
                                                 number_of<ReciprocalSquareRoot>,
                                                 number_of<HyperbolicTangent>,
                                                 number_of<Sigmoid>,
                                                 number_of<Sine>,
                                                 number_of<Cosine>};
    if (rearranged_ == nullptr || kFast.count(node.index) == 0) return false;
    return rearranged_->is_free[static_cast<std::size_t>(&node - graph_.nodes().data())];
  }

  /// Statements for the nodes of a class that `wanted` marks.
  void write_values(const ClassText& within, const std::vector<bool>& wanted) {
    for (NodeId id = 0; id < graph_.size(); ++id) {
      const Node& node = graph_[id];
      const bool is_value =
          wanted[id] && is_local(id, within) && !is_named_everywhere(node) && node.kind != Kind::score;
      if (is_value) text_ += fmt::format("  const {} t{} = {};\n", type_name(node.type), id, expression(node, within));
    }
  }

  /// The nodes that the function for class `within` computes for some roots, themselves included.
  std::vector<bool> needed_by(const std::vector<NodeId>& roots, const ClassText& within) const {
    return needed_by(roots, [&](NodeId id) { return is_local(id, within); });
  }
  /// The nodes that roots need, by way of those that `passes`.
  template <class Passes>
  std::vector<bool> needed_by(const std::vector<NodeId>& roots, Passes passes) const {
    std::vector<bool> needed(graph_.size(), false);
    for (NodeId root : roots) needed[root] = true;
    for (auto id = static_cast<NodeId>(graph_.size()); id-- > 0;) {
      if (!needed[id] || !passes(id)) continue;
      for (NodeId operand : graph_[id].inputs()) needed[operand] = true;
    }
    return needed;
  }

  std::string parameters(const ClassText& within) const {
    std::string list = "const Arguments& arguments, const Sequence& sequence";
    for (const ClassText& one : kClasses) {
      // A class may use the uniform values; only an entry uses all of them.
      const bool earlier = one.hoist == Hoist::uniform ? within.hoist != Hoist::uniform : within.hoist == Hoist::entry;
      if (earlier && one.hoist != Hoist::entry) list += fmt::format(", const {}& {}", one.structure, one.variable);
    }
    return list + within.indices;
  }

  void count_operations(CudaText& text) const {
    for (NodeId id = 0; id < graph_.size(); ++id) {
      const Node& node = graph_[id];
      const bool is_work = node.kind == Kind::operation || node.kind == Kind::read;
      if (live_[id] && is_work && hoist_[id] != Hoist::entry) ++text.hoisted_operations;
    }
    if (rearranged_->exponent == kNoNode) return;
    const std::vector<bool> needed = needed_by({rearranged_->exponent}, text_of(Hoist::entry));
    for (NodeId id = 0; id < graph_.size(); ++id) {
      const bool is_function = graph_[id].kind == Kind::operation && graph_[id].index >= number_of<Exponential>;
      if (needed[id] && hoist_[id] == Hoist::entry && is_function) ++text.special_functions;
    }
  }

  /// Whether a function that computes these nodes is written into each of its uses, a few hundred in a kernel's
  /// unrolled loops, or called. A sum of 64 cosines, written out so often, takes a compiler minutes.
  const char* linkage(const std::vector<bool>& wanted, const ClassText& within) const {
    constexpr int kMostInlined = 96;  // operations and reads
    // Rearranged scores' values are made at one place in a kernel.
    const bool is_made_once = rearranged_ != nullptr && rearranged_->score != kNoNode &&
                              fields_[static_cast<std::size_t>(within.hoist)] <= kMostKeptFields;
    if (is_made_once) return "__device__ inline";
    int operations = 0;
    for (NodeId id = 0; id < graph_.size(); ++id) {
      const Kind kind = graph_[id].kind;
      if (wanted[id] && is_local(id, within) && (kind == Kind::operation || kind == Kind::read)) ++operations;
    }
    return operations > kMostInlined ? "__device__ __noinline__" : "__device__ inline";
  }

  void write_classes() {
    for (const ClassText& one : kClasses) {
      if (one.hoist != Hoist::entry) write_class(one);
    }
  }

  void write_class(const ClassText& one) {
    std::vector<NodeId> fields;
    for (NodeId id = 0; id < graph_.size(); ++id) {
      if (hoist_[id] == one.hoist && crosses_[id] && !is_named_everywhere(graph_[id])) fields.push_back(id);
    }
    fields_[static_cast<std::size_t>(one.hoist)] = static_cast<int>(fields.size());
    text_ += fmt::format("/// Hoisted: values of one {}.\nstruct {} {{\n", one.variable, one.structure);
    for (NodeId id : fields) text_ += fmt::format("  {} t{};\n", type_name(graph_[id].type), id);
    const std::vector<bool> wanted = needed_by(fields, one);
    text_ += fmt::format("}};\n{} {} {}_values({}) {{\n", linkage(wanted, one), one.structure, one.variable,
                         parameters(one));
    write_values(one, wanted);
    std::vector<std::string> names;
    for (NodeId id : fields) names.push_back(fmt::format("t{}", id));
    text_ += fmt::format("  return {{{}}};\n}}\n\n", fmt::join(names, ", "));
  }

  /// One function for the score of an entry: the stages in order, each leaving as soon as the entry is removed.
  void write_score(const char* function, bool with_keeps) {
    const ClassText& entry = text_of(Hoist::entry);
    text_ += fmt::format("__device__ inline float {}({}) {{\n  const float removed = __int_as_float(0xff800000);\n",
                         function, parameters(entry));
    for (const Stage& stage : data_.stages) {
      if (stage.kind == Stage::Kind::keep && !with_keeps) continue;
      // A stage's nodes that read the score see this stage's s, so they are not shared with other stages.
      text_ += "  {\n";
      write_values(entry, needed_by({stage.root}, entry));
      const std::string root = name(stage.root, entry);
      if (stage.kind == Stage::Kind::keep) {
        text_ += fmt::format("  if (!{}) return removed;\n  }}\n", root);
      } else {
        text_ += fmt::format(
            "  s = {};\n  }}\n  if (s == removed) return removed;\n  s = s < -0x1p126f ? -0x1p126f : s;\n", root);
      }
    }
    text_ += "  return s;\n}\n\n";
  }

  void write_keeps() {
    const ClassText& entry = text_of(Hoist::entry);
    std::vector<NodeId> roots;
    std::string kept = "true";
    for (const Stage& stage : data_.stages) {
      if (stage.kind != Stage::Kind::keep) continue;
      roots.push_back(stage.root);
      kept += " & " + name(stage.root, entry);
    }
    text_ += fmt::format("__device__ inline bool keeps({}) {{\n", parameters(entry));
    write_values(entry, needed_by(roots, entry));
    text_ += fmt::format("  return {};\n}}\n\n", kept);
  }

  void write_value(const char* function, NodeId root) {
    const ClassText& entry = text_of(Hoist::entry);
    text_ += fmt::format("__device__ inline float {}({}) {{\n", function, parameters(entry));
    write_values(entry, needed_by({root}, entry));
    text_ += fmt::format("  return {};\n}}\n\n", name(root, entry));
  }

  /// The score of an entry and its derivative by the score that came in: the stages in order, each with its own
  /// derivative. A derivative's nodes follow those of the graph; they are all computed for each entry.
  void write_slope() {
    const ClassText& entry = text_of(Hoist::entry);
    text_ += fmt::format(
        "struct Sloped {{\n  float score, slope;\n}};\n__device__ inline Sloped sloped_score({}) {{\n"
        "  const float removed = __int_as_float(0xff800000);\n  float slope = 1;\n",
        parameters(entry));
    auto derivative = adjoints_.begin();
    for (const Stage& stage : data_.stages) {
      text_ += "  {\n";
      if (stage.kind == Stage::Kind::keep) {
        write_values(entry, needed_by({stage.root}, entry));
        text_ += fmt::format("  if (!{}) return {{removed, 0}};\n  }}\n", name(stage.root, entry));
      } else {
        write_derivative(stage.root, *derivative++);
        text_ += fmt::format(
            "  s = {};\n  }}\n  if (s == removed) return {{removed, 0}};\n"
            "  if (s < -0x1p126f) s = -0x1p126f, slope = 0;\n",
            name(stage.root, entry));
      }
    }
    text_ += "  return {s, slope};\n}\n\n";
  }

  /// Hoisted values that gradients read must be there to be read.
  void mark_what_gradients_read(const StageAdjoint& derivative) {
    const auto mark = [&](NodeId id) {
      if (id < graph_.size() && hoist_[id] != Hoist::entry) crosses_[id] = true;
    };
    for (auto id = static_cast<NodeId>(graph_.size()); id < derivative.graph.size(); ++id) {
      for (const NodeId operand : derivative.graph[id].inputs()) mark(operand);
    }
    for (const TableGradient& gradient : derivative.tables) {
      mark(gradient.value);
      for (const NodeId index : derivative.graph[gradient.read].inputs()) mark(index);
    }
    for (const ParameterGradient& gradient : derivative.parameters) mark(gradient.value);
  }

  /// How a derivative's node is named, `seed` standing for the adjoint that comes in.
  std::string name_in(const Graph& graph, NodeId id, const char* seed) const {
    if (id < graph_.size()) return name(id, text_of(Hoist::entry));
    if (graph[id].kind == Kind::seed) return seed;
    return graph[id].is_constant() ? constant_text(graph[id]) : fmt::format("t{}", id);
  }

  /// Statements for the nodes of an entry that `roots` need: the graph's own, then the derivative's.
  void write_nodes(const StageAdjoint& derivative, const std::vector<NodeId>& roots, const char* seed) {
    const ClassText& entry = text_of(Hoist::entry);
    const Graph& graph = derivative.graph;
    std::vector<bool> needed(graph.size(), false);
    for (const NodeId root : roots) needed[root] = true;
    for (auto id = static_cast<NodeId>(graph.size()); id-- > 0;) {
      if (!needed[id] || (id < graph_.size() && !is_local(id, entry))) continue;
      for (NodeId operand : graph[id].inputs()) needed[operand] = true;
    }
    write_values(entry, needed);
    for (auto id = static_cast<NodeId>(graph_.size()); id < graph.size(); ++id) {
      const Node& node = graph[id];
      if (!needed[id] || node.kind != Kind::operation) continue;
      std::vector<std::string> operands;
      for (NodeId operand : node.inputs()) operands.push_back(name_in(graph, operand, seed));
      text_ += fmt::format("  const {} t{} = {}({});\n", type_name(node.type), id,
                           kInfo[static_cast<std::size_t>(node.index)].name, fmt::join(operands, ", "));
    }
  }

  /// Statements for a score stage's root and for its derivative, which multiplies the slope.
  void write_derivative(NodeId root, const StageAdjoint& derivative) {
    std::vector<NodeId> roots{root};
    const bool depends = derivative.d_score != kNoNode;
    if (depends) roots.push_back(derivative.d_score);
    write_nodes(derivative, roots, "1.0f");
    text_ += fmt::format("  slope *= {};\n", depends ? name_in(derivative.graph, derivative.d_score, "1.0f") : "0.0f");
  }

  /// Calls for all that a derivative gives, with the adjoint `d` coming in. A block of its own.
  void write_additions(const StageAdjoint& derivative, const std::string& before, bool changes_d) {
    std::vector<NodeId> roots;
    for (const TableGradient& gradient : derivative.tables) {
      roots.push_back(gradient.value);
      for (const NodeId index : derivative.graph[gradient.read].inputs()) roots.push_back(index);
    }
    for (const ParameterGradient& gradient : derivative.parameters) roots.push_back(gradient.value);
    const bool depends = changes_d && derivative.d_score != kNoNode;
    if (depends) roots.push_back(derivative.d_score);
    text_ += "  {\n" + before;
    write_nodes(derivative, roots, "d");
    for (const TableGradient& gradient : derivative.tables) {
      std::vector<std::string> indices;
      for (const NodeId index : derivative.graph[gradient.read].inputs())
        indices.push_back(name_in(derivative.graph, index, "d"));
      text_ += fmt::format("  gradients.add_table(arguments.table{0}, {0}, {1}, {2});\n", gradient.table,
                           name_in(derivative.graph, gradient.value, "d"), fmt::join(indices, ", "));
    }
    for (const ParameterGradient& gradient : derivative.parameters) {
      text_ += fmt::format("  gradients.add_parameter({}, {});\n", gradient.parameter,
                           name_in(derivative.graph, gradient.value, "d"));
    }
    if (changes_d)
      text_ += fmt::format("  d = {};\n", depends ? name_in(derivative.graph, derivative.d_score, "d") : "0.0f");
    text_ += "  }\n";
  }

  /// An entry's part in all gradients: its score through the stages, then the stages backwards.
  void write_gradients() {
    const ClassText& entry = text_of(Hoist::entry);
    text_ += fmt::format(
        "template <class Gradients>\n__device__ inline void add_gradients({}, float d, Gradients& gradients) {{\n",
        parameters(entry));
    std::size_t number = 0;
    for (const Stage& stage : data_.stages) {
      if (stage.kind != Stage::Kind::score) continue;
      text_ += fmt::format("  const float s{} = s;\n  {{\n", number);
      write_values(entry, needed_by({stage.root}, entry));
      text_ +=
          fmt::format("  s = {};\n  }}\n  const bool floored{} = s < -0x1p126f;\n  if (floored{}) s = -0x1p126f;\n",
                      name(stage.root, entry), number, number);
      ++number;
    }
    while (number-- > 0) {
      const std::string before = fmt::format("  const float s = s{};\n  if (floored{}) d = 0;\n", number, number);
      write_additions(adjoints_[number], before, true);
    }
    text_ += "}\n\n";
    if (data_.sink == kNoNode) return;
    text_ += fmt::format(
        "template <class Gradients>\n__device__ inline void add_sink_gradients({}, const Uniform& uniform, float d, "
        "Gradients& gradients) {{\n",
        parameters(text_of(Hoist::uniform)));
    write_additions(*sink_adjoint_, "", false);
    text_ += "}\n\n";
  }

  void write_sink() {
    const ClassText& uniform = text_of(Hoist::uniform);
    text_ += fmt::format("__device__ inline float sink_logit({}, const Uniform& uniform) {{\n", parameters(uniform));
    text_ += fmt::format("  return {};\n}}\n\n", name(data_.sink, text_of(Hoist::entry)));
  }

  const Variant::Data& data_;
  const Graph& graph_;                        // the variant's, or the rearranged one
  const std::vector<Hoist> hoist_;            // [nodes]
  std::vector<bool> crosses_;                 // [nodes]: some other class, or a stage, reads the value
  std::vector<StageAdjoint> adjoints_;        // [score stages], where the slope is asked for
  std::optional<StageAdjoint> sink_adjoint_;  // where gradients are asked for
  bool has_slope_ = false, has_gradients_ = false;
  const Rearranged* rearranged_ = nullptr;
  std::vector<bool> live_;  // [nodes]: something reads the value
  std::array<int, 5> fields_{};
  std::string text_;
  ArgumentLayout layout_;
};

template <class T>
void put(std::vector<std::byte>& bytes, std::int64_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
}

void put_number(std::vector<std::byte>& bytes, std::int64_t offset, Type type, double value) {
  if (type == Type::real)
    put(bytes, offset, static_cast<float>(value));
  else
    put(bytes, offset, static_cast<std::int32_t>(value));
}

}  // namespace

std::int64_t table_view_size(int rank) { return 8 + 8 * rank + (4 * rank + 7) / 8 * 8; }

CudaText cuda_text(const Variant& variant, bool with_slope, bool with_gradients) {
  return Writer(variant.data(), with_slope, with_gradients).write();
}

CudaText rearranged_cuda_text(const Variant& variant, DType dtype, bool with_slope) {
  const Rearranged made = rearranged(variant.data(), with_slope);
  return Writer(variant.data(), made).write_rearranged(dtype);
}

std::vector<std::byte> pack_arguments(const Graph& graph, const Bound& bound, const ArgumentLayout& layout) {
  std::vector<std::byte> bytes;
  pack_arguments(graph, bound, layout, bytes);
  return bytes;
}

void pack_arguments(const Graph& graph, const Bound& bound, const ArgumentLayout& layout,
                    std::vector<std::byte>& bytes) {
  bytes.assign(static_cast<std::size_t>(layout.size), std::byte{0});
  for (std::size_t i = 0; i < bound.tables.size(); ++i) {
    const BoundTable& table = bound.tables[i];
    std::int64_t offset = layout.tables[i];
    put(bytes, offset, table.data);
    offset += 8;
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(table.rank); ++axis, offset += 8)
      put(bytes, offset, table.strides[axis]);
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(table.rank); ++axis, offset += 4) {
      put(bytes, offset, static_cast<std::int32_t>(table.extents[axis]));
    }
  }
  std::size_t slot = 0;
  for (const Node& node : graph.nodes()) {
    if (node.kind == Kind::literal) put_number(bytes, layout.literals[slot], node.type, bound.literals[slot]), ++slot;
  }
  for (std::size_t i = 0; i < bound.parameters.size(); ++i) {
    put_number(bytes, layout.parameters[i], graph.parameters()[i].type(), bound.parameters[i]);
  }
}

}  // namespace tilewise::variant
