#include "runtime/reach.h"

#include <limits>

#include "core/round_up.h"

namespace tilewise::runtime {

Reach reach_of(UnseenKeys& unseen, std::int64_t context, std::int64_t page_tokens) {
  constexpr std::int64_t kMostPositions = std::numeric_limits<std::int32_t>::max();
  const std::int64_t pages = 2 * ceil_div(context, page_tokens);
  const std::int64_t from = pages * page_tokens;
  if (from >= kMostPositions) return {};
  const auto holes = unseen.find({0, pages}, from, kMostPositions);
  // One hole, between first keys (or none) and the last ones. With more of them keys would drift out of the trained
  // range that are neither.
  if (holes.size() != 1) return {};
  const std::int64_t seen = (pages - (holes[0].end - holes[0].begin)) * page_tokens;
  // A move is rounded up to a page, so that it is not made for each token.
  const std::int64_t chunk = context - seen - page_tokens;
  if (chunk < page_tokens) return {};
  return {.past_context = true, .first_pages = holes[0].begin, .seen_tokens = seen, .chunk_tokens = chunk};
}

}  // namespace tilewise::runtime
