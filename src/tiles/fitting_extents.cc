// The shapes that a variant's tables need for a problem.
#include <algorithm>
#include <limits>

#include "tiles/reads.h"
#include "tilewise/tiles.h"
#include "variant/interval_reading.h"

namespace tilewise {

using namespace variant;  // NOLINT(google-build-using-namespace): this layer is over that one

namespace {

/// An index of a read of a table, and the bounds of its value.
struct Index {
  std::size_t table, axis;
  Register number;
  bool of_sink;  // read for every head, even where there is no entry
};

/// What the sink is made of.
std::vector<bool> nodes_of_sink(const Graph& graph, NodeId sink) {
  std::vector<bool> needed(graph.size(), false);
  if (sink == kNoNode) return needed;
  needed[sink] = true;
  for (NodeId id = sink + 1; id-- > 0;) {  // operands come before what uses them
    if (!needed[id]) continue;
    for (const NodeId operand : graph[id].inputs()) needed[operand] = true;
  }
  return needed;
}

/// Every index of every unclamped read.
std::vector<Index> add_indices(const Variant::Data& variant, IntervalProgramBuilder& builder) {
  const std::vector<bool> of_sink = nodes_of_sink(variant.graph, variant.sink);
  std::vector<Index> indices;
  for (NodeId id = 0; id < variant.graph.size(); ++id) {
    const Node& node = variant.graph[id];
    if (node.kind != Kind::read || node.clamped) continue;
    for (std::size_t axis = 0; axis < node.operand_count; ++axis) {
      indices.push_back({static_cast<std::size_t>(node.index), axis, builder.add(node.operands[axis]), of_sink[id]});
    }
  }
  return indices;
}

}  // namespace

std::vector<std::vector<std::int64_t>> fitting_extents(const Variant& variant, const Problem& problem) {
  problem.validate();
  const Graph& graph = variant.data().graph;
  std::vector<std::vector<std::int64_t>> extents, unlimited;
  for (const Table& table : graph.tables()) {
    const auto rank = static_cast<std::size_t>(table.rank());
    extents.emplace_back(rank, 1);
    unlimited.emplace_back(rank, std::numeric_limits<std::int32_t>::max());
    if (const auto frozen = table.frozen_data())
      extents.back().assign(frozen->extents.begin(), frozen->extents.begin() + table.rank());
  }
  const SlotBounds slots = tiles::declared_bounds(graph, unlimited);
  IntervalProgramBuilder builder(graph, slots);
  const std::vector<Index> indices = add_indices(variant.data(), builder);
  const IntervalProgram program = builder.finish();
  IntervalReading reading(program);
  for (std::int64_t sequence = 0; sequence < problem.b(); ++sequence) {
    const Box all = entries_of(problem.sequences[static_cast<std::size_t>(sequence)]);
    for (std::int64_t head = 0; head < problem.h_q; ++head) {
      reading.enter(problem, sequence, head);
      if (!all.is_empty()) reading.evaluate(std::span(&all, 1));
      for (const Index& index : indices) {
        if (graph.tables()[index.table].frozen_data() || (all.is_empty() && !index.of_sink)) continue;
        std::int64_t& extent = extents[index.table][index.axis];
        extent = std::max(extent, static_cast<std::int64_t>(reading.value(index.number).high) + 1);
      }
    }
  }
  return extents;
}

}  // namespace tilewise
