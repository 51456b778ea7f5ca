// The table of kernels of an AMX engine: every pass that multiplies tiles holds the tile registers while it runs.
#pragma once

#include "cpu/isa/amx_engine.h"
#include "cpu/isa/kernels_of.h"
#include "cpu/isa/lanes_avx512_bf16.h"

namespace tilewise::cpu {
namespace {

struct AmxConfig {
  using Lanes = Avx512Bf16Lanes;
  using Packing = AmxPacking;
  static constexpr DType kOperand = DType::bfloat16;
  static constexpr int kVectors = 2;  // two tiles of queries, against two of keys: four sums, four operands, no more
  static constexpr int kBlock = 4;    // of prefetches
  static constexpr int kTileKeys = 256;
  static constexpr int kTileQueries = 384;
  // Backward.
  static constexpr int kRows = 32;
  static constexpr int kPanelVectors = 2;
  static constexpr int kBackwardKeys = 128;
  static constexpr int kBackwardQueries = 192;
};

template <class Engine, class Task, void (*kRun)(const Task&)>
void with_registers(const Task& task) {
  const typename Engine::Registers registers;
  kRun(task);
}

template <class Engine>
constexpr Kernels amx_kernels_of(const char* name) {
  Kernels kernels = kernels_of<Engine>(name);
  kernels.forward = with_registers<Engine, ForwardTask, ForwardKernel<Engine>::run>;
  kernels.backward = with_registers<Engine, BackwardTask, BackwardKernel<Engine>::run>;
  return kernels;
}

}  // namespace
}  // namespace tilewise::cpu
