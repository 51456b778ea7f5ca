#include "variant/bindings.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>

#include "core/check_tensor.h"
#include "core/element.h"
#include "core/fail.h"

namespace tilewise::variant {
namespace {

std::string indices_text(std::span<const std::int64_t> index) { return fmt::format("[{}]", fmt::join(index, ", ")); }

/// The entry of `given` that binds `handle`; throws unless there is exactly one.
template <class Handle, class Binding>
const Binding& only_binding(const char* what, const Handle& handle, const std::vector<Binding>& given,
                            Handle Binding::*member) {
  const auto binds = [&](const Binding& binding) { return binding.*member == handle; };
  const auto count = std::count_if(given.begin(), given.end(), binds);
  if (count == 0) fail_argument("{} '{}' is not bound; expected one binding in this call", what, handle.name());
  if (count > 1) fail_argument("{} '{}' is bound {} times, expected once", what, handle.name(), count);
  return *std::find_if(given.begin(), given.end(), binds);
}

template <class Handle, class Binding>
void expect_known(const char* what, const std::vector<Handle>& known, const std::vector<Binding>& given,
                  Handle Binding::*member) {
  for (const Binding& binding : given) {
    if (std::find(known.begin(), known.end(), binding.*member) == known.end()) {
      fail_argument(
          "{} '{}' is bound, but the variant does not read it; expected only its own (handles are compared, not names)",
          what, (binding.*member).name());
    }
  }
}

BoundTable bind_table(const Table& table, const std::vector<TableBinding>& given, TableData data) {
  if (const auto frozen = table.frozen_data()) {
    for (const TableBinding& binding : given) {
      if (binding.table == table) fail_argument("table '{}' is frozen, expected no binding in the call", table.name());
    }
    return view_of(table, *frozen);
  }
  const BoundTable view = view_of(table, only_binding("table", table, given, &TableBinding::table).data);
  const bool has_limits = table.has_declared_range() || table.dtype() == DType::int64;
  if (has_limits && data == TableData::readable) expect_values_in_range(table.info(), view);
  return view;
}

double bind_parameter(const Parameter& parameter, const std::vector<ParameterBinding>& given) {
  const double value = only_binding("parameter", parameter, given, &ParameterBinding::parameter).value;
  if (!(parameter.low() <= value && value <= parameter.high())) {
    fail_argument("parameter '{}' is {}, expected {} to {}", parameter.name(), value, parameter.low(),
                  parameter.high());
  }
  if (parameter.type() == Type::int32 && value != std::floor(value)) {
    fail_argument("parameter '{}' is {}, expected an int", parameter.name(), value);
  }
  return value;
}

}  // namespace

bool BoundTable::is_empty() const {
  return std::any_of(extents.begin(), extents.begin() + rank, [](std::int64_t extent) { return extent == 0; });
}

std::int64_t BoundTable::elements() const {
  return std::accumulate(extents.begin(), extents.begin() + rank, std::int64_t{1}, std::multiplies<>());
}

bool BoundTable::is_contiguous() const {
  std::int64_t step = 1;
  for (int axis = rank; axis-- > 0;) {
    const auto a = static_cast<std::size_t>(axis);
    if (extents[a] != 1 && strides[a] != step) return false;
    step *= extents[a];
  }
  return true;
}

const std::byte* BoundTable::address(std::span<const std::int64_t> index) const {
  std::int64_t offset = 0;
  for (std::size_t axis = 0; axis < index.size(); ++axis) offset += index[axis] * strides[axis];
  return data + offset * size_of(dtype);
}

double BoundTable::at(std::span<const std::int64_t> index) const {
  const std::byte* element = address(index);
  return is_floating(dtype) ? load_real(element, dtype) : static_cast<double>(load_int(element, dtype));
}

BoundTable view_of(const Table& table, const ConstTensor& data) {
  if (data.rank != table.rank())
    fail_argument("table '{}': the data has rank {}, expected {}", table.name(), data.rank, table.rank());
  if (data.dtype != table.dtype()) {
    fail_argument("table '{}': the data is {}, expected {}", table.name(), to_string(data.dtype),
                  to_string(table.dtype()));
  }
  BoundTable view{static_cast<const std::byte*>(data.data), data.dtype, data.rank, data.extents, data.strides};
  for (int axis = 0; axis < data.rank; ++axis) {
    const std::int64_t extent = data.extents[static_cast<std::size_t>(axis)];
    if (extent < 0 || extent > std::numeric_limits<std::int32_t>::max()) {
      fail_argument("table '{}': axis {} has extent {}, expected 0 to 2147483647", table.name(), axis, extent);
    }
  }
  if (!is_addressable(data)) {
    fail_argument(
        "table '{}': the data has extents {} and strides [{}], expected elements within 2^62 bytes of the first",
        table.name(), extents_text(data), fmt::join(data.strides.begin(), data.strides.begin() + data.rank, ", "));
  }
  if (data.data == nullptr && !view.is_empty())
    fail_argument("table '{}': the data is null, expected {} elements", table.name(), data.elements());
  return view;
}

ValueRange range_of(DType dtype) {
  switch (dtype) {
    case DType::boolean: return {0, 1};
    case DType::uint8: return {0, 255};
    case DType::int8: return {-128, 127};
    case DType::int32:
    case DType::int64: return {std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()};
    default: return {-kInfinity, kInfinity};
  }
}

namespace {

/// Of contiguous elements. Tables of a value for each token or pair of blocks are large: recording a map of 1024 x 1024
/// blocks takes 1.4 ms with this and 17 ms index by index.
template <class T>
ValueSummary summarise_elements(const BoundTable& table) {
  T low = std::numeric_limits<T>::max(), high = std::numeric_limits<T>::lowest();
  const std::byte* element = table.data;
  for (std::int64_t i = table.elements(); i > 0; --i, element += sizeof(T)) {
    T value;
    std::memcpy(&value, element, sizeof(T));
    low = std::min(low, value);
    high = std::max(high, value);
  }
  return {static_cast<double>(low), static_cast<double>(high), false};
}

}  // namespace

ValueSummary summarise(const BoundTable& table) {
  if (table.is_contiguous() && !table.is_empty()) {
    if (table.dtype == DType::int32) return summarise_elements<std::int32_t>(table);
    if (table.dtype == DType::uint8) return summarise_elements<std::uint8_t>(table);
    if (table.dtype == DType::boolean) {
      const ValueSummary bytes = summarise_elements<std::uint8_t>(table);
      return {std::min(bytes.low, 1.0), std::min(bytes.high, 1.0), false};
    }
  }
  ValueSummary summary{kInfinity, -kInfinity, false};
  for_each_index(table, [&](std::span<const std::int64_t> index) {
    const double value = table.at(index);
    if (std::isnan(value)) summary.has_nan = true;
    summary.low = value < summary.low ? value : summary.low;
    summary.high = value > summary.high ? value : summary.high;
  });
  return summary;
}

void expect_values_in_range(const Table::Info& info, const BoundTable& table) {
  for_each_index(table, [&](std::span<const std::int64_t> index) {
    const double value = table.at(index);
    if (!(info.low <= value && value <= info.high)) {
      fail_argument("table '{}': the value at {} is {}, expected {} to {}", info.name, indices_text(index), value,
                    info.low, info.high);
    }
  });
}

void bind(const Graph& graph, const std::vector<TableBinding>& tables, const std::vector<ParameterBinding>& parameters,
          Bound& bound, TableData data) {
  expect_known("table", graph.tables(), tables, &TableBinding::table);
  expect_known("parameter", graph.parameters(), parameters, &ParameterBinding::parameter);
  bound.tables.clear();
  bound.parameters.clear();
  bound.literals.clear();
  for (const Table& table : graph.tables()) bound.tables.push_back(bind_table(table, tables, data));
  for (const Parameter& parameter : graph.parameters())
    bound.parameters.push_back(bind_parameter(parameter, parameters));
  for (const Node& node : graph.nodes()) {
    if (node.kind == Kind::literal) bound.literals.push_back(node.value);
  }
}

Bound bind(const Graph& graph, const Bindings& bindings) {
  Bound bound;
  bind(graph, bindings.tables, bindings.parameters, bound);
  return bound;
}

}  // namespace tilewise::variant
