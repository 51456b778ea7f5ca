#include "tests/laws/reading.h"

#include "variant/build.h"
#include "variant/recording.h"

namespace tilewise::laws {

using namespace variant;  // NOLINT(google-build-using-namespace): graphs are made of its words

Variant rebuilt(const Variant& variant, const Replacement& with) {
  const Variant::Data& data = variant.data();
  const Graph& source = data.graph;
  Graph graph;
  std::vector<NodeId> renamed;
  for (NodeId id = 0; id < source.size(); ++id) {
    const Node node = with.node(id, source[id]);
    const auto index = static_cast<std::size_t>(node.index);
    std::vector<NodeId> operands;
    for (NodeId operand : node.inputs()) operands.push_back(renamed[operand]);
    switch (node.kind) {
      case Kind::literal: renamed.push_back(graph.add_literal(node.type, with.literal(node))); break;
      case Kind::parameter: renamed.push_back(graph.add_parameter(with.parameter(source.parameters()[index]))); break;
      case Kind::read:
        renamed.push_back(make_read(graph, with.table(source.tables()[index]), operands, node.clamped));
        break;
      case Kind::operation: renamed.push_back(make_operation(graph, node.index, operands)); break;
      default: renamed.push_back(graph.add(node));
    }
  }
  std::vector<Stage> stages;
  for (const Stage& stage : data.stages) stages.push_back({stage.kind, renamed[stage.root]});
  const NodeId sink = data.sink == kNoNode ? kNoNode : renamed[data.sink];
  return make_variant(graph, stages, sink, data.has_dropout ? std::optional(data.dropout_probability) : std::nullopt);
}

}  // namespace tilewise::laws
