// Table bounds: every read that is not declared clamped must be inside its table for every kept entry.
#pragma once

#include <memory>
#include <span>

#include "tilewise/problem.h"
#include "variant/interval_program.h"
#include "variant/place.h"

namespace tilewise::tiles {

/// What is known before anything is bound: literals as written, tables and parameters by their declared ranges, frozen
/// tables by their data. `extents` [graph.tables()] are the shapes of tables to be bound. Throws
/// Error(invalid_argument) when their number, a rank or an extent is wrong.
variant::SlotBounds declared_bounds(const variant::Graph& graph, std::span<const std::vector<std::int64_t>> extents);

/// Bounds of the indices of all reads that are not declared clamped, in one evaluation.
class ReadBounds {
 public:
  /// Keeps references.
  ReadBounds(const Variant::Data& variant, const variant::SlotBounds& slots);
  ~ReadBounds();

  /// Whether all of them lie inside wherever coordinates lie in `universe`, whatever is kept. False proves nothing.
  bool are_inside(const variant::IntervalPlace& universe);

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

/// Throws as expect_reads_inside (tilewise/tiles.h), with what is known of the slots.
void expect_reads_inside(const Variant::Data& variant, const variant::SlotBounds& slots, const Problem& problem);

}  // namespace tilewise::tiles
