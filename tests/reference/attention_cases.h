// Variants that together use all that a variant can, each beside the same formula as ordinary C++.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "tests/reference/attention_data.h"
#include "tilewise/variant.h"

namespace tilewise::reference {

/// A table and its data, row-major.
class TableData {
 public:
  TableData(Table table, std::vector<std::int64_t> extents);

  const Table& table() const { return table_; }
  ConstTensor view() const { return ConstTensor(bytes_.data(), table_.dtype(), extents_); }
  const std::vector<std::int64_t>& extents() const { return extents_; }
  std::int64_t size() const { return view().elements(); }
  double get(std::int64_t element) const;
  void set(std::int64_t element, double value);
  double at(std::initializer_list<std::int64_t> index) const;

 private:
  Table table_;
  std::vector<std::int64_t> extents_;
  std::vector<std::byte> bytes_;
};

/// The coordinates of an entry, by the design's words.
struct Where {
  std::int64_t query, key, query_index, key_index, query_token, key_token, queries, keys, batch, head, kv_head;
};

struct Case {
  std::string name;
  Variant variant;
  std::vector<TableData> tables;
  std::vector<ParameterBinding> parameters;
  std::optional<double> scale = {};

  /// The variant again: the entry's score from scale * q.k, or nothing where it is removed.
  std::function<std::optional<long double>(const Case&, long double score, const Where&)> score =
      [](const Case&, long double s, const Where&) { return s; };
  /// The sink's logit.
  std::function<long double(const Case&, const Where&)> sink = nullptr;
  double dropout = 0;

  void bind(ForwardInputs& inputs) const;
};

/// All cases, with tables large enough for the shape. Every one is smooth where random scores fall.
std::vector<Case> attention_cases(const Shape& shape, std::uint64_t seed);

/// Two sequences of grouped heads with offsets and left padding.
Shape ordinary_shape();

/// One to three sequences of up to six queries and seven keys, none included, in any storage.
Shape random_shape(std::uint64_t seed);

}  // namespace tilewise::reference
