// A variant lowered for the processor's kernels: every lane program that a plan runs.
#pragma once

#include <cstdint>
#include <optional>

#include "cpu/kernels.h"
#include "tilewise/variant.h"
#include "variant/adjoint.h"
#include "variant/lanes/backward_lanes.h"
#include "variant/lanes/variant_lanes.h"

namespace tilewise::attention {

/// The derivative of the sink.
struct SinkAdjoint {
  variant::StageAdjoint adjoint;

  /// Roots in this order: for each table gradient its value and its indices; then each parameter gradient's value.
  /// Empty where nothing has a gradient.
  std::optional<variant::LaneProgram> program;
};

struct Programs {
  /// `most_entries`: the most queries plus keys of a sequence.
  Programs(const Variant& variant, const cpu::Kernels& kernels, bool with_backward, std::int64_t most_entries);

  variant::VariantLanes tiles;  // scores[key][query], as forward and backward kernels hold them
  variant::VariantLanes rows;   // scores[query][key] of one query, as decoding does
  std::optional<variant::LaneProgram> sink;

  // Backward, of variants that change kept scores: with and without gradients of tables and parameters.
  std::optional<variant::BackwardLanes> backward, backward_with_gradients;
  std::optional<SinkAdjoint> sink_adjoint;            // where the variant has a sink
  std::size_t most_outputs = 0, most_taken_over = 0;  // of any adjoint program, and what it is left

  bool has_adjoint() const { return backward.has_value(); }
};

}  // namespace tilewise::attention
