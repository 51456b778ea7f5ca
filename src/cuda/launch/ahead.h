// The programs that plans will ask for, without a GPU: what fills a cache to be shipped.
#pragma once

#include <vector>

#include "cuda/plan/forward_plan.h"
#include "jit/program.h"
#include "tiles/mask.h"
#include "tilewise/variant.h"

namespace tilewise::cuda {

/// What a plan is made for, as far as its kernels differ by it.
struct AheadShape {
  ForwardShape kernel;          // `has_lists` where `mask` removes entries
  std::int64_t rows = 1 << 20;  // queries of a sequence times the heads of a key head
  bool decodes = false;         // few queries, without a backward pass
  bool has_backward = false;
  bool differentiates_variant = false;  // gradients of tables or parameters may be asked for
};

/// All programs of a plan on GPUs of that architecture, of every family that takes the shape, and those that every plan
/// needs. Throws Error(unsupported) where no kernel takes the shape.
std::vector<jit::Program> programs_ahead(const Variant& variant, const tiles::Mask& mask, const AheadShape& shape,
                                         const jit::Architecture& architecture);

}  // namespace tilewise::cuda
