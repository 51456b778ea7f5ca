#include "tiles/key_spans.h"

#include <algorithm>
#include <array>

#include "tiles/split.h"

namespace tilewise::tiles {
namespace {

constexpr std::size_t kParts = variant::kLanes;  // of a box, and again of each part

/// Classes of the sixteenths of a box.
using Sixteenths = std::array<TileClass, kParts * kParts>;

TileClass class_of(const variant::Interval& verdict) {
  if (verdict.is_false()) return TileClass::empty;
  return verdict.is_true() ? TileClass::full : TileClass::partial;
}

bool holds(const Box& outer, const Box& inner) {
  return outer.query_begin <= inner.query_begin && inner.query_end <= outer.query_end &&
         outer.key_begin <= inner.key_begin && inner.key_end <= outer.key_end;
}

/// The span of parts `step` keys long.
KeySpan span_of(const Sixteenths& classes, const Box& box, std::int64_t step) {
  const auto key = [&](std::size_t part) {
    return std::min(box.key_begin + static_cast<std::int64_t>(part) * step, box.key_end);
  };
  std::size_t first = classes.size(), end = 0, full_begin = 0, full_end = 0, run = 0;
  for (std::size_t part = 0; part < classes.size(); ++part) {
    run = classes[part] == TileClass::full ? run + 1 : 0;
    if (run > full_end - full_begin) {
      full_begin = part + 1 - run;
      full_end = part + 1;
    }
    if (classes[part] == TileClass::empty) continue;
    first = std::min(first, part);
    end = part + 1;
  }
  if (end == 0) return {box.key_begin, box.key_begin, box.key_begin, box.key_begin};
  if (full_begin == full_end) full_begin = full_end = first;
  return {key(first), key(full_begin), key(full_end), key(end)};
}

}  // namespace

void KeySpans::start(const Problem& problem) {
  problem_ = &problem;
  sequence_ = head_ = -1;
}

void KeySpans::enter(std::int64_t sequence, std::int64_t head, Walk walk) {
  walk_ = walk;
  if (sequence == sequence_ && (head == head_ || !mask_->follows_head)) return;
  reading_.enter(*problem_, sequence, head);
  sequence_ = sequence;
  head_ = head;
  s_q_ = problem_->sequences[static_cast<std::size_t>(sequence)].s_q;
  s_kv_ = problem_->sequences[static_cast<std::size_t>(sequence)].s_kv;
  known_ = {};
}

KeySpan KeySpans::operator()(const Box& box) {
  const TileClass found = holds(known_, box) ? known_class_ : classify(box);
  if (found == TileClass::full) return {box.key_begin, box.key_begin, box.key_end, box.key_end};
  if (found == TileClass::empty) return {box.key_begin, box.key_begin, box.key_begin, box.key_begin};
  return refine(box);
}

TileClass KeySpans::classify(const Box& box) {
  std::array<Box, variant::kLanes> boxes;
  boxes.fill(box);
  const bool keys = walk_ == Walk::along_keys;
  const std::int64_t length = keys ? box.key_end - box.key_begin : box.query_end - box.query_begin;
  std::int64_t reach = length;
  for (std::size_t lane = 1; lane < boxes.size(); ++lane) {
    reach *= lane + 1 == boxes.size() ? 64 : 4;  // 4, 16 and 1024 lengths
    if (keys) {
      boxes[lane].key_end = std::min(box.key_begin + reach, s_kv_);
    } else {
      boxes[lane].query_end = std::min(box.query_begin + reach, s_q_);
    }
  }
  reading_.evaluate(boxes);
  const TileClass found = class_of(kept(reading_, 0));
  if (found == TileClass::partial) return found;
  for (std::size_t lane = 1; lane < boxes.size() && class_of(kept(reading_, lane)) == found; ++lane) {
    known_ = boxes[lane];
    known_class_ = found;
  }
  return found;
}

/// Looks at quarters of the keys, and at the quarters of those that stay undecided.
KeySpan KeySpans::refine(const Box& box) {
  const std::int64_t keys = box.key_end - box.key_begin;
  const std::int64_t parts = kParts, step = (keys + parts * parts - 1) / (parts * parts);
  Sixteenths classes;
  classes.fill(TileClass::empty);                                      // parts past the end
  const auto evaluate = [&](std::int64_t first, std::int64_t width) {  // parts of `width` sixteenths from `first` on
    std::array<Box, kParts> boxes;
    std::size_t count = 0;
    for (; count < kParts; ++count) {
      const std::int64_t begin = box.key_begin + (first + static_cast<std::int64_t>(count) * width) * step;
      if (begin >= box.key_end) break;
      boxes[count] = {box.query_begin, box.query_end, begin, std::min(begin + width * step, box.key_end)};
    }
    if (count == 0) return;
    reading_.evaluate(std::span(boxes.data(), count));
    for (std::size_t i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(first + static_cast<std::int64_t>(i) * width);
      std::fill_n(classes.begin() + static_cast<std::ptrdiff_t>(at), width, class_of(kept(reading_, i)));
    }
  };
  evaluate(0, parts);
  for (std::int64_t quarter = 0; quarter < parts; ++quarter) {
    if (classes[static_cast<std::size_t>(quarter * parts)] == TileClass::partial) evaluate(quarter * parts, 1);
  }
  return span_of(classes, box, step);
}

std::optional<KeptEntries> KeySpans::find_kept(const Box& box) {
  constexpr int kMostGroups = 1 << 14;  // some 10 ms
  // Every level of a descent leaves at most kParts - 1 boxes open, and halves the area at least.
  std::array<Box, 64 * (kParts - 1) + kParts> open;
  std::size_t count = 0;
  reading_.evaluate(std::span(&box, 1));
  const auto visit = [&](const Box& part, const variant::Interval& verdict) -> std::optional<KeptEntries> {
    if (verdict.is_false()) return {};
    if (verdict.is_true() || part.entries() == 1) return KeptEntries{part, verdict.is_true()};
    open[count++] = part;
    return {};
  };
  if (const auto found = visit(box, kept(reading_, 0))) return found;
  for (int groups = 0; count > 0; ++groups) {
    const Box whole = open[--count];
    if (groups == kMostGroups) return KeptEntries{whole, false};
    const auto parts = split(whole);
    reading_.evaluate(parts);
    for (std::size_t lane = 0; lane < parts.count; ++lane) {
      if (const auto found = visit(parts.parts[lane], kept(reading_, lane))) return found;
    }
  }
  return {};
}

}  // namespace tilewise::tiles
