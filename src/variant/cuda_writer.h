// What the texts of a variant have in common: names, hoisted values, arguments.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "variant/cuda_text.h"
#include "variant/graph.h"
#include "variant/hoist.h"

namespace tilewise::variant {

/// What a hoisted class is called in the text: its struct, the variable that holds one, and the index arguments that
/// its function takes.
struct ClassText {
  Hoist hoist;
  const char* structure;
  const char* variable;
  const char* indices;      // parameters of the function that makes it
  const char* query_index;  // what stands for at.query_index within it
  const char* key_index;
};
const ClassText& text_of(Hoist hoist);

const char* type_name(Type type);
std::string constant_text(const Node& node);

/// Writes a graph as CUDA C++, statement by statement. Which nodes there are and what is made of them is a derived
/// class's: of the recorded graph (cuda_text.cc) or of the rearranged one (rearranged_cuda_text.cc).
class CudaWriter {
 public:
  virtual ~CudaWriter() = default;

 protected:
  CudaWriter(const Variant::Data& data, const Graph& graph);

  /// Whether an operation has a contracted or approximate form that may stand for it.
  virtual bool is_fast(NodeId) const { return false; }
  /// Whether a class's values are made at one place in a kernel.
  virtual bool is_made_once(const ClassText&) const { return false; }

  void mark_crossings();

  /// The definitions of the operations that occur in some graphs, each once.
  void write_operations(const std::vector<const Graph*>& graphs);
  void write_arguments();
  void write_classes();
  void write_sink();
  /// Statements for the nodes of a class that `wanted` marks.
  void write_values(const ClassText& within, const std::vector<bool>& wanted);

  bool is_local(NodeId id, const ClassText& within) const;
  /// Whether the function for a class has a statement for the node.
  bool is_a_value(NodeId id, const ClassText& within) const;
  std::string name(NodeId id, const ClassText& within) const;
  std::string parameters(const ClassText& within) const;

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

  const Variant::Data& data_;
  const Graph& graph_;              // the variant's, or the rearranged one
  const std::vector<Hoist> hoist_;  // [nodes]
  std::vector<bool> crosses_;       // [nodes]: some other class, or a stage, reads the value
  std::vector<bool> live_;          // [nodes]: something reads the value
  std::array<int, 5> fields_{};
  std::string text_;
  ArgumentLayout layout_;

 private:
  std::string expression(NodeId id, const ClassText& within) const;
  const char* linkage(const std::vector<bool>& wanted, const ClassText& within) const;
  void write_class(const ClassText& one);
};

}  // namespace tilewise::variant
