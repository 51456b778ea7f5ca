// A variant lowered for the processor's kernels: every lane program that a plan runs.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/kernels.h"
#include "tilewise/variant.h"
#include "variant/adjoint.h"
#include "variant/lanes/variant_lanes.h"

namespace tilewise::attention {

/// The derivative of a score stage, or of the sink, on a tile.
struct AdjointProgram {
  variant::StageAdjoint adjoint;

  /// Roots in this order: the stage's own result; d_score where there is one; then for each table gradient its value
  /// and its indices; then each parameter gradient's value. Empty where nothing has a gradient.
  std::optional<variant::LaneProgram> program;
};

struct Programs {
  Programs(const Variant& variant, const cpu::Kernels& kernels, bool backward);

  variant::VariantLanes tiles;  // scores[key][query], as forward and backward kernels hold them
  variant::VariantLanes rows;   // scores[query][key] of one query, as decoding does
  std::optional<variant::LaneProgram> sink;

  // Backward.
  std::vector<variant::LaneProgram> stages;    // results of all score stages but the last
  std::vector<AdjointProgram> adjoints;        // of the score stages
  std::optional<AdjointProgram> sink_adjoint;  // where the variant has a sink
  std::size_t most_outputs = 0;                // of any adjoint program

  bool has_adjoint() const { return !adjoints.empty(); }
};

}  // namespace tilewise::attention
