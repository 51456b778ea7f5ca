// The zoo's test rows: each named variant a second time, as a plain function of one entry written from its source.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tilewise/variant.h"

namespace tilewise {

/// Where an entry lies. The names are At's; the numbers are plain, so that definitions read as in their sources.
struct Point {
  int query, key;
  int query_index, key_index;
  int query_token, key_token;
  int queries, keys;
  int batch;
  int head, kv_head;
};

/// A shape to walk through entry by entry. The query offset is the default of a call unless it is given.
struct Shape {
  int b = 1, h_q = 1, h_kv = 1;
  int s_q = 0, s_kv = 0;
  int query_offset = kByLengths, key_offset = 0;
  static constexpr int kByLengths = 1 << 30;
};

/// Shapes that every row meets unless it names its own: as many keys as queries, more, fewer, one query, offsets,
/// cross-attention; odd lengths; several sequences and heads.
std::vector<Shape> usual_shapes();

/// Data for a table that the call declares.
struct TableData {
  std::string name;
  DType dtype;
  std::vector<std::int64_t> extents;
};

/// What a bound table holds at an index: a number in [-1, 1] that looks random and is exact in float32; for a bool
/// table whether it is above 0.
double noise(std::initializer_list<int> index);

/// A call that a variant does not take, and what the error must say of the argument and its value.
struct Refusal {
  std::string call;
  std::string message;
};

struct Row {
  std::string call;  // in the textual form
  std::function<bool(const Point&)> keeps = [](const Point&) { return true; };
  std::function<double(double, const Point&)> score = [](double s, const Point&) { return s; };
  std::function<double(const Point&)> sink = nullptr;
  std::function<std::vector<TableData>(const Shape&)> tables = [](const Shape&) { return std::vector<TableData>{}; };
  std::vector<Shape> shapes = usual_shapes();
  std::vector<Refusal> refuses = {};
};

std::vector<Row> mask_rows();     // by position: zoo_rows_masks.cc
std::vector<Row> pattern_rows();  // by lists, grids and tables: zoo_rows_patterns.cc
std::vector<Row> score_rows();    // scores and sinks: zoo_rows_scores.cc

/// All of them.
std::vector<Row> all_rows();

/// "window" of "window(3)".
std::string name_of_call(const std::string& call);

/// A test's name for a row.
std::string row_name(const testing::TestParamInfo<Row>& info);

/// Bindings with the memory that they point to.
struct Filled {
  std::vector<std::vector<float>> reals;
  std::vector<std::vector<std::uint8_t>> bools;
  Bindings bindings;
};

/// Noise for the tables that a row's call declares.
Filled fill(const Variant& variant, const std::vector<TableData>& tables);

/// Calls `visit(point)` for every entry of all sequences and heads.
template <class Visit>
void for_each_point(const Shape& shape, Visit visit) {
  const int query_offset =
      shape.query_offset == Shape::kByLengths ? shape.key_offset + shape.s_kv - shape.s_q : shape.query_offset;
  for (int batch = 0; batch < shape.b; ++batch) {
    for (int head = 0; head < shape.h_q; ++head) {
      for (int query = 0; query < shape.s_q; ++query) {
        for (int key = 0; key < shape.s_kv; ++key) {
          const Point point{.query = query_offset + query,
                            .key = shape.key_offset + key,
                            .query_index = query,
                            .key_index = key,
                            .query_token = batch * shape.s_q + query,
                            .key_token = batch * shape.s_kv + key,
                            .queries = shape.s_q,
                            .keys = shape.s_kv,
                            .batch = batch,
                            .head = head,
                            .kv_head = head / (shape.h_q / shape.h_kv)};
          if (point.query >= 0) visit(point);  // the sources know no position before the first
        }
      }
    }
  }
}

}  // namespace tilewise
