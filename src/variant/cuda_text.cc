#include "variant/cuda_text.h"

#include <fmt/format.h>

#include <optional>

#include "variant/adjoint.h"
#include "variant/cuda_prelude.h"
#include "variant/cuda_writer.h"
#include "variant/operations/operations.h"

namespace tilewise::variant {
namespace {

/// The text as it is recorded.
class RecordedWriter : public CudaWriter {
 public:
  RecordedWriter(const Variant::Data& data, bool with_slope, bool with_gradients) : CudaWriter(data, data.graph) {
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

  CudaText write() {
    text_ = "namespace variant {\n";
    text_ += kCudaPrelude;
    std::vector<const Graph*> graphs{&graph_};
    for (const StageAdjoint& derivative : adjoints_) graphs.push_back(&derivative.graph);
    if (sink_adjoint_) graphs.push_back(&sink_adjoint_->graph);
    write_operations(graphs);
    write_arguments();
    write_classes();
    write_score("full_score", false);
    write_score("partial_score", true);
    if (has_slope_) write_slope();
    if (data_.sink != kNoNode) write_sink();
    if (has_gradients_) write_gradients();
    text_ += "}  // namespace variant\n";
    CudaText text{std::move(text_), std::move(layout_), false, has_slope_, has_gradients_, fields_};
    text.slots = slots_;
    return text;
  }

 private:
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
    const auto slot = [&] { return changes_d ? fmt::format("Slot<{}>", next_slot_++) : std::string("Direct"); };
    for (const TableGradient& gradient : derivative.tables) {
      text_ +=
          fmt::format("  gradients.add_table({0}{{}}, arguments.table{1}, {1}, {2}, {3});\n", slot(), gradient.table,
                      name_in(derivative.graph, gradient.value, "d"), indices_of(derivative, gradient));
    }
    for (const ParameterGradient& gradient : derivative.parameters) {
      text_ += fmt::format("  gradients.add_parameter({}{{}}, {}, {});\n", slot(), gradient.parameter,
                           name_in(derivative.graph, gradient.value, "d"));
    }
    if (changes_d)
      text_ += fmt::format("  d = {};\n", depends ? name_in(derivative.graph, derivative.d_score, "d") : "0.0f");
    text_ += "  }\n";
  }

  std::string indices_of(const StageAdjoint& derivative, const TableGradient& gradient) const {
    std::vector<std::string> indices;
    for (const NodeId index : derivative.graph[gradient.read].inputs())
      indices.push_back(name_in(derivative.graph, index, "d"));
    return fmt::format("{}", fmt::join(indices, ", "));
  }

  /// What belongs to one element of a read: all entries of this class.
  Hoist class_of(const StageAdjoint& derivative, const TableGradient& gradient) const {
    Hoist all = Hoist::uniform;
    for (const NodeId index : derivative.graph[gradient.read].inputs())
      all = joined(all, index < graph_.size() ? hoist_[index] : Hoist::entry);
    return all;
  }

  /// The slots, in the order in which add_gradients() comes to them.
  void write_slots() {
    text_ += kCudaElementOf;
    int slots = 0;
    const auto write_slot = [&](int table, int parameter, Hoist hoist) {
      text_ += fmt::format(
          "template <>\nstruct Slot<{}> {{\n  static constexpr int kTable = {}, kParameter = {}, kClass = {};\n}};\n",
          slots++, table, parameter, static_cast<int>(hoist));
      ++slots_[static_cast<std::size_t>(hoist)];
    };
    for (auto derivative = adjoints_.rbegin(); derivative != adjoints_.rend(); ++derivative) {
      for (const TableGradient& gradient : derivative->tables) {
        const Hoist hoist = class_of(*derivative, gradient);
        write_slot(gradient.table, -1, hoist);
        if (hoist != Hoist::entry) write_element(*derivative, gradient, slots - 1);
      }
      for (const ParameterGradient& gradient : derivative->parameters)
        write_slot(-1, gradient.parameter, Hoist::uniform);
    }
    std::vector<std::string> bases;
    for (int slot = 0; slot < slots; ++slot) bases.push_back(fmt::format("Of<Slot<{}>>", slot));
    text_ +=
        fmt::format("constexpr int kSlots = {};\ntemplate <template <class> class Of>\nstruct OfSlots{} {} {{}};\n\n",
                    slots, slots > 0 ? " :" : "", fmt::join(bases, ", "));
  }

  void write_element(const StageAdjoint& derivative, const TableGradient& gradient, int slot) {
    const ClassText& entry = text_of(Hoist::entry);
    text_ += fmt::format("__device__ inline long long gradient_element(Slot<{}>, {}) {{\n", slot, parameters(entry));
    const auto inputs = derivative.graph[gradient.read].inputs();
    write_values(entry, needed_by({inputs.begin(), inputs.end()}, entry));
    text_ += fmt::format("  return element_of(arguments.table{}, {});\n}}\n", gradient.table,
                         indices_of(derivative, gradient));
  }

  /// An entry's part in all gradients: its score through the stages, then the stages backwards.
  void write_gradients() {
    const ClassText& entry = text_of(Hoist::entry);
    write_slots();
    text_ += fmt::format(
        "template <bool kMayClamp, class Gradients>\n"
        "__device__ inline void add_gradients({}, float d, Gradients& gradients) {{\n",
        parameters(entry));
    std::size_t number = 0;
    for (const Stage& stage : data_.stages) {
      if (stage.kind != Stage::Kind::score) continue;
      text_ += fmt::format("  const float s{} = s;\n  {{\n", number);
      write_values(entry, needed_by({stage.root}, entry));
      text_ += fmt::format(
          "  s = {};\n  }}\n  const bool floored{} = kMayClamp && s < -0x1p126f;\n  if (floored{}) s = -0x1p126f;\n",
          name(stage.root, entry), number, number);
      ++number;
    }
    while (number-- > 0) {
      const std::string before =
          fmt::format("  [[maybe_unused]] const float s = s{};\n  if (floored{}) d = 0;\n", number, number);
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

  std::vector<StageAdjoint> adjoints_;        // [score stages], where the slope is asked for
  std::optional<StageAdjoint> sink_adjoint_;  // where gradients are asked for
  bool has_slope_ = false, has_gradients_ = false;
  int next_slot_ = 0;
  std::array<int, 5> slots_{};  // as CudaText has them
};

}  // namespace

CudaText cuda_text(const Variant& variant, bool with_slope, bool with_gradients) {
  return RecordedWriter(variant.data(), with_slope, with_gradients).write();
}

}  // namespace tilewise::variant
