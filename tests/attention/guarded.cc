#include "tests/attention/guarded.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <new>
#include <utility>

#include "core/element.h"

namespace tilewise::attention::testing {

GuardedBytes::GuardedBytes(std::int64_t bytes, bool at_begin) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE)), wanted = static_cast<std::size_t>(bytes);
  const std::size_t inside = (wanted + page - 1) / page * page, length = inside + 2 * page;
  void* memory = mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mapped_ = {static_cast<std::byte*>(memory), Unmap{length}};
  std::byte* begin = mapped_.get() + page;
  if (inside > 0) {
    if (mprotect(begin, inside, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    std::memset(begin, 0xff, inside);
  }
  bytes_ = {at_begin ? begin : begin + (inside - wanted), wanted};
}

void GuardedBytes::Unmap::operator()(std::byte* memory) const { munmap(memory, length); }

GuardedTensor::GuardedTensor(std::vector<std::int64_t> extents, std::int64_t columns, DType dtype, Layout layout,
                             bool at_begin)
    : extents_(std::move(extents)), dtype_(dtype), has_columns_(columns > 0) {
  if (has_columns_) extents_.push_back(columns);
  const std::size_t rank = extents_.size(), rows = has_columns_ ? rank - 2 : rank - 1;
  std::vector<std::size_t> order(rank);  // axes from the slowest to the fastest
  for (std::size_t axis = 0; axis < rank; ++axis) order[axis] = axis;
  if (layout == Layout::heads_inside && has_columns_) std::swap(order[rows - 1], order[rows]);
  strides_.resize(rank);
  std::int64_t stride = 1;
  for (std::size_t i = rank; i-- > 0;) {
    const std::size_t axis = order[i];
    strides_[axis] = layout == Layout::shared && axis < rows ? 0 : stride;
    if (strides_[axis] != 0) stride *= extents_[axis];
    if (layout == Layout::padded) stride += 3 + 2 * static_cast<std::int64_t>(i);
    if (layout == Layout::reversed && i + 1 < rank) strides_[axis] = -strides_[axis];
  }
  std::int64_t low = 0, high = 0, elements = 1;
  for (std::size_t axis = 0; axis < rank; ++axis) {
    const std::int64_t reach = strides_[axis] * (extents_[axis] - 1);
    (reach < 0 ? low : high) += reach;
    elements *= extents_[axis];
  }
  const std::int64_t span = elements == 0 ? 0 : high - low + 1;
  memory_ = std::make_shared<GuardedBytes>(span * size_of(dtype), at_begin);
  first_ = memory_->bytes().data() - (span == 0 ? 0 : low) * size_of(dtype);
  owned_.assign(static_cast<std::size_t>(span), false);
}

std::byte* GuardedTensor::at(std::int64_t sequence, std::int64_t head, std::int64_t row, std::int64_t first_token,
                             std::int64_t column) const {
  const bool packed = extents_.size() == (has_columns_ ? 3u : 2u);
  const std::int64_t index[] = {sequence, head, packed ? first_token + row : row, column};
  std::int64_t offset = 0;
  for (std::size_t axis = 0; axis < extents_.size(); ++axis) offset += index[axis + (packed ? 1 : 0)] * strides_[axis];
  return first_ + offset * size_of(dtype_);
}

double GuardedTensor::get(std::int64_t sequence, std::int64_t head, std::int64_t row, std::int64_t first_token,
                          std::int64_t column) const {
  return load_real(at(sequence, head, row, first_token, column), dtype_);
}

void GuardedTensor::set(std::int64_t sequence, std::int64_t head, std::int64_t row, std::int64_t first_token,
                        std::int64_t column, double value) {
  store_real(at(sequence, head, row, first_token, column), dtype_, value);
}

void GuardedTensor::own(std::int64_t sequence, std::int64_t head, std::int64_t row, std::int64_t first_token,
                        std::int64_t column) {
  const auto offset = at(sequence, head, row, first_token, column) - memory_->bytes().data();
  owned_[static_cast<std::size_t>(offset / size_of(dtype_))] = true;
}

std::int64_t GuardedTensor::touched() const {
  std::int64_t count = 0;
  const auto size = static_cast<std::size_t>(size_of(dtype_));
  for (std::size_t i = 0; i < owned_.size(); ++i) {
    if (owned_[i]) continue;
    for (const std::byte byte : memory_->bytes().subspan(i * size, size)) {
      if (byte == std::byte{0xff}) continue;
      ++count;
      break;
    }
  }
  return count;
}

}  // namespace tilewise::attention::testing
