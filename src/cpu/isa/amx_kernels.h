// The table of kernels of an AMX engine: every pass that multiplies tiles holds the tile registers while it runs.
#pragma once

#include "cpu/isa/amx_engine.h"
#include "cpu/isa/kernels_of.h"
#include "cpu/isa/lanes_amx.h"
#include "cpu/isa/lanes_amx_codes.h"

namespace tilewise::cpu {
namespace {

struct AmxConfig {
  using Lanes = AmxLanes;
  using Packing = AmxPacking;
  static constexpr DType kOperand = DType::bfloat16;
  static constexpr int kVectors = 2;  // two tiles of queries, against two of keys: four sums, four operands, no more
  static constexpr int kBlock = 4;    // of prefetches
  // On 16 Sapphire Rapids cores, d 128: 128 keys a tile cost 8% against 256, 384 queries a task 7% against 768 (v is
  // transposed once a tile and task), and backward tiles of 128 keys 9%. Their operands lie in L2.
  // Backward tiles of 256 queries are 1 to 3% ahead of 192 and 384 on one core.
  static constexpr int kTileKeys = 256;
  static constexpr int kTileQueries = 768;
  // Backward.
  static constexpr int kRows = 64;
  static constexpr int kLeastRows = 32;
  static constexpr int kPanelVectors = 2;
  static constexpr int kBackwardKeys = 256;
  static constexpr int kBackwardQueries = 256;
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

template <class Tiles, class Decode>
void decode_with_registers(const DecodeTask* tasks, int count) {
  const TileRegisters<Tiles> registers;
  Decode::run(tasks, count);
}

/// Kernels without such registers, but for their decoding.
template <class Tiles>
Kernels with_code_tiles(const Kernels& kernels, const char* name) {
  using Decode = DecodeKernel<AmxCodeLanes<Tiles>, AvxPacking>;
  return with_decoding<Decode>(kernels, name, decode_with_registers<Tiles, Decode>);
}

}  // namespace
}  // namespace tilewise::cpu
