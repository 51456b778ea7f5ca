// The traffic model: formulas over shapes and kept tiles. Their sources are named where they are declared.
#include <algorithm>

#include "core/fail.h"
#include "core/round_up.h"
#include "tilewise/tiles.h"

namespace tilewise {
namespace {

constexpr double kFloat32 = 4;

/// Bytes of the matrices of one head.
struct Matrices {
  double q, k, v, o;  // o, d_o
  double scores;      // one matrix of [s_q, s_kv]
};

void expect_valid(const TrafficShape& shape) {
  const auto expect = [](const char* name, std::int64_t value) {
    if (value < 0) fail_argument("traffic: {} is {}, expected 0 or more", name, value);
  };
  expect("s_q", shape.s_q);
  expect("s_kv", shape.s_kv);
  expect("d_qk", shape.d_qk);
  expect("d_v", shape.d_v);
  for (const std::int64_t bytes : {shape.bytes_q, shape.bytes_kv, shape.bytes_o, shape.bytes_s})
    expect("the bytes of an element", bytes);
}

double product(std::int64_t a, std::int64_t b) { return static_cast<double>(a) * static_cast<double>(b); }

Matrices matrices_of(const TrafficShape& shape) {
  expect_valid(shape);
  const auto bytes = [](std::int64_t rows, std::int64_t columns, std::int64_t size) {
    return product(rows, columns) * static_cast<double>(size);
  };
  return {.q = bytes(shape.s_q, shape.d_qk, shape.bytes_q),
          .k = bytes(shape.s_kv, shape.d_qk, shape.bytes_kv),
          .v = bytes(shape.s_kv, shape.d_v, shape.bytes_kv),
          .o = bytes(shape.s_q, shape.d_v, shape.bytes_o),
          .scores = bytes(shape.s_q, shape.s_kv, shape.bytes_s)};
}

/// How many rows and columns of entries kept tiles cover. Sizes of tiles at the edges are what is left.
struct Kept {
  double query_rows = 0;      // queries of rows of tiles that keep anything
  double key_rows = 0;        // likewise keys
  double keys_passed = 0;     // keys over all kept tiles
  double queries_passed = 0;  // queries over all kept tiles
};

Kept kept_of(const TrafficShape& shape, const TileMap& map) {
  const auto tiles_along = [](std::int64_t length, std::int64_t size) {
    return size < 1 ? std::int64_t{-1} : ceil_div(length, size);
  };
  if (map.rows != tiles_along(shape.s_q, map.tile.queries) || map.columns != tiles_along(shape.s_kv, map.tile.keys)) {
    fail_argument("traffic: the map has {} x {} tiles of {} x {} entries, expected a map of s_q = {} and s_kv = {}",
                  map.rows, map.columns, map.tile.queries, map.tile.keys, shape.s_q, shape.s_kv);
  }
  Kept kept;
  const auto add = [](const std::vector<std::int64_t>& counts, std::int64_t size, std::int64_t length, double& rows,
                      double& passed) {
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const std::int64_t entries = std::min(size, length - static_cast<std::int64_t>(i) * size);
      if (counts[i] > 0) rows += static_cast<double>(entries);
      passed += product(counts[i], entries);
    }
  };
  add(map.kept_in_row, map.tile.queries, shape.s_q, kept.query_rows, kept.queries_passed);
  add(map.kept_in_column, map.tile.keys, shape.s_kv, kept.key_rows, kept.keys_passed);
  return kept;
}

/// Bytes of a row of q and so on.
struct RowBytes {
  double q, o, kv;
};
RowBytes row_bytes_of(const TrafficShape& shape) {
  return {.q = product(shape.d_qk, shape.bytes_q),
          .o = product(shape.d_v, shape.bytes_o),
          .kv = product(shape.d_qk + shape.d_v, shape.bytes_kv)};
}

}  // namespace

Traffic standard_forward_traffic(const TrafficShape& shape) {
  const Matrices m = matrices_of(shape);
  return {.read = m.q + m.k + m.scores + m.scores + m.v, .written = m.scores + m.scores + m.o};
}

Traffic standard_backward_traffic(const TrafficShape& shape) {
  const Matrices m = matrices_of(shape);
  const double for_d_v = m.scores + m.o, for_d_p = m.o + m.v, for_d_s = m.scores + m.scores;
  const double for_d_q = m.scores + m.k, for_d_k = m.scores + m.q;
  return {.read = for_d_v + for_d_p + for_d_s + for_d_q + for_d_k, .written = m.v + m.scores + m.scores + m.q + m.k};
}

Traffic tiled_forward_traffic(const TrafficShape& shape, const TileMap& map) {
  expect_valid(shape);
  const Kept kept = kept_of(shape, map);
  const RowBytes row = row_bytes_of(shape);
  return {.read = kept.query_rows * row.q + kept.keys_passed * row.kv,
          .written = static_cast<double>(shape.s_q) * (row.o + kFloat32)};
}

Traffic tiled_backward_traffic(const TrafficShape& shape, const TileMap& map) {
  expect_valid(shape);
  const Kept kept = kept_of(shape, map);
  const RowBytes row = row_bytes_of(shape);
  const auto queries = static_cast<double>(shape.s_q), keys = static_cast<double>(shape.s_kv);
  const double d_q_row = static_cast<double>(shape.d_qk) * kFloat32;
  Traffic traffic;
  traffic.read += queries * 2 * row.o;  // D from d_o and o
  traffic.written += queries * kFloat32;
  traffic.read += kept.key_rows * row.kv;
  traffic.read += kept.queries_passed * (row.q + row.o + 2 * kFloat32 + d_q_row);
  traffic.written += kept.queries_passed * d_q_row;
  traffic.written += keys * row.kv;
  traffic.read += queries * d_q_row;
  traffic.written += queries * row.q;
  return traffic;
}

TileSizes flash_tiles(const TrafficShape& shape, std::int64_t fast_elements) {
  expect_valid(shape);
  const std::int64_t four_d = 2 * (shape.d_qk + shape.d_v);
  if (four_d == 0 || fast_elements < four_d) {
    fail_argument("traffic: the fast memory holds {} elements, expected at least 4d = 2 (d_qk + d_v) = {}, and d > 0",
                  fast_elements, four_d);
  }
  const std::int64_t keys = ceil_div(fast_elements, four_d);
  return {.queries = std::min(keys, std::max<std::int64_t>(four_d / 4, 1)), .keys = keys};
}

Traffic flash_forward_traffic(const TrafficShape& shape, std::int64_t fast_elements) {
  const std::int64_t keys = flash_tiles(shape, fast_elements).keys;
  const auto passes = static_cast<double>(ceil_div(shape.s_kv, keys));
  const Matrices m = matrices_of(shape);
  const double statistics = 2 * kFloat32 * static_cast<double>(shape.s_q);
  return {.read = m.k + m.v + passes * (m.q + m.o + statistics), .written = passes * (m.o + statistics)};
}

}  // namespace tilewise
