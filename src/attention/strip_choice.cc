#include "attention/strip_choice.h"

#include <algorithm>
#include <array>

#include "core/round_up.h"
#include "tiles/key_spans.h"

namespace tilewise::attention {
namespace {

/// Tasks of queries that are looked at, and partial tiles of each: some 100 us.
constexpr std::int64_t kSamples = 4, kMostPartialTiles = 16;

/// Keys that a query visits up to which rows are read where they lie in a backward pass: the packing that it saves
/// shows less the more there are, and rows that are no panels miss the first-level cache more. On a Zen 4 at d 64
/// window(64) takes 0.93 of the time, window(256) 0.96, and bigbird, whose 500 keys lie in no band, 1.04.
constexpr std::int64_t kFewKeys = 384;

/// A call of decoding has no strips; below one wide strip there is nothing to gain.
constexpr std::int64_t kLeastQueries = 32;

/// What an operation that the mask has at entries takes for a key of a partial strip, however few its queries, in
/// entries of d_qk + d_v = 128. neighbourhood_1d, partial everywhere, at d 64: 2 entries for 8 operations, mostly
/// comparisons.
constexpr double kOperationCost = 0.25;

double operations_at_entries(const variant::IntervalProgram& program) {
  return static_cast<double>(std::ranges::count_if(program.of_box, [&](const variant::Instruction& instruction) {
    return program.rates[instruction.result / variant::kLanes] == variant::Rate::box;
  }));
}

std::int64_t entries_of(std::int64_t queries, const tiles::KeySpan& span) { return queries * (span.end - span.begin); }

/// Adds up a box of a task's queries and a tile's keys, in strips of `step` queries.
void add_strips(tiles::KeySpans& spans, const Box& box, double key_cost, StripCost& cost) {
  const std::int64_t step = cost.queries;
  constexpr std::int64_t kMostStrips = 64;
  std::array<tiles::KeySpan, kMostStrips> found;
  for (std::int64_t query = box.query_begin; query < box.query_end; query += kMostStrips * step) {
    const std::int64_t end = std::min(query + kMostStrips * step, box.query_end);
    spans.strips({query, end, box.key_begin, box.key_end}, step, found.data());
    for (std::int64_t i = 0; query + i * step < end; ++i) {
      const tiles::KeySpan& span = found[static_cast<std::size_t>(i)];
      cost.visited += entries_of(step, span);
      cost.partial += key_cost * static_cast<double>((span.end - span.begin) - (span.full_end - span.full_begin));
    }
  }
}

}  // namespace

StripChoice choose_strips(const cpu::Kernels& wide, const tiles::Mask& mask, const PlanShape& shape) {
  StripChoice choice{.kernels = &wide, .wide = {}, .narrow = {}};
  if (wide.narrow == nullptr || mask.program.wanted.empty() || shape.s_q < kLeastQueries || shape.s_kv == 0 ||
      shape.b == 0 || shape.h_q == 0)
    return choice;
  choice.wide.queries = wide.strip_queries;
  choice.narrow.queries = wide.narrow->strip_queries;
  Problem problem = Problem::uniform(shape.b, shape.h_q, shape.h_kv, shape.s_q, shape.s_kv);
  for (Sequence& sequence : problem.sequences) {
    if (shape.query_offset) sequence.query_offset = *shape.query_offset;
  }
  const double key_cost = kOperationCost * operations_at_entries(mask.program) * 128 /
                          static_cast<double>(std::max<std::int64_t>(1, shape.d_qk + shape.d_v));
  const std::int64_t tasks = ceil_div(shape.s_q, wide.tile_queries);
  std::int64_t queries = 0;
  bool sees_all = true;  // that a sampled task visits
  tiles::KeySpans spans(mask);
  spans.start(problem);
  for (std::int64_t sample = 0; sample < kSamples; ++sample) {
    // From the middle of each part, so that neither the first nor the last queries stand for all.
    const auto place = [&](std::int64_t count) { return (2 * sample + 1) * count / (2 * kSamples); };
    const std::int64_t query = place(tasks) * wide.tile_queries;
    const std::int64_t query_end = std::min(query + wide.tile_queries, shape.s_q);
    spans.enter(place(shape.b), place(shape.h_q), tiles::Walk::along_keys);
    queries += query_end - query;
    std::int64_t partial_tiles = 0;
    for (std::int64_t key = 0; key < shape.s_kv; key += wide.tile_keys) {
      sees_all = sees_all && partial_tiles < kMostPartialTiles;
      if (partial_tiles == kMostPartialTiles) break;
      const Box box{query, query_end, key, std::min(key + wide.tile_keys, shape.s_kv)};
      const tiles::KeySpan span = spans(box);
      if (span.is_empty()) continue;
      if (span.full_begin == box.key_begin && span.full_end == box.key_end) {
        for (StripCost* cost : {&choice.wide, &choice.narrow}) cost->visited += entries_of(query_end - query, span);
        continue;
      }
      ++partial_tiles;
      const Box kept{query, query_end, span.begin, span.end};
      for (StripCost* cost : {&choice.wide, &choice.narrow}) add_strips(spans, kept, key_cost, *cost);
    }
  }
  if (wide.narrow_cost * choice.narrow.total() < choice.wide.total()) choice.kernels = wide.narrow;
  const StripCost& chosen = choice.kernels == &wide ? choice.wide : choice.narrow;
  choice.visits_few_keys = sees_all && chosen.visited <= kFewKeys * queries;
  return choice;
}

}  // namespace tilewise::attention
