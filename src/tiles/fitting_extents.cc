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
};

/// Every index of every unclamped read.
std::vector<Index> add_indices(const Graph& graph, IntervalProgramBuilder& builder) {
  std::vector<Index> indices;
  for (const Node& node : graph.nodes()) {
    if (node.kind != Kind::read || node.clamped) continue;
    for (std::size_t axis = 0; axis < node.operand_count; ++axis) {
      indices.push_back({static_cast<std::size_t>(node.index), axis, builder.add(node.operands[axis])});
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
  const std::vector<Index> indices = add_indices(graph, builder);
  const IntervalProgram program = builder.finish();
  IntervalReading reading(program);
  for (std::int64_t sequence = 0; sequence < problem.b(); ++sequence) {
    const Box all = entries_of(problem.sequences[static_cast<std::size_t>(sequence)]);
    if (all.is_empty()) continue;
    for (std::int64_t head = 0; head < problem.h_q; ++head) {
      reading.enter(problem, sequence, head);
      reading.evaluate(std::span(&all, 1));
      for (const Index& index : indices) {
        if (graph.tables()[index.table].frozen_data()) continue;
        std::int64_t& extent = extents[index.table][index.axis];
        extent = std::max(extent, static_cast<std::int64_t>(reading.value(index.number).high) + 1);
      }
    }
  }
  return extents;
}

}  // namespace tilewise
