// The table of kernels of an engine.
#pragma once

#include "cpu/forward.h"
#include "cpu/kernels.h"

namespace tilewise::cpu {

template <class Engine>
constexpr Kernels kernels_of(const char* name) {
  using Forward = ForwardKernel<Engine>;
  return {.name = name,
          .tile_queries = Forward::kTileQueries,
          .strip_queries = Engine::kStrip,
          .forward_floats = Forward::workspace_floats,
          .forward = Forward::run};
}

}  // namespace tilewise::cpu
