#include "runtime/unseen_keys.h"

#include <algorithm>
#include <limits>

#include "variant/graph.h"

namespace tilewise::runtime {
namespace {

// Positions are int32.
constexpr std::int64_t kMostPositions = std::numeric_limits<std::int32_t>::max();

/// Whether what a query sees of a key follows from their positions and the head alone. Lengths and places in a batch
/// differ from step to step, so nothing is proven by today's.
bool follows_positions(const Variant& variant) {
  const auto& nodes = variant.data().graph.nodes();
  return std::ranges::all_of(nodes, [](const variant::Node& node) {
    if (node.kind != variant::Kind::coordinate) return true;
    switch (static_cast<variant::Coordinate>(node.index)) {
      case variant::Coordinate::query:
      case variant::Coordinate::key:
      case variant::Coordinate::key_index:  // a sequence's keys begin at position 0
      case variant::Coordinate::head:
      case variant::Coordinate::kv_head: return true;
      default: return false;
    }
  });
}

}  // namespace

UnseenKeys::UnseenKeys(const Variant& variant, std::int64_t h_q, std::int64_t h_kv, std::int64_t page_tokens)
    : heads_(h_q), page_tokens_(page_tokens) {
  const auto is_bound = [](const Table& table) { return table.frozen_data().has_value(); };
  if (!follows_positions(variant) || !std::ranges::all_of(variant.tables(), is_bound) ||
      !variant.parameters().empty()) {
    return;
  }
  const Problem everywhere = Problem::uniform(1, h_q, h_kv, kMostPositions, kMostPositions);
  classifier_ = std::make_unique<tiles::Classifier>(variant, Bindings{}, everywhere);
  if (!classifier_->follows_head()) heads_ = 1;
}

TileClass UnseenKeys::classify(PageRange pages, std::int64_t from, std::int64_t until) {
  const Box box{from, until, pages.begin * page_tokens_, pages.end * page_tokens_};
  TileClass least_empty = TileClass::empty;
  for (std::int64_t head = 0; head < heads_; ++head) {
    const TileClass found = classifier_->classify(0, head, box);
    if (head == 0) least_empty = found;
    if (found != least_empty) least_empty = TileClass::partial;
  }
  return least_empty;
}

void UnseenKeys::search(PageRange pages, std::int64_t from, std::int64_t until, std::vector<PageRange>& found) {
  const TileClass tile = classify(pages, from, until);
  if (tile == TileClass::full) return;
  if (tile == TileClass::empty) {
    if (!found.empty() && found.back().end == pages.begin) {
      found.back().end = pages.end;
    } else {
      found.push_back(pages);
    }
    return;
  }
  if (pages.end - pages.begin == 1) return;
  const std::int64_t middle = pages.begin + (pages.end - pages.begin) / 2;
  search({pages.begin, middle}, from, until, found);
  search({middle, pages.end}, from, until, found);
}

std::vector<PageRange> UnseenKeys::find(PageRange pages, std::int64_t from, std::int64_t until) {
  std::vector<PageRange> found;
  if (classifier_ == nullptr || pages.begin >= pages.end) return found;
  if (from >= until) return {pages};
  search(pages, from, until, found);
  return found;
}

}  // namespace tilewise::runtime
