// Reads of tables on strips: gathers with clamped indices; copies where the indices run on evenly along both axes and
// all lie inside, transposing ones where neighbouring elements lie along a tile's rows.
//
// Compiled for the baseline alone, but for transposition: a read is bound by its loads, not by arithmetic.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "variant/bindings.h"
#include "variant/lanes/strip.h"

namespace tilewise::variant {

/// How an index changes from one column of its strip to the next, and from one row to the next.
struct IndexStep {
  bool is_known = false;
  std::int32_t step = 0;
  std::int32_t row_step = 0;
};

/// Reads `table` at the indices in `call.operands`, one strip of int32 for each axis, each index clamped to its axis;
/// an empty table reads as 0. Words of the result are float32, int32, or 0 and -1, by the table's dtype.
/// `steps[axis]` must hold wherever it is known (modulo 2^32). `transpose`: any instruction set's.
void read_table(const BoundTable& table, const std::array<IndexStep, kMaxRank>& steps, const StripCall& call,
                TransposeFunction transpose);

/// Where the words of such a read lie, if they need no conversion and are evenly spaced, one after another along
/// columns or rows: they can be taken from there.
std::optional<Strip> strip_of_read(const BoundTable& table, const std::array<IndexStep, kMaxRank>& steps,
                                   const StripCall& call);

/// Memory that such a read touches, where its elements are evenly spaced; no rows where that is not known.
struct ReadLines {
  const void* first = nullptr;
  std::int64_t rows = 0, row_bytes = 0, stride_bytes = 0;
};
ReadLines lines_of_read(const BoundTable& table, const std::array<IndexStep, kMaxRank>& steps, const StripCall& call);

}  // namespace tilewise::variant
