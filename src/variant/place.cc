#include "variant/place.h"

#include <algorithm>
#include <limits>

#include "core/fail.h"

namespace tilewise {
namespace {

constexpr std::int64_t kMin = std::numeric_limits<std::int32_t>::min();
constexpr std::int64_t kMax = std::numeric_limits<std::int32_t>::max();

/// Checks that first, ..., first + count - 1 lie in [low, kMax], without overflowing on the way.
void expect_in_int32(std::size_t sequence, const char* what, std::int64_t first, std::int64_t count,
                     std::int64_t low = kMin) {
  const bool fits = low <= first && first <= kMax && first <= kMax - std::max<std::int64_t>(count - 1, 0);
  if (!fits) {
    fail_argument("sequence {}: {} run from {} over {} entries, expected all of them in {} to {}", sequence, what,
                  first, count, low, kMax);
  }
}

void expect_length(std::size_t sequence, const char* name, std::int64_t length) {
  if (length < 0 || length > kMax)
    fail_argument("sequence {}: {} is {}, expected 0 to {}", sequence, name, length, kMax);
}

void validate(std::size_t number, const Sequence& sequence) {
  expect_length(number, "s_q", sequence.s_q);
  expect_length(number, "s_kv", sequence.s_kv);
  if (sequence.key_start < 0 || sequence.key_start > sequence.s_kv) {
    fail_argument("sequence {}: key_start is {}, expected 0 to s_kv, which is {}", number, sequence.key_start,
                  sequence.s_kv);
  }
  expect_in_int32(number, "the keys' positions (key_offset)", sequence.key_offset, sequence.s_kv);
  expect_in_int32(number, "the queries' positions (query_offset)", sequence.first_query_position(), sequence.s_q);
  expect_in_int32(number, "the keys' tokens (first_key_token)", sequence.first_key_token, sequence.s_kv, 0);
  expect_in_int32(number, "the queries' tokens (first_query_token)", sequence.first_query_token, sequence.s_q, 0);
}

}  // namespace

Problem Problem::uniform(std::int64_t b, std::int64_t h_q, std::int64_t h_kv, std::int64_t s_q, std::int64_t s_kv) {
  Problem problem{.h_q = h_q, .h_kv = h_kv, .sequences = {}};
  problem.set_uniform(b, s_q, s_kv);
  return problem;
}

void Problem::set_uniform(std::int64_t b, std::int64_t s_q, std::int64_t s_kv) {
  if (b < 0 || b > kMax) fail_argument("b is {}, expected 0 to {}", b, kMax);
  expect_length(0, "s_q", s_q);
  expect_length(0, "s_kv", s_kv);
  sequences.clear();
  for (std::int64_t i = 0; i < b; ++i) {
    sequences.push_back(
        {.s_q = s_q, .s_kv = s_kv, .query_offset = {}, .first_query_token = i * s_q, .first_key_token = i * s_kv});
  }
}

Problem Problem::packed(std::int64_t h_q, std::int64_t h_kv, std::span<const std::int64_t> s_q,
                        std::span<const std::int64_t> s_kv) {
  if (s_q.size() != s_kv.size()) {
    fail_argument("packed sequences: {} lengths of queries and {} of keys, expected as many", s_q.size(), s_kv.size());
  }
  Problem problem{.h_q = h_q, .h_kv = h_kv, .sequences = {}};
  std::int64_t query_token = 0, key_token = 0;
  for (std::size_t i = 0; i < s_q.size(); ++i) {
    expect_length(i, "s_q", s_q[i]);
    expect_length(i, "s_kv", s_kv[i]);
    problem.sequences.push_back({.s_q = s_q[i],
                                 .s_kv = s_kv[i],
                                 .query_offset = {},
                                 .first_query_token = query_token,
                                 .first_key_token = key_token});
    query_token += s_q[i];
    key_token += s_kv[i];
  }
  return problem;
}

void Problem::validate() const {
  if (h_kv < 1 || h_kv > kMax) fail_argument("h_kv is {}, expected 1 to {}", h_kv, kMax);
  if (h_q < 1 || h_q > kMax || h_q % h_kv != 0)
    fail_argument("h_q is {}, expected a positive multiple of h_kv, which is {}", h_q, h_kv);
  if (b() > kMax) fail_argument("b is {}, expected 0 to {}", b(), kMax);
  for (std::size_t i = 0; i < sequences.size(); ++i) tilewise::validate(i, sequences[i]);
}

namespace variant {
namespace {

/// Calls `set(coordinate, value)` for what is the same all over a sequence and head.
template <class Set>
void for_sequence_and_head(const Problem& problem, std::int64_t sequence, std::int64_t head, Set set) {
  const Sequence& lengths = problem.sequences[static_cast<std::size_t>(sequence)];
  set(Coordinate::queries, lengths.s_q);
  set(Coordinate::keys, lengths.s_kv);
  set(Coordinate::batch, sequence);
  set(Coordinate::head, head);
  set(Coordinate::kv_head, head / (problem.h_q / problem.h_kv));
}

/// Calls `set(coordinate, first)` for what grows with the query index, or with the key index: its value at index 0.
template <class Set>
void for_queries(const Sequence& sequence, Set set) {
  set(Coordinate::query, sequence.first_query_position());
  set(Coordinate::query_index, std::int64_t{0});
  set(Coordinate::query_token, sequence.first_query_token);
}
template <class Set>
void for_keys(const Sequence& sequence, Set set) {
  set(Coordinate::key, sequence.key_offset);
  set(Coordinate::key_index, std::int64_t{0});
  set(Coordinate::key_token, sequence.first_key_token);
}

}  // namespace

Place place_of(const Problem& problem, std::int64_t sequence, std::int64_t head, std::int64_t query_index,
               std::int64_t key_index) {
  Place place{};
  const auto set_from = [&](std::int64_t index) {
    return [&place, index](Coordinate coordinate, std::int64_t first) {
      place[static_cast<std::size_t>(coordinate)] = static_cast<std::int32_t>(first + index);
    };
  };
  const Sequence& lengths = problem.sequences[static_cast<std::size_t>(sequence)];
  for_sequence_and_head(problem, sequence, head, set_from(0));
  for_queries(lengths, set_from(query_index));
  for_keys(lengths, set_from(key_index));
  return place;
}

IntervalPlace place_of(const Problem& problem, std::int64_t sequence, std::int64_t head, const Box& box) {
  IntervalPlace place{};
  for_sequence_and_head(problem, sequence, head, [&place](Coordinate coordinate, std::int64_t value) {
    place[static_cast<std::size_t>(coordinate)] = single(static_cast<double>(value));
  });
  const auto set_over = [&](std::int64_t begin, std::int64_t end) {
    return [&place, begin, end](Coordinate coordinate, std::int64_t first) {
      place[static_cast<std::size_t>(coordinate)] = {static_cast<double>(first + begin),
                                                     static_cast<double>(first + end - 1), false};
    };
  };
  const Sequence& lengths = problem.sequences[static_cast<std::size_t>(sequence)];
  for_queries(lengths, set_over(box.query_begin, box.query_end));
  for_keys(lengths, set_over(box.key_begin, box.key_end));
  return place;
}

Box entries_of(const Sequence& sequence) { return {0, sequence.s_q, sequence.key_start, sequence.s_kv}; }

}  // namespace variant
}  // namespace tilewise
