// A variant and its derivative as lane programs: what a backward kernel runs on a tile of scores.
//
// One lowering holds both, so that what the scores and their derivative share is computed once: the first program
// leaves it (softcap: 1 - tanh^2), the second one, which runs when d(loss)/d(score) is known, takes it over.
#pragma once

#include <optional>
#include <vector>

#include "variant/lanes/program.h"

namespace tilewise::variant {

/// An index of a read that has a gradient: one of the adjoint program's strips, or, at entries, one of its outputs.
struct GradientIndex {
  Hoist hoist = Hoist::uniform;
  std::size_t place = 0;
  Affine form;  // at entries
};

/// What entries give a table or parameter: the sum of `value` over all entries with the same indices.
struct EntryGradient {
  bool is_table = false;             // else a parameter
  std::int32_t slot = 0;             // into Graph::tables or Graph::parameters
  Hoist hoist = Hoist::uniform;      // what the indices depend on: values are first summed over all else
  std::optional<std::size_t> value;  // an output of the adjoint program; none: the seed
  std::vector<GradientIndex> indices;
  bool is_one_to_one = false;              // no two entries of a sequence and head have the same indices, all inside
  bool by_head = false, by_batch = false;  // nor those of two heads, or of two sequences
};

struct BackwardLanes {
  LaneProgram full, partial;           // outputs: as those of VariantLanes; then what `adjoint` takes as inputs
  std::optional<LaneProgram> adjoint;  // of scores and seeds; none where there is nothing to compute
  enum class DScore : std::uint8_t { zero, seed, output } d_score = DScore::zero;  // output: the first one
  std::vector<EntryGradient> gradients;
};

/// The seed is the gradient of the whole variant's score: 0 where the weight is 0 and where the last stage's result was
/// clamped. `with_gradients`: those of tables and parameters, too. Throws Error as LaneProgram does.
BackwardLanes lower_backward(const Variant& variant, const LaneOptions& options, bool with_gradients);

}  // namespace tilewise::variant
