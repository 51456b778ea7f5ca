#include "attention/programs.h"

#include <algorithm>

namespace tilewise::attention {
namespace {

using variant::LaneOptions;
using variant::LaneProgram;
using variant::NodeId;
using variant::TileLayout;

AdjointProgram lower_adjoint(const variant::Graph& graph, NodeId root, const LaneOptions& options) {
  AdjointProgram lowered{variant::adjoint(graph, root), {}};
  const variant::StageAdjoint& adjoint = lowered.adjoint;
  if (adjoint.seed == variant::kNoNode) return lowered;
  std::vector<NodeId> roots{root};
  if (adjoint.d_score != variant::kNoNode) roots.push_back(adjoint.d_score);
  for (const variant::TableGradient& gradient : adjoint.tables) {
    roots.push_back(gradient.value);
    for (const NodeId index : adjoint.graph[gradient.read].inputs()) roots.push_back(index);
  }
  for (const variant::ParameterGradient& gradient : adjoint.parameters) roots.push_back(gradient.value);
  lowered.program.emplace(adjoint.graph, roots, options);
  return lowered;
}

LaneOptions options_of(const cpu::Kernels& kernels, TileLayout layout, std::int64_t queries, std::int64_t keys) {
  const Isa isa = std::min(isa_from_string(kernels.name), Isa::avx512);
  return {.layout = layout, .most_queries = queries, .most_keys = keys, .isa = isa};
}

LaneOptions of_tiles(const cpu::Kernels& kernels) {
  return options_of(kernels, TileLayout::queries_inner, kernels.strip_queries, kernels.tile_keys);
}

}  // namespace

Programs::Programs(const Variant& variant, const cpu::Kernels& kernels, bool backward)
    : tiles(variant::lower_variant(variant, of_tiles(kernels))),
      rows(variant::lower_variant(variant, options_of(kernels, TileLayout::keys_inner, 1, kernels.decode_keys))) {
  const LaneOptions of_heads = options_of(kernels, TileLayout::keys_inner, 1, 1);
  const Variant::Data& data = variant.data();
  if (variant.has_sink()) sink.emplace(data.graph, std::span(&data.sink, 1), of_heads);
  if (!backward) return;

  for (const variant::Stage& stage : data.stages) {
    if (stage.kind != variant::Stage::Kind::score) continue;
    adjoints.push_back(lower_adjoint(data.graph, stage.root, of_tiles(kernels)));
    stages.emplace_back(data.graph, std::span(&stage.root, 1), of_tiles(kernels));
  }
  if (!stages.empty()) stages.pop_back();
  if (variant.has_sink()) sink_adjoint = lower_adjoint(data.graph, data.sink, of_heads);
  for (const AdjointProgram& adjoint : adjoints) {
    if (adjoint.program) most_outputs = std::max(most_outputs, adjoint.program->outputs());
  }
  if (sink_adjoint && sink_adjoint->program) most_outputs = std::max(most_outputs, sink_adjoint->program->outputs());
}

}  // namespace tilewise::attention
