// The space of calls that attention must get right: its axes, their values, and the call that a combination of them is.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/attention/covering.h"
#include "tests/attention/guarded.h"
#include "tests/attention/oracle.h"

namespace tilewise::attention::testing {

// The axes' values, the cheapest first: cost_of takes an open axis at value 0.

inline constexpr std::pair<DType, DType> kDTypes[] = {
    {DType::float32, DType::float32},  {DType::bfloat16, DType::bfloat16}, {DType::float16, DType::float16},
    {DType::float64, DType::float64},  {DType::float32, DType::bfloat16},  {DType::bfloat16, DType::float32},
    {DType::float16, DType::bfloat16},
};
// Strips have 24, 32 or 48 queries, tiles 96 or 128 keys, 192 or 384 queries backward; 8 queries are decoded.
inline constexpr std::int64_t kQueries[] = {0, 1, 2, 7, 8, 9, 23, 25, 48, 49, 61, 97, 191, 193, 385};
inline constexpr std::int64_t kKeys[] = {0, 1, 3, 17, 63, 65, 95, 97, 127, 128, 129, 257, 511, 513, 1031};
inline constexpr std::int64_t kDimensions[] = {1, 3, 8, 40, 64, 72, 80, 128, 192, 256, 576};
inline constexpr std::pair<std::int64_t, std::int64_t> kHeads[] = {{1, 1}, {2, 2}, {2, 1}, {3, 1},
                                                                   {4, 2}, {6, 2}, {8, 1}};
inline constexpr std::int64_t kBatches[] = {1, 2, 3};
inline constexpr Layout kInputLayouts[] = {Layout::contiguous, Layout::heads_inside, Layout::padded, Layout::reversed,
                                           Layout::shared};
inline constexpr Layout kOutputLayouts[] = {Layout::contiguous, Layout::heads_inside, Layout::padded, Layout::reversed};
inline constexpr const char* kLayouts[] = {"contiguous", "heads_inside", "padded", "reversed", "shared"};
inline constexpr const char* kSequences[] = {"all_alike", "shorter", "packed", "packed_queries", "packed_keys"};
inline constexpr const char* kPositions[] = {"aligned_ends", "aligned_beginnings", "shifted", "left_padding", "no_keys",
                                             "extremes"};
inline constexpr int kExtremes = 5;
// Behind them come the named variants, each a value of its own.
inline constexpr const char* kOwnVariants[] = {
    "plain", "causal", "soft_window", "sink_and_bias", "distance_and_gain", "pair_bias", "documents"};
inline constexpr int kFirstNamed = std::size(kOwnVariants);
inline constexpr const char* kInputs[] = {"normal", "outliers", "large_equal", "alternating",
                                          "rising", "equal",    "cancelling"};
inline constexpr const char* kPasses[] = {"forward", "forward_without_lse", "both", "both_with_d_lse"};
inline constexpr double kScales[] = {1, -1, 3};  // times the default
inline constexpr int kWorkers[] = {1, 2, 3, 8};

enum Axis : std::uint8_t {
  kDTypeAxis,
  kQueriesAxis,
  kKeysAxis,
  kDQkAxis,
  kDVAxis,
  kHeadsAxis,
  kBatchAxis,
  kQLayoutAxis,
  kKvLayoutAxis,
  kOutputLayoutAxis,
  kSequencesAxis,
  kPositionsAxis,
  kVariantAxis,
  kInputsAxis,
  kPassAxis,
  kScaleAxis,
  kDropoutAxis,
  kLseDTypeAxis,
  kRoomAxis,
  kGuardAxis,
  kWorkersAxis,
  kIsaAxis,
  kAxes,
};

inline constexpr const char* kAxisNames[] = {
    "dtypes", "s_q",     "s_kv",   "d_qk",   "d_v",   "heads", "b",   "q_layout", "kv_layout", "outputs", "rows",
    "places", "variant", "inputs", "passes", "scale", "drops", "lse", "room",     "guard",     "workers", "isa"};
static_assert(std::size(kAxisNames) == kAxes);

/// Instruction sets that kernels exist for here.
const std::vector<std::string>& isas();

/// How many values each axis has.
std::span<const int> axis_sizes();

/// Combinations in all.
double combinations();

/// Multiplications of standard attention, in both precisions; open axes count at their cheapest.
double cost_of(const Combination& combination);

/// "dtypes=bfloat16/float32 s_q=23 ...".
std::string describe(const Combination& combination);

/// The number of an axis.
std::size_t axis_of(std::string_view name);

/// The value of the axis "isa" for an instruction set; -1 where this processor or this library lacks it.
int value_of_isa(std::string_view name);

/// Whether the combination takes a named variant.
bool takes_named(const Combination& combination);

template <class Values>
auto value_of(const Values& values, const Combination& combination, Axis axis) {
  return values[static_cast<std::size_t>(std::max(combination[axis], 0))];
}

/// A combination's values, with what follows from them.
struct Call {
  explicit Call(const Combination& of);

  /// What standard attention computes in. Of two dtypes neither would do: it would round the other's inputs.
  DType precision() const { return dtype == kv_dtype ? dtype : DType::float32; }

  bool is_uniform() const { return combination[kSequencesAxis] == 0 && combination[kPositionsAxis] == 0; }

  const Combination& combination;
  DType dtype, kv_dtype;
  reference::Shape shape;
  double scale = 1;
  bool backward = false, has_lse = true, has_d_lse = false;

 private:
  void make_sequences();
};

}  // namespace tilewise::attention::testing
