// The table of kernels of an engine.
#pragma once

#include <numeric>

#include "cpu/backward.h"
#include "cpu/decode.h"
#include "cpu/forward.h"
#include "cpu/kernels.h"
#include "cpu/prepared.h"

namespace tilewise::cpu {

template <class Engine>
constexpr Kernels kernels_of(const char* name, const Kernels* narrow = nullptr, double narrow_cost = 1.05) {
  using Forward = ForwardKernel<Engine>;
  using Decode = DecodeKernel<typename Engine::Lanes, typename Engine::Packing>;
  using Backward = BackwardKernel<Engine>;
  return {.name = name,
          .operand = Engine::kOperand,
          .tile_queries = Forward::kTileQueries,
          .strip_queries = Engine::kStrip,
          .tile_keys = Engine::kTileKeys,
          .decode_keys = Decode::kTileKeys,
          .forward_floats = Forward::workspace_floats,
          .forward = Forward::run,
          .backward_keys = Engine::kBackwardKeys,
          .backward_queries = Engine::kBackwardQueries,
          // Of tiles that are no whole blocks, what the smaller blocks make whole.
          .backward_step = std::lcm(Engine::kBackwardKeys % Engine::kRows == 0 ? Engine::kRows : Engine::kLeastRows,
                                    Engine::kBackwardKeys % Engine::kBlock == 0 ? Engine::kBlock : Engine::kFew),
          .prepared_floats = Prepared<Engine>::floats,
          .unread_floats = Prepared<Engine>::unread_floats,
          .d_q_floats = Prepared<Engine>::d_q_floats,
          .d_q_flags = Prepared<Engine>::d_q_flags,
          .backward_floats = Backward::workspace_floats,
          .prepare = Prepared<Engine>::prepare,
          .backward = Backward::run,
          .finish = Prepared<Engine>::finish,
          .decode_floats = Decode::workspace_floats,
          .decode = Decode::run,
          .narrow = narrow,
          .narrow_cost = narrow_cost};
}

/// The same kernels with another decoding.
template <class Decode>
Kernels with_decoding(Kernels kernels, const char* name, void (*run)(const DecodeTask*, int) = Decode::run) {
  kernels.name = name;
  kernels.decode_keys = Decode::kTileKeys;
  kernels.decode_floats = Decode::workspace_floats;
  kernels.decode = run;
  return kernels;
}

}  // namespace tilewise::cpu
