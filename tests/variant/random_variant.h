// Random variants of any shape, for the law of the textual form.
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "core/element.h"
#include "tests/variant/random_graph.h"
#include "variant/recording.h"

namespace tilewise::variant {

/// A number of any magnitude; mostly of few digits.
inline double random_double(Random& random) {
  if (random.once_in(3)) return random.real();
  const double value = std::bit_cast<double>(std::uint64_t{random.bits()} << 32 | random.bits());
  return random.once_in(3) && value == value ? value : random.between(-1000, 1000) * 0.01;
}

inline std::string random_name(Random& random) {
  // Few, so that they clash, and some that mean something in a text.
  constexpr std::array<const char*, 9> kNames{"t", "t_2", "a", "b", "query", "s", "let", "exp", "bias"};
  return kNames[random.below(kNames.size())];
}

inline Table random_table(Random& random) {
  constexpr std::array kDTypes{DType::float64, DType::float32, DType::float16, DType::bfloat16,
                               DType::int64,   DType::int32,   DType::uint8,   DType::boolean};
  const DType dtype = kDTypes[random.below(kDTypes.size())];
  const int rank = random.between(1, kMaxRank);
  if (random.once_in(2)) {
    const Table table(random_name(random), dtype, rank);
    const double a = random_double(random), b = random_double(random);
    return random.once_in(2) && a <= b ? table.values_in(a, b) : table;
  }
  std::vector<std::int64_t> extents;
  std::int64_t elements = 1;
  for (int axis = 0; axis < rank; ++axis) elements *= extents.emplace_back(random.between(0, rank == 1 ? 80 : 4));
  const auto size = static_cast<std::size_t>(size_of(dtype));
  std::vector<std::byte> bytes(static_cast<std::size_t>(elements) * size);
  for (std::size_t at = 0; at < bytes.size(); at += size) {
    if (is_floating(dtype)) {
      const double value = random_double(random);
      store_real(bytes.data() + at, dtype, value == value ? value : 0);  // the bits of a NaN are not kept
    } else {
      const std::int32_t largest = dtype == DType::boolean ? 1 : dtype == DType::uint8 ? 255 : 0;
      store_int(bytes.data() + at, dtype, largest == 0 ? random.int32() : random.between(0, largest));
    }
  }
  return Table::frozen(random_name(random), ConstTensor(bytes.data(), dtype, extents));
}

inline Parameter random_parameter(Random& random) {
  if (random.once_in(2)) {
    const std::int32_t a = random.int32(), b = random.int32();
    return Parameter::integer(random_name(random), std::min(a, b), std::max(a, b));
  }
  const double a = random_double(random), b = random_double(random);
  return a <= b ? Parameter(random_name(random), a, b) : Parameter(random_name(random));
}

/// Adds what random_graph leaves out: parameters, numbers of any magnitude, selections of bools.
inline void enrich(Random& random, Graph& graph) {
  const auto any = [&] { return static_cast<NodeId>(random.below(graph.size())); };
  for (int made = 0; made < 12;) {
    const double value = random_double(random);
    if (value != value) continue;
    NodeId fresh = kNoNode;
    switch (random.below(5)) {
      case 0: fresh = graph.add_parameter(random_parameter(random)); break;
      case 1: fresh = graph.add_constant(Type::real, value); break;
      case 2: fresh = graph.add_constant(Type::int32, random.int32()); break;
      case 3: fresh = make_number(graph, Type::int32, random.int32()); break;
      default: fresh = make_number(graph, Type::real, value);
    }
    const std::size_t number = random.below(kInfo.size());
    std::vector<NodeId> operands;
    for (int i = 0; i < kInfo[number].operands; ++i) operands.push_back(random.once_in(2) ? fresh : any());
    try {
      make_operation(graph, static_cast<std::int32_t>(number), operands);
      ++made;
    } catch (const Error&) {  // operands that it does not take: draw again
    }
  }
}

inline bool reads_score(const Graph& graph, NodeId root) {
  const Node& node = graph[root];
  const auto inputs = node.inputs();
  return node.kind == Kind::score ||
         std::any_of(inputs.begin(), inputs.end(), [&](NodeId operand) { return reads_score(graph, operand); });
}

/// Up to four stages over one graph, whose parts they may share, perhaps with a sink and dropout.
inline Variant random_variant(Random& random) {
  std::vector<Table> tables;
  for (std::size_t count = random.below(4); count > 0; --count) tables.push_back(random_table(random));
  Graph graph = random_graph(random, random.between(1, 80), tables);
  enrich(random, graph);

  std::vector<Stage> stages;
  for (std::size_t count = random.below(5); count > 0; --count) {
    const NodeId root = static_cast<NodeId>(graph.size() - 1 - random.below(std::min<std::size_t>(graph.size(), 40)));
    if (graph[root].type == Type::boolean) {
      if (!reads_score(graph, root)) stages.push_back({Stage::Kind::keep, root});  // a predicate is not given the score
    } else {
      stages.push_back({Stage::Kind::score, make_real(graph, root, "a root")});
    }
  }
  NodeId sink = kNoNode;
  for (int tries = 0; tries < 10 && sink == kNoNode && random.once_in(8); ++tries) {
    const auto root = static_cast<NodeId>(random.below(graph.size()));
    try {
      expect_independent_of_entry(graph, root, "a sink");
      sink = make_real(graph, root, "a sink");
    } catch (const Error&) {  // no logit: try another
    }
  }
  const auto dropout = random.once_in(4) ? std::optional(random.bits() * 0x1p-32) : std::nullopt;
  return make_variant(graph, stages, sink, dropout);
}

}  // namespace tilewise::variant
