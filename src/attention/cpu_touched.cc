// How much of a workspace calls of the planned lengths touch.
#include <algorithm>

#include "attention/cpu_backend.h"
#include "attention/predicted.h"
#include "tilewise/tiles.h"

namespace tilewise::attention {

/// A backward pass writes a strip of a partial sum of d_q when it has something for it, so strips of which no tile of
/// the split is kept stay untouched, and packed rows that can be read where they lie, as they can where the rows of q
/// and d_o lie one behind the other. Everything else is.
std::int64_t CpuBackend::touched_bytes() const {
  const PlanShape& planned = shape();
  const std::int64_t units = planned.b * planned.h_kv;
  const cpu::Shape lengths{planned.s_q, planned.s_kv, static_cast<int>(planned.d_qk), static_cast<int>(planned.d_v)};
  const double tiles = static_cast<double>(planned.b * planned.h_q) *
                       (static_cast<double>(planned.s_q) / kernels_.strip_queries + 1) *
                       (static_cast<double>(planned.s_kv) / static_cast<double>(kernels_.backward_keys) + 1);
  const bool has_work = planned.backward && units > 0 && planned.s_q > 0;
  if (!has_work || has_bindings(variant()) || tiles > kMostPredictedTiles) return workspace_bytes_;

  const Cuts cuts = cuts_of(planned.s_q, planned.s_kv, false);
  Problem problem = Problem::uniform(planned.b, planned.h_q, planned.h_kv, planned.s_q, planned.s_kv);
  for (Sequence& sequence : problem.sequences) {
    if (planned.query_offset) sequence.query_offset = *planned.query_offset;
  }
  BackwardUnit unit;
  Arena measure;
  lay_out(unit, planned.s_q, planned.s_kv, cuts, measure);
  // Units of a later wave come where those of the one before have been.
  const std::int64_t at_once = std::clamp<std::int64_t>(shared_bytes() / measure.used(), 1, units);
  const std::int64_t strips = unit.blocks * kPreparedBlocks * (kernels_.backward_queries / kernels_.strip_queries);
  std::int64_t untouched = 0;
  for (std::int64_t first = 0; first < at_once; ++first) {
    std::vector<bool> touched(static_cast<std::size_t>(unit.splits * group() * strips), false);
    for (std::int64_t at = first; at < units; at += at_once)
      mark_touched(problem, cuts, at / planned.h_kv, at % planned.h_kv, strips, touched);
    untouched += std::ranges::count(touched, false);
  }
  const std::int64_t floats = kernels_.d_q_floats(lengths) - kernels_.d_q_flags(lengths);
  const std::int64_t unread = reads_rows() ? at_once * group() * kernels_.unread_floats(lengths) : 0;
  return workspace_bytes_ - (untouched * (floats / strips) + unread) * static_cast<std::int64_t>(sizeof(float));
}

/// Marks what a unit touches.
///   touched [splits, group, strips]
void CpuBackend::mark_touched(const Problem& problem, const Cuts& cuts, std::int64_t sequence, std::int64_t kv_head,
                              std::int64_t strips, std::vector<bool>& touched) const {
  const std::int64_t splits = cuts.backward_splits;
  const TileSizes tile{.queries = kernels_.strip_queries, .keys = kernels_.backward_keys};
  for (std::int64_t i = 0; i < group(); ++i) {
    const TileMap map = classify_tiles(variant(), {}, problem, tile, sequence, kv_head * group() + i);
    for (std::int64_t row = 0; row < map.rows; ++row) {
      for (std::int64_t split = 0; split < splits; ++split) {
        bool is_kept = false;
        const auto look = [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t column = begin / tile.keys; column * tile.keys < end; ++column)
            is_kept = is_kept || map.at(row, column) != TileClass::empty;
        };
        for_pieces_of_split(problem.sequences[static_cast<std::size_t>(sequence)].s_kv, cuts.backward_step, splits,
                            split, look);
        if (is_kept) touched[static_cast<std::size_t>((split * group() + i) * strips + row)] = true;
      }
    }
  }
}

}  // namespace tilewise::attention
