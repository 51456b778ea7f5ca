// How many queries a strip of the processor's kernels has, chosen by what a plan's mask keeps.
#pragma once

#include "cpu/kernels.h"
#include "tiles/mask.h"
#include "tilewise/attention.h"

namespace tilewise::attention {

/// What a sample of a mask's tiles costs in strips of some width: visited entries, and what partial tiles take besides,
/// counted in entries.
struct StripCost {
  int queries = 0;  // of a strip
  std::int64_t visited = 0;
  double partial = 0;

  double total() const { return static_cast<double>(visited) + partial; }
};

/// Kernels for a plan, and why these.
struct StripChoice {
  const cpu::Kernels* kernels = nullptr;
  StripCost wide, narrow;        // zero where there was nothing to choose
  bool visits_few_keys = false;  // by the sample, a query of the mask visits so few that packing it in two forms shows
};

/// `wide` itself or its narrow form, whichever computes a sample of the mask sooner. It follows from the plan alone:
/// the mask that is known with it, the lengths and the heads.
StripChoice choose_strips(const cpu::Kernels& wide, const tiles::Mask& mask, const PlanShape& shape);

}  // namespace tilewise::attention
