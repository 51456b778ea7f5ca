#include "core/shared_memory.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace tilewise {
namespace {

/// From the lowest byte of a tensor's elements to behind the highest.
struct Range {
  std::uintptr_t first, last;

  explicit Range(const ConstTensor& tensor) : first(reinterpret_cast<std::uintptr_t>(tensor.data)), last(first) {
    const std::int64_t size = size_of(tensor.dtype);
    last += static_cast<std::uintptr_t>(size);
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(tensor.rank); ++axis) {
      const std::int64_t reach = (tensor.extents[axis] - 1) * tensor.strides[axis] * size;
      (reach < 0 ? first : last) += static_cast<std::uintptr_t>(reach);
    }
  }
};

/// Looks for a byte of both tensors. One of a is first + sum of x * stride over a's axes, counted in the direction in
/// which they rise; one of b, counted down from its last, is last - 1 - sum of y * stride over b's. They are the same
/// where all these terms add up to last - 1 - first. The bytes of an element are an axis, too.
class CommonByte {
 public:
  CommonByte(const ConstTensor& a, const ConstTensor& b) {
    add(a), add(b);
    while (count_ > 0 && axes_[count_ - 1].stride <= run_ + 1) {
      --count_;
      run_ += axes_[count_].stride * axes_[count_].steps;
    }
    std::int64_t reach = run_;
    for (std::size_t at = count_; at-- > 0; reach += axes_[at].stride * axes_[at].steps) axes_[at].smaller = reach;
  }

  /// Whether the axes from `at` on can add up to `sum`, which is 0 or more.
  bool can_reach(std::int64_t sum, std::size_t at = 0) {
    if (at == count_) return sum <= run_;
    if (++tries_ > kMostTries) return true;
    const Axis& axis = axes_[at];
    const std::int64_t least = sum > axis.smaller ? (sum - axis.smaller + axis.stride - 1) / axis.stride : 0;
    const std::int64_t most = std::min(axis.steps, sum / axis.stride);
    for (std::int64_t steps = least; steps <= most; ++steps) {
      if (can_reach(sum - steps * axis.stride, at + 1)) return true;
    }
    return false;
  }

 private:
  struct Axis {
    std::int64_t stride, steps;  // bytes, and how many of them the index can be away from 0
    std::int64_t smaller;        // all that the axes after this one can add
  };

  void add(const ConstTensor& tensor) {
    const std::int64_t size = size_of(tensor.dtype);
    run_ += size - 1;
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(tensor.rank); ++axis) {
      const std::int64_t stride = std::abs(tensor.strides[axis]) * size, steps = tensor.extents[axis] - 1;
      if (stride == 0 || steps == 0) continue;
      std::size_t at = 0;
      while (at < count_ && axes_[at].stride > stride) ++at;
      if (at == count_ || axes_[at].stride != stride) {
        std::copy_backward(&axes_[at], &axes_[count_], &axes_[count_ + 1]);
        axes_[at] = {stride, 0, 0};
        ++count_;
      }
      axes_[at].steps += steps;
    }
  }

  static constexpr int kMostTries = 10'000;  // some 50 us; slices of a buffer take tens

  std::array<Axis, 2 * kMaxRank + 1> axes_{};  // by falling stride, and one to make room
  std::size_t count_ = 0;
  std::int64_t run_ = 0;  // the smallest axes add up to everything from 0 to this
  int tries_ = 0;
};

}  // namespace

bool share_memory(const ConstTensor& a, const ConstTensor& b) {
  if (a.elements() == 0 || b.elements() == 0) return false;
  const Range of_a(a), of_b(b);
  if (of_a.last <= of_b.first || of_b.last <= of_a.first) return false;
  return CommonByte(a, b).can_reach(static_cast<std::int64_t>(of_b.last - 1 - of_a.first));
}

}  // namespace tilewise
