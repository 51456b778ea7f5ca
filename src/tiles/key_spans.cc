#include "tiles/key_spans.h"

#include <algorithm>
#include <array>

#include "core/round_up.h"
#include "tiles/split.h"

namespace tilewise::tiles {
namespace {

constexpr std::size_t kParts = variant::kLanes;  // of a box, and again of each part
constexpr std::int64_t kLeastKeys = 4;           // of a part: what kernels compute at a time
constexpr std::int64_t kMostStripQueries = 64;   // boxes of more are asked for strip by strip, too

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
  next_ = {};
  reach_ = kLeastReach;
}

KeySpan KeySpans::operator()(const Box& box) {
  return span_of_class(box, holds(known_, box) ? known_class_ : classify(box));
}

void KeySpans::strips(const Box& box, std::int64_t step, KeySpan* spans) {
  const bool is_known = holds(known_, box);
  for (std::int64_t query = box.query_begin; query < box.query_end; spans += kParts) {
    std::array<Box, kParts> boxes;
    std::array<TileClass, kParts> classes;
    std::size_t count = 0;
    for (; count < kParts && query < box.query_end; ++count, query += step)
      boxes[count] = {query, std::min(query + step, box.query_end), box.key_begin, box.key_end};
    if (!is_known) reading_.evaluate(std::span(boxes.data(), count));
    for (std::size_t i = 0; i < count; ++i) classes[i] = is_known ? known_class_ : class_of(kept(reading_, i));
    for (std::size_t i = 0; i < count; ++i) spans[i] = span_of_class(boxes[i], classes[i]);
  }
}

KeySpan KeySpans::span_of_class(const Box& box, TileClass found) {
  if (found == TileClass::full) return {box.key_begin, box.key_begin, box.key_end, box.key_end};
  if (found == TileClass::empty) return {box.key_begin, box.key_begin, box.key_begin, box.key_begin};
  return refine(box);
}

TileClass KeySpans::classify(const Box& box) {
  for (std::size_t i = 0; i < next_.size(); ++i) {
    if (next_[i] == box) return next_class_[i];
  }
  const bool keys = walk_ == Walk::along_keys;
  const std::int64_t begin = keys ? box.key_begin : box.query_begin, end = keys ? box.key_end : box.query_end;
  const std::int64_t last = keys ? s_kv_ : s_q_;
  const auto between = [&](std::int64_t from, std::int64_t to) {
    Box found = box;
    (keys ? found.key_begin : found.query_begin) = from;
    (keys ? found.key_end : found.query_end) = std::min(to, last);
    return found;
  };
  std::array<Box, variant::kLanes> boxes;
  boxes.fill(box);
  for (std::size_t lane = 1; lane + 1 < boxes.size(); ++lane) {
    const std::int64_t from = begin + static_cast<std::int64_t>(lane) * (end - begin);
    if (from < last) boxes[lane] = between(from, from + (end - begin));
  }
  boxes.back() = between(begin, begin + reach_ * (end - begin));
  reading_.evaluate(boxes);
  const TileClass found = class_of(kept(reading_, 0));
  for (std::size_t i = 0; i < next_.size(); ++i) {
    next_[i] = boxes[i + 1];
    next_class_[i] = class_of(kept(reading_, i + 1));
  }
  if (found != TileClass::partial && class_of(kept(reading_, boxes.size() - 1)) == found) {
    known_ = boxes.back();
    known_class_ = found;
    reach_ = std::min(16 * reach_, kMostReach);
  } else {
    reach_ = kLeastReach;
  }
  return found;
}

/// Looks at quarters of the keys, and where that decides on what is computed at the quarters of the first and of the
/// last that keeps something: of those between, few that stay undecided would be decided.
KeySpan KeySpans::refine(const Box& box) {
  const std::int64_t keys = box.key_end - box.key_begin, parts = kParts;
  const std::int64_t step = (keys + parts * parts * kLeastKeys - 1) / (parts * parts * kLeastKeys) * kLeastKeys;
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
  if (box.query_end - box.query_begin > kMostStripQueries) return span_of(classes, box, step);
  const auto class_of_quarter = [&](std::int64_t quarter) {
    return classes[static_cast<std::size_t>(quarter * parts)];
  };
  std::int64_t first = 0, last = parts - 1;
  while (first < last && class_of_quarter(first) == TileClass::empty) ++first;
  while (first < last && class_of_quarter(last) == TileClass::empty) --last;
  if (class_of_quarter(first) == TileClass::partial) evaluate(first * parts, 1);
  if (first < last && class_of_quarter(last) == TileClass::partial) evaluate(last * parts, 1);
  return span_of(classes, box, step);
}

void KeySpans::find_ranges(const Box& box, std::int64_t step, KeptRanges& ranges) {
  constexpr std::int64_t kMostSteps = 512, kWays = kParts;
  const std::int64_t keys = box.key_end - box.key_begin;
  const std::int64_t least = step * ceil_div(ceil_div(keys, step), kMostSteps);
  struct Part {
    KeyRange range;
    bool is_decided;  // as kept
  };
  // The first part lies on top, so that ranges come in order. Each of five levels leaves kParts - 1 others.
  std::array<Part, 8 * kParts> open;
  std::size_t count = 0;
  open[count++] = {{0, keys}, false};
  while (count > 0) {
    const auto [range, is_decided] = open[--count];
    if (is_decided) {
      ranges.add(range);
      continue;
    }
    const std::int64_t length = least * ceil_div(ceil_div(range.keys(), least), kWays);
    std::array<Box, kParts> boxes;
    std::size_t parts = 0;
    for (std::int64_t begin = range.begin; begin < range.end; begin += length) {
      boxes[parts++] = {box.query_begin, box.query_end, box.key_begin + begin,
                        box.key_begin + std::min(begin + length, range.end)};
    }
    reading_.evaluate(std::span(boxes.data(), parts));
    for (std::size_t i = parts; i-- > 0;) {
      const TileClass found = class_of(kept(reading_, i));
      if (found == TileClass::empty) continue;
      const KeyRange part{boxes[i].key_begin - box.key_begin, boxes[i].key_end - box.key_begin};
      open[count++] = {part, found == TileClass::full || part.keys() <= least};
    }
  }
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
