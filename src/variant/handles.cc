// Tables and parameters: the named handles that a variant reads.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>

#include "core/element.h"
#include "core/fail.h"
#include "tilewise/variant.h"
#include "variant/bindings.h"
#include "variant/graph.h"

namespace tilewise {

using namespace variant;  // NOLINT(google-build-using-namespace): this file defines the public handles over it

namespace {

void expect_name(std::string_view what, const std::string& name) {
  const auto is_word = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; };
  const bool good = !name.empty() && std::isdigit(static_cast<unsigned char>(name[0])) == 0 &&
                    std::all_of(name.begin(), name.end(), is_word);
  if (!good)
    fail_argument("{}: the name is '{}', expected letters, digits and _, not starting with a digit", what, name);
}

void expect_range(std::string_view what, const std::string& name, double low, double high) {
  if (!(low <= high))
    fail_argument("{} '{}': the range is [{}, {}], expected low <= high, neither NaN", what, name, low, high);
}

/// Copies a view into contiguous rows.
std::shared_ptr<const std::vector<std::byte>> contiguous_copy(const BoundTable& table) {
  const auto size = static_cast<std::size_t>(size_of(table.dtype));
  if (table.is_contiguous()) {
    return std::make_shared<const std::vector<std::byte>>(table.data,
                                                          table.data + table.elements() * size_of(table.dtype));
  }
  auto bytes = std::make_shared<std::vector<std::byte>>();
  for_each_index(table, [&](std::span<const std::int64_t> index) {
    const std::byte* element = table.address(index);
    bytes->insert(bytes->end(), element, element + size);
  });
  return bytes;
}

}  // namespace

Parameter::Parameter(std::string name, double low, double high) {
  expect_name("parameter", name);
  expect_range("parameter", name, low, high);
  info_ = std::make_shared<Info>(Info{std::move(name), Type::real, low, high});
}

Parameter Parameter::integer(std::string name, std::int32_t low, std::int32_t high) {
  expect_name("parameter", name);
  expect_range("parameter", name, low, high);
  return Parameter(
      std::make_shared<Info>(Info{std::move(name), Type::int32, static_cast<double>(low), static_cast<double>(high)}));
}

const std::string& Parameter::name() const { return info_->name; }
Type Parameter::type() const { return info_->type; }
double Parameter::low() const { return info_->low; }
double Parameter::high() const { return info_->high; }

Table::Table(std::string name, DType dtype, int rank) {
  expect_name("table", name);
  if (rank < 1 || rank > kMaxRank) fail_argument("table '{}': the rank is {}, expected 1 to {}", name, rank, kMaxRank);
  if (is_scaled(dtype)) {
    fail_argument(
        "table '{}': the dtype is {}, expected float64, float32, float16, bfloat16, int64, int32, uint8 or bool", name,
        to_string(dtype));
  }
  const ValueRange range = range_of(dtype);
  info_ = std::make_shared<Info>(
      Info{.name = std::move(name), .dtype = dtype, .rank = rank, .low = range.low, .high = range.high});
}

Table Table::frozen(std::string name, ConstTensor data) {
  Table table(std::move(name), data.dtype, data.rank);
  const BoundTable view = view_of(table, data);
  if (data.dtype == DType::int64) expect_values_in_range(table.info(), view);
  auto info = std::make_shared<Info>(*table.info_);
  info->frozen = contiguous_copy(view);
  info->extents = data.extents;
  if (!view.is_empty()) {
    const ValueSummary summary = summarise(view);
    info->low = summary.low;
    info->high = summary.high;
    info->may_hold_nan = summary.has_nan;
  }
  return Table(std::move(info));
}

Table Table::values_in(double low, double high) const {
  expect_range("table", name(), low, high);
  auto info = std::make_shared<Info>(*info_);
  info->low = low;
  info->high = high;
  info->declared_range = true;
  if (frozen_data()) expect_values_in_range(*info, view_of(*this, *frozen_data()));
  info->may_hold_nan = false;
  return Table(std::move(info));
}

const std::string& Table::name() const { return info_->name; }
DType Table::dtype() const { return info_->dtype; }
int Table::rank() const { return info_->rank; }
double Table::low() const { return info_->low; }
double Table::high() const { return info_->high; }
bool Table::has_declared_range() const { return info_->declared_range; }

Type Table::type() const {
  switch (info_->dtype) {
    case DType::boolean: return Type::boolean;
    case DType::int64:
    case DType::int32:
    case DType::uint8: return Type::int32;
    default: return Type::real;
  }
}

std::optional<ConstTensor> Table::frozen_data() const {
  if (info_->frozen == nullptr) return std::nullopt;
  const std::span<const std::int64_t> extents(info_->extents.data(), static_cast<std::size_t>(info_->rank));
  return ConstTensor(info_->frozen->data(), info_->dtype, extents);
}

}  // namespace tilewise
