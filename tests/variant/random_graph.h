// Random numbers, and random graphs as no recording makes them: reads outside of their tables, nodes that nothing
// needs, parts shared in any way. For what must take any graph; tests/laws/random_variant.h makes variants as callers
// do, with data to bind. Everything follows from a seed that the property prints.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "tilewise/error.h"
#include "variant/build.h"
#include "variant/operations/operations.h"
#include "variant/scalar.h"

namespace tilewise::variant {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  std::uint32_t bits() { return static_cast<std::uint32_t>(engine_() >> 32); }
  std::size_t below(std::size_t count) { return static_cast<std::size_t>(engine_() % count); }
  bool once_in(std::size_t count) { return below(count) == 0; }
  std::int32_t between(std::int32_t low, std::int32_t high) {
    return static_cast<std::int32_t>(
        low + static_cast<std::int64_t>(below(static_cast<std::size_t>(std::int64_t{high} - low + 1))));
  }

  /// Mostly small, sometimes extreme.
  std::int32_t int32() {
    if (once_in(8)) return kInts[below(std::size(kInts))];
    return once_in(4) ? static_cast<std::int32_t>(bits()) : between(-100, 100);
  }

  /// Mostly small, sometimes special, sometimes any bit pattern.
  float real() {
    if (once_in(8)) return kReals[below(std::size(kReals))];
    if (once_in(8)) return std::bit_cast<float>(bits());
    return static_cast<float>(between(-1 << 20, 1 << 20)) * 0x1p-17f;
  }

 private:
  static constexpr std::int32_t kInts[] = {
      0, 1, -1, 31, 32, std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()};
  static constexpr float kReals[] = {0.0f,
                                     -0.0f,
                                     1.0f,
                                     -1.0f,
                                     std::numeric_limits<float>::infinity(),
                                     -std::numeric_limits<float>::infinity(),
                                     std::numeric_limits<float>::quiet_NaN(),
                                     std::numeric_limits<float>::max(),
                                     std::numeric_limits<float>::min(),
                                     std::numeric_limits<float>::denorm_min()};
  std::mt19937_64 engine_;
};

enum class Chosen : std::uint8_t {
  all,    // any of the list
  exact,  // those with the same bits in every reading
};

/// A graph of all coordinates, the score, a few numbers and `operations` random operations and reads of `tables`.
inline Graph random_graph(Random& random, int operations, const std::vector<Table>& tables = {},
                          Chosen chosen = Chosen::all) {
  Graph graph;
  for (int c = 0; c < kCoordinates; ++c) graph.add_coordinate(static_cast<Coordinate>(c));
  graph.add_score();
  graph.add_constant(Type::boolean, 1);
  for (int i = 0; i < 3; ++i) {
    graph.add_constant(Type::int32, random.between(-5, 5));
    make_number(graph, Type::int32, random.int32());
    make_number(graph, Type::real, random.between(-50, 50) * 0.25);
  }
  for (Coordinate q : {Coordinate::query, Coordinate::query_index}) {  // differences would else be rare
    const NodeId pair[] = {graph.add_coordinate(q), graph.add_coordinate(Coordinate::key)};
    make_operation(graph, number_of<Subtraction>, pair);
  }
  const auto any_of_type = [&](Type type) {
    for (;;) {  // the leaves above hold every type; recent nodes are likelier, so that graphs grow deep
      const std::size_t size = graph.size();
      const std::size_t id = random.once_in(2) ? size - 1 - random.below(size / 2) : random.below(size);
      if (graph[static_cast<NodeId>(id)].type == type) return static_cast<NodeId>(id);
    }
  };
  const auto any_number = [&] { return any_of_type(random.once_in(2) ? Type::int32 : Type::real); };
  const auto operand = [&](Rule rule, int place) {
    switch (rule) {
      case Rule::integer:
      case Rule::to_real: return any_of_type(Type::int32);
      case Rule::logic: return any_of_type(Type::boolean);
      case Rule::to_int: return any_of_type(Type::real);
      case Rule::select: return place == 0 ? any_of_type(Type::boolean) : any_number();
      default: return any_number();
    }
  };
  for (int made = 0; made < operations;) {
    std::vector<NodeId> operands;
    if (!tables.empty() && random.once_in(6)) {
      const Table& table = tables[random.below(tables.size())];
      for (int axis = 0; axis < table.rank(); ++axis) operands.push_back(any_of_type(Type::int32));
      make_read(graph, table, operands, random.once_in(2));
      ++made;
      continue;
    }
    const std::size_t number = random.below(kInfo.size());
    if (chosen == Chosen::exact && kInfo[number].error.largest() != 0) continue;
    for (int i = 0; i < kInfo[number].operands; ++i) operands.push_back(operand(kInfo[number].rule, i));
    try {
      make_operation(graph, static_cast<std::int32_t>(number), operands);
      ++made;
    } catch (const Error&) {  // a divisor of 0, an exponent that is no constant: draw again
    }
  }
  return graph;
}

}  // namespace tilewise::variant
