#include "attention/programs.h"

#include <algorithm>
#include <vector>

namespace tilewise::attention {
namespace {

using variant::LaneOptions;
using variant::LaneProgram;
using variant::NodeId;
using variant::TileLayout;

SinkAdjoint lower_sink_adjoint(const variant::Graph& graph, NodeId root, const LaneOptions& options) {
  SinkAdjoint lowered{variant::adjoint(graph, root), {}};
  const variant::StageAdjoint& adjoint = lowered.adjoint;
  if (adjoint.seed == variant::kNoNode) return lowered;
  std::vector<NodeId> roots;
  for (const variant::TableGradient& gradient : adjoint.tables) {
    roots.push_back(gradient.value);
    for (const NodeId index : adjoint.graph[gradient.read].inputs()) roots.push_back(index);
  }
  for (const variant::ParameterGradient& gradient : adjoint.parameters) roots.push_back(gradient.value);
  if (!roots.empty()) lowered.program.emplace(adjoint.graph, roots, options);
  return lowered;
}

LaneOptions options_of(const cpu::Kernels& kernels, TileLayout layout, std::int64_t queries, std::int64_t keys) {
  const Isa isa = std::min(isa_from_string(kernels.name), Isa::avx512);
  return {.layout = layout, .most_queries = queries, .most_keys = keys, .isa = isa};
}

/// Diagonals that a program keeps, at most: 64 KiB a value.
constexpr std::int64_t kMostDiagonals = 16384;

LaneOptions of_tiles(const cpu::Kernels& kernels, std::int64_t most_entries) {
  LaneOptions options = options_of(kernels, TileLayout::queries_inner, kernels.strip_queries, kernels.tile_keys);
  // Twice as many as there are, as the first tile's lie in their middle.
  options.kept_diagonals = std::min(kMostDiagonals, 2 * (most_entries + kernels.strip_queries + kernels.tile_keys));
  options.query_window = kernels.tile_queries;  // of a task, for all of its tiles
  options.key_window = std::int64_t{2} * kernels.tile_keys;
  return options;
}

}  // namespace

Programs::Programs(const Variant& variant, const cpu::Kernels& kernels, bool with_backward, std::int64_t most_entries)
    : tiles(variant::lower_variant(variant, of_tiles(kernels, most_entries))),
      rows(variant::lower_variant(variant, options_of(kernels, TileLayout::keys_inner, 1, kernels.decode_keys))) {
  const LaneOptions of_heads = options_of(kernels, TileLayout::keys_inner, 1, 1);
  const Variant::Data& data = variant.data();
  if (variant.has_sink()) sink.emplace(data.graph, std::span(&data.sink, 1), of_heads);
  if (!with_backward) return;

  if (variant.has_sink()) sink_adjoint = lower_sink_adjoint(data.graph, data.sink, of_heads);
  if (sink_adjoint && sink_adjoint->program) most_outputs = sink_adjoint->program->outputs();
  if (!tiles.changes_full_tiles) return;
  backward.emplace(variant::lower_backward(variant, of_tiles(kernels, most_entries), false));
  backward_with_gradients.emplace(variant::lower_backward(variant, of_tiles(kernels, most_entries), true));
  for (const variant::BackwardLanes* lanes : {&*backward, &*backward_with_gradients}) {
    if (lanes->adjoint) most_outputs = std::max(most_outputs, lanes->adjoint->outputs());
    most_taken_over = std::max(most_taken_over, lanes->full.outputs() - 1);
  }
}

}  // namespace tilewise::attention
