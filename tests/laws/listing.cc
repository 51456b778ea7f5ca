// Graphs as lists of nodes, for the reports of failing laws.
#include <fmt/format.h>

#include "tests/laws/random_variant.h"
#include "variant/operations/operations.h"

namespace tilewise::laws {
namespace {

using namespace variant;  // NOLINT(google-build-using-namespace): a listing names its words

std::string described(const Graph& graph, const Node& node) {
  const auto index = static_cast<std::size_t>(node.index);
  switch (node.kind) {
    case Kind::constant: return fmt::format("constant {}", node.value);
    case Kind::literal: return fmt::format("literal [{}] = {}", node.index, node.value);
    case Kind::parameter: return fmt::format("parameter {}", graph.parameters()[index].name());
    case Kind::coordinate: return to_string(static_cast<Coordinate>(node.index));
    case Kind::score: return "score";
    case Kind::seed: return "seed";
    case Kind::scale: return "scale";
    case Kind::read: {
      const Table& table = graph.tables()[index];
      return fmt::format("{}{} {}", table.name(), node.clamped ? ".clamped" : "", tilewise::to_string(table.dtype()));
    }
    case Kind::operation: return std::string(kInfo[index].name);
  }
  return "?";
}

}  // namespace

std::string listing(const Graph& graph, NodeId root) {
  std::vector<bool> needed(graph.size(), false);
  if (root != kNoNode) needed[root] = true;
  std::string lines;
  for (NodeId id = static_cast<NodeId>(graph.size()); id-- > 0;) {
    if (!needed[id]) continue;
    std::string line = fmt::format("  %{:<3} {:4} {}", id, to_string(graph[id].type), described(graph, graph[id]));
    for (NodeId operand : graph[id].inputs()) {
      needed[operand] = true;
      line += fmt::format(" %{}", operand);
    }
    lines = line + "\n" + lines;
  }
  return lines;
}

std::string listing(const Variant& variant) {
  const Variant::Data& data = variant.data();
  std::string lines;
  for (const Stage& stage : data.stages) {
    lines += stage.kind == Stage::Kind::keep ? "keep\n" : "score\n";
    lines += listing(data.graph, stage.root);
  }
  if (data.sink != kNoNode) lines += "sink\n" + listing(data.graph, data.sink);
  if (data.has_dropout) lines += fmt::format("dropout {}\n", data.dropout_probability);
  return lines;
}

}  // namespace tilewise::laws
