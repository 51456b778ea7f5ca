// Problems, entries and boxes.
#include <algorithm>

#include "tests/laws/random_variant.h"

namespace tilewise::laws {
namespace {

std::int64_t random_length(Choices& choices) {
  switch (choices.below(8)) {
    case 6: return choices.between(1, 1 << 20);
    case 7: return choices.any_of(std::array<std::int64_t, 5>{1, 63, 64, 65, 128});
    default: return choices.between(1, 80);
  }
}

}  // namespace

Problem random_problem(Choices& choices) {
  Problem problem;
  problem.h_kv = choices.between(1, 3);
  problem.h_q = problem.h_kv * choices.between(1, 3);
  std::int64_t query_token = 0, key_token = 0;
  for (std::int64_t i = 0, b = choices.between(1, 3); i < b; ++i) {
    Sequence sequence;
    sequence.s_q = random_length(choices);
    sequence.s_kv = choices.once_in(2) ? random_length(choices) : sequence.s_q;
    if (choices.once_in(4)) sequence.key_offset = choices.between(-40, 40);
    if (choices.once_in(3)) sequence.query_offset = choices.between(-100, 100);
    if (choices.once_in(4)) sequence.key_start = choices.between(0, sequence.s_kv - 1);
    if (choices.once_in(16)) sequence.query_offset = sequence.key_offset = (std::int64_t{1} << 31) - 1 - (1 << 20);
    sequence.first_query_token = query_token;
    sequence.first_key_token = key_token;
    query_token += sequence.s_q;
    key_token += sequence.s_kv;
    problem.sequences.push_back(sequence);
  }
  problem.validate();
  return problem;
}

Box random_box(Choices& choices, const Sequence& sequence) {
  const auto range = [&choices](std::int64_t begin, std::int64_t end) {
    const std::int64_t largest = end - begin;
    const std::int64_t size =
        choices.once_in(2) ? choices.between(1, largest) : std::min(largest, std::int64_t{1} << choices.below(8));
    const std::int64_t first = begin + choices.between(0, largest - size);
    return std::pair(first, first + size);
  };
  const auto [query_begin, query_end] = range(0, sequence.s_q);
  const auto [key_begin, key_end] = range(sequence.key_start, sequence.s_kv);
  return {query_begin, query_end, key_begin, key_end};
}

Entry random_entry_of(Choices& choices, std::int64_t sequence, std::int64_t head, const Box& box) {
  return {sequence, head, choices.between(box.query_begin, box.query_end - 1),
          choices.between(box.key_begin, box.key_end - 1)};
}

Entry random_entry(Choices& choices, const Problem& problem) {
  const std::int64_t sequence = choices.between(0, problem.b() - 1);
  const std::int64_t head = choices.between(0, problem.h_q - 1);
  return random_entry_of(choices, sequence, head,
                         variant::entries_of(problem.sequences[static_cast<std::size_t>(sequence)]));
}

variant::Place random_place(Choices& choices) {
  if (choices.once_in(6)) {
    variant::Place place{};
    for (std::int32_t& coordinate : place) coordinate = choices.int32();
    return place;
  }
  const Problem problem = random_problem(choices);
  const Entry entry = random_entry(choices, problem);
  return variant::place_of(problem, entry.sequence, entry.head, entry.query_index, entry.key_index);
}

float random_score(Choices& choices) { return static_cast<float>(choices.real()); }

}  // namespace tilewise::laws
