#include "core/check_tensor.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "core/element.h"
#include "core/fail.h"

namespace tilewise {
namespace {

std::string text_of(std::span<const std::int64_t> numbers) { return fmt::format("[{}]", fmt::join(numbers, ", ")); }

std::span<const std::int64_t> extents_of(const ConstTensor& tensor) {
  return {tensor.extents.data(), static_cast<std::size_t>(tensor.rank)};
}

std::string strides_text(const ConstTensor& tensor) {
  return text_of({tensor.strides.data(), static_cast<std::size_t>(tensor.rank)});
}

}  // namespace

std::string extents_text(const ConstTensor& tensor) { return text_of(extents_of(tensor)); }

bool is_addressable(const ConstTensor& tensor) {
  __extension__ using Wide = __int128;
  const Wide most = (std::int64_t{1} << 62) / size_of(tensor.dtype);
  Wide count = 1, above = 0, below = 0;
  for (std::size_t axis = 0; axis < static_cast<std::size_t>(tensor.rank); ++axis) {
    count *= std::max<std::int64_t>(tensor.extents[axis], 1);
    if (count > most) return false;
  }
  if (tensor.elements() == 0) return true;
  for (std::size_t axis = 0; axis < static_cast<std::size_t>(tensor.rank); ++axis) {
    const Wide reach = Wide{tensor.extents[axis] - 1} * tensor.strides[axis];
    (reach < 0 ? below : above) += reach;
    if (above > most || below < -most) return false;
  }
  return true;
}

void check_elements(std::string_view name, const ConstTensor& tensor) {
  const auto extents = extents_of(tensor);
  if (std::any_of(extents.begin(), extents.end(), [](std::int64_t extent) { return extent < 0; })) {
    fail_argument("{} has extents {}; expected none below 0", name, text_of(extents));
  }
  if (!is_addressable(tensor)) {
    fail_argument("{} has extents {} and strides {}; expected elements within 2^62 bytes of the first", name,
                  text_of(extents), strides_text(tensor));
  }
  if (tensor.data == nullptr && tensor.elements() != 0) {
    fail_argument("{} is null; expected memory for its extents {}", name, text_of(extents));
  }
}

void check_memory(std::string_view name, const ConstTensor& tensor) {
  check_elements(name, tensor);
  if (tensor.elements() == 0) return;  // frameworks give a tensor of no elements any strides, and no way to change them
  const auto last = static_cast<std::size_t>(tensor.rank) - 1;
  if (tensor.rank > 0 && tensor.extents[last] > 1 && tensor.strides[last] != 1) {
    fail_argument("{} has strides {}; expected 1 along the last axis: copy it, or view it with that axis contiguous",
                  name, strides_text(tensor));
  }
}

void check_floating(std::string_view name, const ConstTensor& tensor) {
  if (!is_floating(tensor.dtype)) {
    fail_argument("{} has dtype {}; expected float64, float32, float16 or bfloat16", name, to_string(tensor.dtype));
  }
}

void check_extents(std::string_view name, const ConstTensor& tensor, std::span<const std::int64_t> expected,
                   std::string_view meaning) {
  if (tensor.rank != static_cast<int>(expected.size())) {
    fail_argument("{} has rank {}; expected {}: {}, {}", name, tensor.rank, expected.size(), text_of(expected),
                  meaning);
  }
  if (!std::ranges::equal(extents_of(tensor), expected)) {
    fail_argument("{} has extents {}; expected {}, {}", name, extents_text(tensor), text_of(expected), meaning);
  }
}

void check_distinct_elements(std::string_view name, const ConstTensor& tensor) {
  if (tensor.elements() == 0) return;
  struct Axis {
    std::int64_t stride, steps;
  };
  std::array<Axis, kMaxRank> axes{};  // by stride
  std::size_t count = 0;
  for (std::size_t axis = 0; axis < static_cast<std::size_t>(tensor.rank); ++axis) {
    if (tensor.extents[axis] <= 1) continue;
    const std::int64_t stride = std::abs(tensor.strides[axis]);
    std::size_t at = count++;
    for (; at > 0 && axes[at - 1].stride > stride; --at) axes[at] = axes[at - 1];
    axes[at] = {stride, tensor.extents[axis] - 1};
  }
  std::int64_t reach = 0;  // of the axes so far: their largest offset
  for (const Axis& axis : std::span(axes.data(), count)) {
    if (axis.stride <= reach) {
      fail_argument("{} has extents {} and strides {}; expected an output whose elements share no memory", name,
                    extents_text(tensor), strides_text(tensor));
    }
    reach += axis.steps * axis.stride;
  }
}

}  // namespace tilewise
