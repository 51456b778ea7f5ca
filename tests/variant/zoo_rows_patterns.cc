#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <set>

#include "core/philox.h"
#include "tests/variant/zoo_rows.h"

namespace tilewise {
namespace {

using P = const Point&;
using Ints = std::vector<int>;

/// The part of a packed sequence that holds a token, or -1 behind the last.
int part_of(const Ints& lengths, int token) {
  int end = 0;
  for (std::size_t part = 0; part < lengths.size(); ++part) {
    end += lengths[part];
    if (token < end) return static_cast<int>(part);
  }
  return -1;
}

bool is_ancestor_or_self(const Ints& parents, int ancestor, int node) {
  while (node > ancestor) node = parents[static_cast<std::size_t>(node)];
  return node == ancestor;
}

Row tree_row(const std::string& call, Ints parents, int prefix) {
  const int tokens = prefix + static_cast<int>(parents.size());
  return {.call = call,
          .keeps =
              [=](P p) {
                if (p.query >= tokens || p.key >= tokens) return false;
                if (p.key < prefix) return p.key <= p.query;
                return p.query >= prefix && is_ancestor_or_self(parents, p.key - prefix, p.query - prefix);
              },
          .shapes = {{.s_q = static_cast<int>(parents.size()), .s_kv = tokens},
                     {.s_q = tokens, .s_kv = tokens},
                     {.b = 2, .h_q = 2, .h_kv = 1, .s_q = tokens + 3, .s_kv = tokens + 3}}};
}

/// One axis of NATTEN: the places of the query's dilation group in order, the leader's window in that list shifted
/// inwards step by step.
bool is_neighbour(int query, int key, int length, int window, int stride, int dilation) {
  Ints group;
  for (int place = 0; place < length; ++place) {
    if (place % dilation == query % dilation) group.push_back(place);
  }
  const int count = static_cast<int>(group.size());
  const int own = static_cast<int>(std::find(group.begin(), group.end(), query) - group.begin());
  const int leader = std::min(own - own % stride + stride / 2, count - 1);
  int first = leader - window / 2;
  while (first < 0) ++first;
  while (first + window > count) --first;
  return std::find(group.begin() + first, group.begin() + first + window, key) != group.begin() + first + window;
}

Row neighbourhood_row(const std::string& call, Ints extents, Ints window, Ints stride, Ints dilation) {
  const int count = std::accumulate(extents.begin(), extents.end(), 1, std::multiplies<>());
  return {.call = call,
          .keeps =
              [=](P p) {
                if (p.query >= count || p.key >= count) return false;
                int query = p.query, key = p.key;
                for (std::size_t axis = extents.size(); axis-- > 0;) {
                  const int length = extents[axis];
                  if (!is_neighbour(query % length, key % length, length, window[axis], stride[axis], dilation[axis]))
                    return false;
                  query /= length;
                  key /= length;
                }
                return true;
              },
          .shapes = {{.s_q = count, .s_kv = count}, {.s_q = count + 2, .s_kv = count + 2}, {.s_q = 3, .s_kv = count}}};
}

/// Which tile each stored position lies in, by walking tiles and then places in storage order.
std::vector<Ints> tiles_of_positions(const Ints& extents, const Ints& tile) {
  Ints tiles(extents.size());
  for (std::size_t axis = 0; axis < tiles.size(); ++axis) tiles[axis] = extents[axis] / tile[axis];
  const int places = std::accumulate(tile.begin(), tile.end(), 1, std::multiplies<>());
  std::vector<Ints> result;
  for (Ints current(tiles.size(), 0);;) {
    result.insert(result.end(), static_cast<std::size_t>(places), current);
    std::size_t axis = tiles.size();
    while (axis > 0 && ++current[axis - 1] == tiles[axis - 1]) current[--axis] = 0;
    if (axis == 0) return result;
  }
}

Row tiled_window_row(const std::string& call, Ints extents, Ints tile, Ints window, int text) {
  const auto tiles = tiles_of_positions(extents, tile);
  const int image = static_cast<int>(tiles.size());
  return {.call = call,
          .keeps =
              [=](P p) {
                if (p.query >= image + text || p.key >= image + text) return false;
                if (p.query >= image || p.key >= image) return true;
                for (std::size_t axis = 0; axis < extents.size(); ++axis) {
                  const int query = tiles[static_cast<std::size_t>(p.query)][axis];
                  const int key = tiles[static_cast<std::size_t>(p.key)][axis];
                  int first = query - window[axis] / 2;
                  while (first < 0) ++first;
                  while (first + window[axis] > extents[axis] / tile[axis]) --first;
                  if (key < first || key >= first + window[axis]) return false;
                }
                return true;
              },
          .shapes = {{.s_q = image + text, .s_kv = image + text}, {.s_q = image + 3, .s_kv = image + text + 3}}};
}

struct Bigbird {
  int block, window_blocks, global_blocks, random_blocks, length;
  std::uint32_t seed;

  bool keeps(P p) const {
    if (p.query >= length || p.key >= length) return false;
    return seen_by(p.query / block).count(p.key / block) != 0;
  }

  /// Zaheer et al. 2020, section 2 and the blocked form of its appendix: window, global and random key blocks of a row.
  std::set<int> seen_by(int row) const {
    const int blocks = (length + block - 1) / block;
    std::set<int> seen;
    for (int column = 0; column < blocks; ++column) {
      const bool in_window = std::abs(row - column) <= (window_blocks - 1) / 2;
      if (in_window || row < global_blocks || column < global_blocks) seen.insert(column);
    }
    const std::size_t wanted =
        std::min(seen.size() + static_cast<std::size_t>(random_blocks), static_cast<std::size_t>(blocks));
    for (std::uint32_t draw = 0; seen.size() < wanted; ++draw) {
      const auto words = philox4x32({draw / 4, static_cast<std::uint32_t>(row), 0, 0}, {seed, 0});
      seen.insert(static_cast<int>(static_cast<double>(words[draw % 4]) / 0x1p32 * blocks));
    }
    return seen;
  }
};

Row bigbird_row(Bigbird b) {
  const std::string call = "bigbird(" + std::to_string(b.block) + ", " + std::to_string(b.window_blocks) + ", " +
                           std::to_string(b.global_blocks) + ", " + std::to_string(b.random_blocks) + ", " +
                           std::to_string(b.length) + ", " + std::to_string(static_cast<int>(b.seed)) + ")";
  return {.call = call,
          .keeps = [b](P p) { return b.keeps(p); },
          .shapes = {{.s_q = b.length, .s_kv = b.length}, {.s_q = 3, .s_kv = b.length + 5}}};
}

std::vector<Row> list_rows() {
  std::vector<Row> rows;
  const std::vector<Shape> packed = {
      {.s_q = 12, .s_kv = 12}, {.s_q = 15, .s_kv = 15}, {.b = 2, .h_q = 2, .h_kv = 1, .s_q = 7, .s_kv = 7}};
  rows.push_back({.call = "documents([3, 0, 5, 4])",
                  .keeps =
                      [](P p) {
                        const int part = part_of({3, 0, 5, 4}, p.query_token);
                        return part >= 0 && part == part_of({3, 0, 5, 4}, p.key_token);
                      },
                  .shapes = packed});
  rows.back().refuses = {{"documents([])", "lengths sum to 0"},
                         {"documents([0, 0])", "lengths sum to 0"},
                         {"documents([3, -1])", "lengths is -1"},
                         {"documents([2147483647, 1])", "lengths sum to 2147483648"}};
  for (int prefix : {4, 0}) {
    rows.push_back({.call = "shared_prefix(" + std::to_string(prefix) + ", [3, 5])",
                    .keeps =
                        [=](P p) {
                          const int part = part_of({prefix, 3, 5}, p.query_token);
                          if (part < 0 || p.key_token > p.query_token) return false;
                          return p.key_token < prefix || part_of({prefix, 3, 5}, p.key_token) == part;
                        },
                    .shapes = packed});
  }
  rows.back().refuses = {{"shared_prefix(-1, [3])", "prefix is -1"},
                         {"shared_prefix(4, [])", "suffixes sum to 0"},
                         {"shared_prefix(2147483647, [1])", "sum to 2147483648"}};
  rows.push_back(tree_row("tree([-1, 0, 0, 1, 1, 2], 5)", {-1, 0, 0, 1, 1, 2}, 5));
  rows.push_back(tree_row("tree([-1, -1, 0, 1, 0, 2, 4, 3, -1, 2], 0)", {-1, -1, 0, 1, 0, 2, 4, 3, -1, 2}, 0));
  rows.push_back(tree_row("tree([-1])", {-1}, 0));
  rows.back().refuses = {{"tree([], 0)", "the number of parents is 0"},
                         {"tree([0], 0)", "the parent of node 0 is 0"},
                         {"tree([-1, 2, 0], 0)", "the parent of node 1 is 2"},
                         {"tree([-1, -2], 0)", "the parent of node 1 is -2"},
                         {"tree([-1], -1)", "prefix is -1"}};

  // Flamingo: media are counted up to and including the query; a text token sees the medium of that number.
  rows.push_back({.call = "cross_to_media([2, 3, 9], 4)",
                  .keeps =
                      [](P p) {
                        int media_so_far = 0;
                        for (int position : {2, 3, 9}) media_so_far += position <= p.query ? 1 : 0;
                        return p.key / 4 + 1 == media_so_far;
                      },
                  .shapes = {{.s_q = 13, .s_kv = 12, .query_offset = 0},
                             {.s_q = 1, .s_kv = 12, .query_offset = 11},
                             {.s_q = 13, .s_kv = 17, .query_offset = 0}}});
  rows.back().refuses = {{"cross_to_media([], 4)", "the number of positions is 0"},
                         {"cross_to_media([-1, 3], 4)", "the first of positions is -1"},
                         {"cross_to_media([3, 3], 4)", "positions are [3, 3], expected ascending ones"},
                         {"cross_to_media([3], 0)", "media_tokens is 0"}};
  rows.push_back({.call = "padding([3, 0, 11])",
                  .keeps =
                      [](P p) {
                        return p.key_index < std::array{3, 0, 11}[static_cast<std::size_t>(p.batch)];
                      },
                  .shapes = {{.b = 3, .h_q = 2, .h_kv = 2, .s_q = 4, .s_kv = 12}, {.b = 2, .s_q = 9, .s_kv = 5}}});
  rows.back().refuses = {{"padding([])", "lengths sum to 0"}, {"padding([4, -1])", "lengths is -1"}};
  rows.push_back({.call = "transfusion([2, 5, 9], [3, 1, 4])",
                  .keeps =
                      [](P p) {
                        const auto span = [](int position) {
                          for (const auto& [start, length] : {std::pair{2, 3}, {5, 1}, {9, 4}}) {
                            if (start <= position && position < start + length) return start;
                          }
                          return -1;
                        };
                        return p.key <= p.query || (span(p.key) >= 0 && span(p.key) == span(p.query));
                      },
                  .shapes = {{.s_q = 17, .s_kv = 17}, {.s_q = 3, .s_kv = 12}}});
  rows.back().refuses = {{"transfusion([], [])", "0 starts and 0 lengths"},
                         {"transfusion([4], [])", "1 starts and 0 lengths"},
                         {"transfusion([4, 6], [3, 1])", "a start is 6, expected at least 7"},
                         {"transfusion([4], [0])", "a length is 0"},
                         {"transfusion([-1], [2])", "a start is -1"}};
  return rows;
}

std::vector<Row> grid_rows() {
  std::vector<Row> rows;
  for (int axis : {0, 1}) {
    rows.push_back({.call = "axial(3, 5, " + std::to_string(axis) + ")",
                    .keeps =
                        [=](P p) {
                          if (p.query >= 15 || p.key >= 15) return false;
                          return axis == 0 ? (p.query - p.key) % 5 == 0 : p.query / 5 == p.key / 5;
                        },
                    .shapes = {{.s_q = 15, .s_kv = 15}, {.s_q = 4, .s_kv = 17}}});
  }
  rows.back().refuses = {{"axial(0, 4, 0)", "height is 0"},
                         {"axial(4, 0, 0)", "width is 0"},
                         {"axial(4, 4, 2)", "axis is 2, expected 0 to 1"},
                         {"axial(65536, 65536, 0)", "height * width is the product of"}};
  rows.push_back(neighbourhood_row("neighbourhood_1d(13, 5)", {13}, {5}, {1}, {1}));
  rows.push_back(neighbourhood_row("neighbourhood_1d(13, 4, 3)", {13}, {4}, {3}, {1}));
  rows.push_back(neighbourhood_row("neighbourhood_1d(17, 4, 2, 3)", {17}, {4}, {2}, {3}));
  rows.push_back(neighbourhood_row("neighbourhood_1d(12, 6, 6, 2)", {12}, {6}, {6}, {2}));
  rows.back().refuses = {{"neighbourhood_1d(0, 1)", "length is 0"},
                         {"neighbourhood_1d(8, 0)", "window is 0"},
                         {"neighbourhood_1d(8, 9)", "spans 9 places, expected at most the axis's 8"},
                         {"neighbourhood_1d(8, 3, 0)", "stride is 0"},
                         {"neighbourhood_1d(8, 3, 4)", "stride is 4, expected at most the window's 3"},
                         {"neighbourhood_1d(8, 3, 1, 0)", "dilation is 0"},
                         {"neighbourhood_1d(8, 3, 1, 3)", "spans 9 places"}};
  rows.push_back(neighbourhood_row("neighbourhood_2d([5, 7], [3, 4])", {5, 7}, {3, 4}, {1, 1}, {1, 1}));
  rows.push_back(neighbourhood_row("neighbourhood_2d([7, 6], [3, 2], [2, 1], [2, 3])", {7, 6}, {3, 2}, {2, 1}, {2, 3}));
  rows.back().refuses = {{"neighbourhood_2d([8], [3, 3])", "extents is [8], expected 2 numbers"},
                         {"neighbourhood_2d([8, 8], [3])", "window is [3], expected 2 numbers"},
                         {"neighbourhood_2d([8, 8], [3, 3], [1], [1, 1])", "stride is [1]"}};
  rows.push_back(
      neighbourhood_row("neighbourhood_3d([2, 4, 5], [1, 3, 3])", {2, 4, 5}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}));
  rows.push_back(neighbourhood_row("neighbourhood_3d([3, 4, 5], [2, 2, 3], [2, 1, 3], [1, 2, 1])", {3, 4, 5}, {2, 2, 3},
                                   {2, 1, 3}, {1, 2, 1}));
  rows.back().refuses = {{"neighbourhood_3d([8, 8], [3, 3, 3])", "extents is [8, 8], expected 3 numbers"},
                         {"neighbourhood_3d([2048, 2048, 2048], [3, 3, 3])", "the number of places is the product of"}};
  rows.push_back(tiled_window_row("tiled_window_2d([6, 8], [2, 2], [1, 3])", {6, 8}, {2, 2}, {1, 3}, 0));
  rows.push_back(tiled_window_row("tiled_window_2d([9, 2], [3, 1], [3, 1], 4)", {9, 2}, {3, 1}, {3, 1}, 4));
  rows.back().refuses = {{"tiled_window_2d([8, 8], [3, 4], [1, 1])", "an axis of 8 in tiles of 3"},
                         {"tiled_window_2d([8, 8], [2, 2], [2, 1])", "window is 2, expected an odd number"},
                         {"tiled_window_2d([8, 8], [2, 2], [5, 1])", "window is 5, expected 1 to 4"},
                         {"tiled_window_2d([8, 8], [2, 2], [1, 1], -1)", "text is -1"}};
  rows.push_back(
      tiled_window_row("tiled_window_3d([2, 4, 6], [1, 2, 2], [1, 1, 3])", {2, 4, 6}, {1, 2, 2}, {1, 1, 3}, 0));
  rows.push_back(
      tiled_window_row("tiled_window_3d([3, 4, 2], [1, 2, 1], [3, 1, 1], 2)", {3, 4, 2}, {1, 2, 1}, {3, 1, 1}, 2));
  rows.back().refuses = {{"tiled_window_3d([8, 8], [2, 2], [1, 1])", "expected 3 numbers"}};
  rows.push_back(bigbird_row({3, 3, 1, 2, 40, 0}));
  rows.push_back(bigbird_row({4, 1, 0, 1, 37, 7}));
  rows.push_back(bigbird_row({2, 5, 2, 9, 20, 0xfffffffe}));  // seed -2; more random blocks than are left
  rows.push_back(bigbird_row({8, 3, 4, 3, 11, 1}));           // all blocks global
  rows.back().refuses = {{"bigbird(0, 3, 1, 1, 64, 0)", "block is 0"},
                         {"bigbird(8, 2, 1, 1, 64, 0)", "window_blocks is 2, expected an odd number"},
                         {"bigbird(8, -1, 1, 1, 64, 0)", "window_blocks is -1"},
                         {"bigbird(8, 3, -1, 1, 64, 0)", "global_blocks is -1"},
                         {"bigbird(8, 3, 1, -1, 64, 0)", "random_blocks is -1"},
                         {"bigbird(8, 3, 1, 1, 0, 0)", "length is 0"},
                         {"bigbird(1, 3, 1, 1, 100000, 0)", "length / block is 100000"}};
  return rows;
}

std::vector<Row> table_rows() {
  std::vector<Row> rows;
  const auto by_entry = [](int rank, P p) {
    switch (rank) {
      case 2: return noise({p.query_index, p.key_index});
      case 3: return noise({p.head, p.query_index, p.key_index});
      default: return noise({p.batch, p.head, p.query_index, p.key_index});
    }
  };
  const auto last = [](std::vector<std::int64_t> extents, int rank) {
    extents.erase(extents.begin(), extents.end() - rank);
    return extents;
  };
  for (int rank : {2, 3, 4}) {
    rows.push_back(
        {.call = "dense_mask(" + std::to_string(rank) + ")",
         .keeps = [=](P p) { return by_entry(rank, p) > 0; },
         .tables =
             [=](const Shape& of) {
               return std::vector<TableData>{{"mask", DType::boolean, last({of.b, of.h_q, of.s_q, of.s_kv}, rank)}};
             }});
  }
  rows.back().refuses = {{"dense_mask(1)", "rank is 1, expected 2 to 4"}, {"dense_mask(5)", "rank is 5"}};
  for (int rank : {2, 3, 4}) {
    rows.push_back({.call = "block_sparse(3, " + std::to_string(rank) + ")",
                    .keeps =
                        [=](P p) {
                          Point block = p;
                          block.query_index = p.query_index / 3;
                          block.key_index = p.key_index / 3;
                          return by_entry(rank, block) > 0;
                        },
                    .tables =
                        [=](const Shape& of) {
                          return std::vector<TableData>{
                              {"blocks", DType::boolean, last({of.b, of.h_q, of.s_q / 3 + 1, of.s_kv / 3 + 1}, rank)}};
                        }});
  }
  rows.back().refuses = {{"block_sparse(0)", "block is 0"}, {"block_sparse(4, 5)", "rank is 5"}};
  return rows;
}

}  // namespace

std::vector<Row> pattern_rows() {
  std::vector<Row> rows;
  for (auto& part : {list_rows(), grid_rows(), table_rows()}) rows.insert(rows.end(), part.begin(), part.end());
  return rows;
}

}  // namespace tilewise
