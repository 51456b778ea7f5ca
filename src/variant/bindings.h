// What a call binds to a variant's slots, checked and in the graph's order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "variant/graph.h"

namespace tilewise::variant {

/// A table's data as a reading sees it.
struct BoundTable {
  const std::byte* data = nullptr;  // [extents], strided
  DType dtype = DType::float32;
  int rank = 0;
  std::array<std::int64_t, kMaxRank> extents{};
  std::array<std::int64_t, kMaxRank> strides{};  // in elements

  bool is_empty() const;

  /// Whether the elements lie row by row without gaps.
  bool is_contiguous() const;
  std::int64_t elements() const;

  /// Where the element at an index inside the extents lies.
  const std::byte* address(std::span<const std::int64_t> index) const;

  /// That element as a double (a bool is 0 or 1).
  double at(std::span<const std::int64_t> index) const;
};

struct Bound {
  std::vector<BoundTable> tables;  // [graph.tables()]
  std::vector<double> parameters;  // [graph.parameters()]
  std::vector<double> literals;    // [slots]
};

/// Whether the data of tables, block tables too, can be looked at here: a GPU's cannot.
enum class TableData : std::uint8_t { readable, elsewhere };

/// Checks a call's bindings against the graph. Throws Error on a table or parameter that is not bound, bound twice,
/// bound though frozen, or not of this variant; on a wrong rank or dtype, negative extents, null data, values outside
/// a declared range, int64 values outside int32; but values only where they are readable.
Bound bind(const Graph& graph, const Bindings& bindings);

/// The same into `bound`, whose memory is used again.
void bind(const Graph& graph, const std::vector<TableBinding>& tables, const std::vector<ParameterBinding>& parameters,
          Bound& bound, TableData data = TableData::readable);

/// A tensor as the data of a table: checks rank, dtype, extents and data.
BoundTable view_of(const Table& table, const ConstTensor& data);

/// The numbers that a dtype can hold, by which reads of unbound tables are bounded.
struct ValueRange {
  double low, high;
};
ValueRange range_of(DType dtype);

/// The smallest and largest value that is there, leaving NaN aside. The table must not be empty.
struct ValueSummary {
  double low, high;
  bool has_nan;
};
ValueSummary summarise(const BoundTable& table);

/// Throws Error where a value lies outside the range of `info`, or is NaN.
void expect_values_in_range(const Table::Info& info, const BoundTable& table);

/// Calls `visit(index)` for every index of a table in row-major order.
template <class Visit>
void for_each_index(const BoundTable& table, Visit visit) {
  if (table.is_empty()) return;
  std::array<std::int64_t, kMaxRank> index{};
  const std::span<const std::int64_t> current(index.data(), static_cast<std::size_t>(table.rank));
  for (int axis = table.rank; axis >= 0;) {
    visit(current);
    for (axis = table.rank - 1; axis >= 0; --axis) {
      auto& position = index[static_cast<std::size_t>(axis)];
      if (++position < table.extents[static_cast<std::size_t>(axis)]) break;
      position = 0;
    }
  }
}

}  // namespace tilewise::variant
