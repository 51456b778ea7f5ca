#include "tilewise/tensor.h"

#include <algorithm>
#include <array>
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
constexpr auto kDTypes = std::to_array<DTypeRow>({
    {DType::float64, "float64", 8},
    {DType::float32, "float32", 4},
    {DType::float16, "float16", 2},
    {DType::bfloat16, "bfloat16", 2},
    {DType::int64, "int64", 8},
    {DType::int32, "int32", 4},
    {DType::int8, "int8", 1},
    {DType::uint8, "uint8", 1},
    {DType::boolean, "bool", 1},
    {DType::float8_e4m3, "float8_e4m3", 1},
});

constexpr bool rows_follow_enumerators() {
  for (std::size_t row = 0; row < kDTypes.size(); ++row) {
    if (static_cast<std::size_t>(kDTypes[row].dtype) != row) return false;
  }
  return true;
}
static_assert(rows_follow_enumerators());

const DTypeRow& row_of(DType dtype) {
  const auto index = static_cast<std::size_t>(dtype);
  if (index >= kDTypes.size()) fail_argument("dtype has the value {}, which is none of DType's", index);
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
BasicTensor<Pointer>::BasicTensor(Pointer memory, DType type, std::initializer_list<std::int64_t> sizes)
    : BasicTensor(memory, type, std::span<const std::int64_t>(sizes.begin(), sizes.size())) {}

template <class Pointer>
BasicTensor<Pointer>::BasicTensor(Pointer memory, DType type, std::span<const std::int64_t> sizes)
    : data(memory), dtype(type), rank(static_cast<int>(sizes.size())) {
  check_extents(sizes);
  std::copy(sizes.begin(), sizes.end(), extents.begin());
  strides = row_major_strides(sizes);
}

template <class Pointer>
BasicTensor<Pointer>::BasicTensor(Pointer memory, DType type, std::span<const std::int64_t> sizes,
                                  std::span<const std::int64_t> steps)
    : data(memory), dtype(type), rank(static_cast<int>(sizes.size())) {
  if (sizes.size() != steps.size()) {
    fail_argument("a tensor has {} extents and {} strides; expected one stride for each extent", sizes.size(),
                  steps.size());
  }
  check_extents(sizes);
  std::copy(sizes.begin(), sizes.end(), extents.begin());
  std::copy(steps.begin(), steps.end(), strides.begin());
}

template struct BasicTensor<void*>;
template struct BasicTensor<const void*>;

}  // namespace tilewise
