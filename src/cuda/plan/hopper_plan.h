// Tiles, stages and registers of the kernels for compute capability 9.0: plain arithmetic, no GPU needed.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/plan/forward_plan.h"

namespace tilewise::cuda {

/// What score functions ask of a full tile's entry; and what the variant's mask is like.
struct ScoreWork {
  bool is_any = false;
  int special_functions = 0;  // on the unit that makes exponentials
  bool has_offsets = false;   // values of keys or diagonals, which are read for it
  bool is_long = false;       // CudaText::is_long
  bool mask_follows_diagonals = false;
};

/// The forward kernel's: one producer warpgroup and `consumers` that compute 64 queries each.
struct HopperForwardPlan {
  int consumers = 2;  // or 3
  int key_tile = 128;
  int stages = 2;                  // tiles of k, and of v, in shared memory
  bool query_in_registers = true;  // else q is read from shared memory for every tile
  bool has_scores = false;         // score functions, which keep what they share in shared memory
  bool has_offsets = false;        // values of keys or diagonals among that
  int query_stages = 1;            // query tiles in shared memory
  bool stages_output = false;      // output goes through shared memory
  bool ends_with_queries = false;  // ListTile

  int query_tile() const { return 64 * consumers; }
  ListTile tile() const { return {.queries = query_tile(), .keys = key_tile, .ends_with_queries = ends_with_queries}; }
  int threads() const { return 128 * (1 + consumers); }

  /// Registers of a thread at the launch, in eights, and after the warpgroups have shared them out anew. What consumers
  /// take on is no more than what the producer gives up: they would wait for it for ever.
  int launch_registers() const { return 65536 / threads() / 8 * 8; }
  int producer_registers() const { return consumers == 3 ? 32 : 24; }
  int consumer_registers() const { return consumers == 3 ? 160 : 240; }

  /// Registers that a consumer's matrices take: the output, the scores, the weights at work and the ones being made,
  /// and q where it stays. The last two share theirs in part, which pays for what is needed besides.
  int matrix_registers(const ForwardShape& shape) const;

  /// Shared memory of the tiles, and the most that barriers and the variant's values take besides.
  std::int64_t tile_bytes(const ForwardShape& shape) const;
  std::int64_t other_shared() const;

  /// Whether a block has the registers and the shared memory.
  bool fits(const ForwardShape& shape, const Multiprocessor& limits) const;

  /// "128 x 128, 2 consumers, 2 stages, q in registers".
  std::string text() const;

  bool operator==(const HopperForwardPlan&) const = default;
};

/// Whether a shape has a plan of its own for lists of small parts, and how much longer that takes for as many entries.
bool takes_small_parts(const ForwardShape& shape, bool has_scores);
double cost_of_small_tiles(const ForwardShape& shape, const ScoreWork& scores);

/// Plans worth measuring, the one that is believed best first; none where no plan fits the shape.
std::vector<HopperForwardPlan> hopper_forward_candidates(const ForwardShape& shape, const ScoreWork& scores,
                                                         const Multiprocessor& limits);

/// Likewise for float8_e4m3, which hopper_float8_refusal takes.
std::vector<HopperForwardPlan> hopper_float8_candidates(const ForwardShape& shape, const Multiprocessor& limits);

/// Of 8 exponentials of scores, how many are made by polynomials rather than by the unit for special functions, where a
/// score itself uses that unit so often.
int polynomials_of_eight(const ForwardShape& shape, const ScoreWork& scores);

/// Whether consumers start a tile's products one after the other.
bool takes_turns(const ForwardShape& shape, const ScoreWork& scores);

/// Why the forward kernel for 9.0 does not take a shape; empty where it does.
std::string hopper_refusal(const ForwardShape& shape);

/// How many gradients of a variant's tables and parameters there are of each class (variant::CudaText::slots).
using GradientSlots = std::array<int, 5>;

/// Why the one for float8_e4m3 does not.
std::string hopper_float8_refusal(const ForwardShape& shape, bool changes_scores);

/// What it takes of a workspace besides (device/arguments.h): blocks of keys of a sequence, and bytes of its values.
std::int64_t float8_blocks(std::int64_t s_kv);
std::int64_t float8_value_bytes(std::int64_t s_kv, std::int64_t d_v);

/// The backward kernel's: one producer warpgroup, and two consumers of 64 keys each, or, of wide heads, of the same 64.
struct HopperBackwardPlan {
  static constexpr int kQueries = 64;
  int stages = 2;           // tiles of q and d_o in shared memory
  bool has_scores = false;  // as in HopperForwardPlan
  int keys = 128;           // of a block: 64 for heads of more than 128 columns
  GradientSlots slots{};    // of a pass that has gradients of tables and parameters
  bool is_paired = false;   // blocks come in clusters of two, which share the copies of their queries

  int threads() const { return 384; }
  int producer_registers() const { return 24; }
  int consumer_registers() const { return 240; }
  int blocks() const { return is_paired ? 2 : 1; }   // of a cluster
  int tile_keys() const { return keys * blocks(); }  // that a cluster takes together

  /// Shared memory of the tiles: k, v, the stages with two numbers a query, and d_s twice; and the most that barriers,
  /// the variant's values and the sums of its gradients take besides.
  std::int64_t tile_bytes(const ForwardShape& shape) const;
  std::int64_t other_shared() const;

  bool fits(const ForwardShape& shape, const Multiprocessor& limits) const;

  /// "sm_90a, 64 x 128, 2 stages".
  std::string text() const;

  bool operator==(const HopperBackwardPlan&) const = default;
};

/// Plans worth measuring, the one that is believed best first. Not empty for shapes that the kernel takes, unless there
/// are dozens of gradients.
std::vector<HopperBackwardPlan> hopper_backward_candidates(const ForwardShape& shape, bool changes_scores,
                                                           const Multiprocessor& limits,
                                                           const GradientSlots& slots = {});

/// Why the backward kernel for 9.0 does not take a shape; empty where it does.
std::string hopper_backward_refusal(const ForwardShape& shape);

}  // namespace tilewise::cuda
