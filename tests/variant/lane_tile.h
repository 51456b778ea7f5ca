// Random tiles for the tests of lanes, in strips whose surroundings must stay as they are.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <span>
#include <vector>

#include "tests/variant/random_graph.h"
#include "variant/lanes/runner.h"

namespace tilewise::variant {

struct AlignedWorkspace {
  explicit AlignedWorkspace(const LaneProgram& program)
      : blocks(static_cast<std::size_t>(program.workspace_bytes() / LaneProgram::kWorkspaceAlignment)) {}
  std::span<std::byte> bytes() { return std::as_writable_bytes(std::span(blocks)); }

  struct alignas(LaneProgram::kWorkspaceAlignment) Block {
    std::byte bytes[LaneProgram::kWorkspaceAlignment];
  };
  std::vector<Block> blocks;
};

/// A strip of a tile with words around it that nothing may touch.
class GuardedStrip {
 public:
  static constexpr std::int32_t kGuard = 0x5AFE5AFE;

  GuardedStrip(std::int64_t outer, std::int64_t inner, std::int64_t gap)
      : outer_(outer),
        inner_(inner),
        stride_(inner + gap),
        words_(static_cast<std::size_t>(outer * stride_ + 2 * gap)) {
    std::fill(words_.begin(), words_.end(), kGuard);
    first_ = gap;
  }
  std::int32_t& at(std::int64_t o, std::int64_t i) {
    return words_[static_cast<std::size_t>(first_ + o * stride_ + i)];
  }
  TileStrip strip() { return {words_.data() + first_, stride_}; }

  bool is_guarded() const {
    for (std::size_t w = 0; w < words_.size(); ++w) {
      const std::int64_t from_first = static_cast<std::int64_t>(w) - first_;
      const bool inside = from_first >= 0 && from_first / stride_ < outer_ && from_first % stride_ < inner_;
      if (!inside && words_[w] != kGuard) return false;
    }
    return true;
  }

 private:
  std::int64_t outer_, inner_, stride_, first_;
  std::vector<std::int32_t> words_;
};

inline bool same_word(Type type, std::int32_t got, std::int32_t want) {
  if (got == want) return true;
  return type == Type::real && std::isnan(std::bit_cast<float>(got)) && std::isnan(std::bit_cast<float>(want));
}

inline std::int32_t word_of(Type type, Value<float> value) {
  switch (type) {
    case Type::boolean: return value.boolean ? -1 : 0;
    case Type::int32: return value.int32;
    case Type::real: return std::bit_cast<std::int32_t>(value.real);
  }
  return 0;
}

inline Place entry(Place origin, std::int64_t query, std::int64_t key) {
  const auto step = [&](Coordinate c, std::int64_t by) {
    auto& field = origin[static_cast<std::size_t>(c)];
    field = static_cast<std::int32_t>(static_cast<std::uint32_t>(field) + static_cast<std::uint32_t>(by));
  };
  for (auto c : {Coordinate::query, Coordinate::query_index, Coordinate::query_token}) step(c, query);
  for (auto c : {Coordinate::key, Coordinate::key_index, Coordinate::key_token}) step(c, key);
  return origin;
}

/// The place of a sequence's query and key 0: indices 0, anything else random.
inline Place random_origin(Random& random) {
  Place origin{};
  for (auto& field : origin) field = random.once_in(4) ? random.int32() : random.between(-70, 200);
  origin[static_cast<std::size_t>(Coordinate::query_index)] = 0;
  origin[static_cast<std::size_t>(Coordinate::key_index)] = 0;
  return origin;
}

inline Box random_box(Random& random, std::int64_t most) {
  const auto size = [&] { return random.between(1, static_cast<std::int32_t>(most)); };
  const std::int64_t query = random.between(0, 300), key = random.between(0, 300);
  return {query, query + size(), key, key + size()};
}

inline LaneOptions random_options(Random& random, std::int64_t most) {
  const auto& isas = available_isas();
  return {.layout = random.once_in(2) ? TileLayout::queries_inner : TileLayout::keys_inner,
          .most_queries = most,
          .most_keys = most,
          .isa = isas[random.below(isas.size())]};
}

/// A tile of random scores, and strips for the outputs.
struct Tile {
  Tile(Random& random, const Box& its_box, TileLayout its_layout, std::size_t outputs)
      : box(its_box),
        layout(its_layout),
        outer(layout == TileLayout::queries_inner ? box.key_end - box.key_begin : box.query_end - box.query_begin),
        inner(box.entries() / outer),
        gap(static_cast<std::int64_t>(random.below(4))),
        score(outer, inner, gap),
        seed(outer, inner, gap),
        results(outputs, GuardedStrip(outer, inner, gap)) {
    for (std::int64_t o = 0; o < outer; ++o) {
      for (std::int64_t i = 0; i < inner; ++i) {
        score.at(o, i) = std::bit_cast<std::int32_t>(random.real());
        seed.at(o, i) = std::bit_cast<std::int32_t>(random.real());
      }
    }
  }
  std::vector<TileStrip> outputs() {
    std::vector<TileStrip> strips;
    for (auto& result : results) strips.push_back(result.strip());
    return strips;
  }
  std::int64_t query(std::int64_t o, std::int64_t i) const {
    return box.query_begin + (layout == TileLayout::queries_inner ? i : o);
  }
  std::int64_t key(std::int64_t o, std::int64_t i) const {
    return box.key_begin + (layout == TileLayout::queries_inner ? o : i);
  }

  Box box;
  TileLayout layout;
  std::int64_t outer, inner, gap;
  GuardedStrip score, seed;
  std::vector<GuardedStrip> results;
};

}  // namespace tilewise::variant
