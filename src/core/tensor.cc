#include "tilewise/tensor.h"

#include <algorithm>
#include <limits>

#include "core/fail.h"

namespace tilewise {
namespace {

struct DTypeRow {
  DType dtype;
  const char* name;
  std::int64_t size;  // bytes
};

/// Indexed by the enumerator's value.
constexpr DTypeRow kDTypes[] = {
    {DType::float64, "float64", 8},   {DType::float32, "float32", 4}, {DType::float16, "float16", 2},
    {DType::bfloat16, "bfloat16", 2}, {DType::int64, "int64", 8},     {DType::int32, "int32", 4},
    {DType::int8, "int8", 1},         {DType::uint8, "uint8", 1},     {DType::boolean, "bool", 1},
};

constexpr bool rows_follow_enumerators() {
  for (std::size_t row = 0; row < std::size(kDTypes); ++row) {
    if (static_cast<std::size_t>(kDTypes[row].dtype) != row) return false;
  }
  return true;
}
static_assert(rows_follow_enumerators());

const DTypeRow& row_of(DType dtype) {
  const auto index = static_cast<std::size_t>(dtype);
  if (index >= std::size(kDTypes)) fail_argument("dtype has the value {}, which is none of DType's", index);
  return kDTypes[index];
}

std::string all_names() {
  std::string names;
  for (const DTypeRow& row : kDTypes) names += (names.empty() ? "" : ", ") + std::string(row.name);
  return names;
}

/// Throws unless the extents are at most kMaxRank, not negative, and their product (zeros taken as ones, so that no
/// partial product overflows either) is below 2^63.
void check_extents(std::span<const std::int64_t> extents) {
  if (extents.size() > kMaxRank) {
    fail_argument("a tensor has {} extents; at most {} are supported", extents.size(), kMaxRank);
  }
  std::int64_t count = 1;
  for (std::size_t axis = 0; axis < extents.size(); ++axis) {
    const std::int64_t extent = extents[axis];
    if (extent < 0) fail_argument("extent {} of axis {} is negative; expected 0 or more", extent, axis);
    if (extent > std::numeric_limits<std::int64_t>::max() / count) {
      fail_argument("the extents up to axis {} multiply to 2^63 elements or more; expected fewer", axis);
    }
    count *= std::max<std::int64_t>(extent, 1);
  }
}

std::array<std::int64_t, kMaxRank> row_major_strides(std::span<const std::int64_t> extents) {
  std::array<std::int64_t, kMaxRank> strides{};
  std::int64_t stride = 1;
  for (std::size_t axis = extents.size(); axis-- > 0;) {
    strides[axis] = stride;
    stride *= extents[axis];
  }
  return strides;
}

}  // namespace

std::int64_t size_of(DType dtype) { return row_of(dtype).size; }

const char* to_string(DType dtype) { return row_of(dtype).name; }

DType dtype_from_string(const std::string& name) {
  for (const DTypeRow& row : kDTypes) {
    if (name == row.name) return row.dtype;
  }
  fail(ErrorCode::parse, "unknown dtype '{}'; expected one of {}", name, all_names());
}

template <class Pointer>
BasicTensor<Pointer>::BasicTensor(Pointer data, DType dtype, std::initializer_list<std::int64_t> extents)
    : BasicTensor(data, dtype, std::span<const std::int64_t>(extents.begin(), extents.size())) {}

template <class Pointer>
BasicTensor<Pointer>::BasicTensor(Pointer data, DType dtype, std::span<const std::int64_t> extents)
    : data(data), dtype(dtype), rank(static_cast<int>(extents.size())) {
  check_extents(extents);
  std::copy(extents.begin(), extents.end(), this->extents.begin());
  strides = row_major_strides(extents);
}

template <class Pointer>
BasicTensor<Pointer>::BasicTensor(Pointer data, DType dtype, std::span<const std::int64_t> extents,
                                  std::span<const std::int64_t> strides)
    : data(data), dtype(dtype), rank(static_cast<int>(extents.size())) {
  if (extents.size() != strides.size()) {
    fail_argument("a tensor has {} extents and {} strides; expected one stride for each extent", extents.size(),
                  strides.size());
  }
  check_extents(extents);
  std::copy(extents.begin(), extents.end(), this->extents.begin());
  std::copy(strides.begin(), strides.end(), this->strides.begin());
}

template struct BasicTensor<void*>;
template struct BasicTensor<const void*>;

}  // namespace tilewise
