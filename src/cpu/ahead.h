// Prefetching spread over a computation.
#pragma once

#include <cstdint>

#include "cpu/block.h"

namespace tilewise::cpu {

/// Memory that is needed after the computation that holds this: each touch() asks for a few lines more. In one burst
/// the requests would fill the line buffers that the computation itself needs, and those that find none are dropped: of
/// 256 in a row a Zen 4 heeds some 20.
class Ahead {
 public:
  /// Nothing to fetch.
  TILEWISE_INLINE Ahead() {}

  /// rows of row_bytes, stride_bytes apart, within about `touches` calls.
  TILEWISE_INLINE Ahead(const void* first, std::int64_t rows, std::int64_t row_bytes, std::int64_t stride_bytes,
                        std::int64_t touches)
      : line_(static_cast<const char*>(first)),
        lines_of_row_((row_bytes + kLine - 1) / kLine),
        in_row_(lines_of_row_),
        skip_(stride_bytes - lines_of_row_ * kLine),
        left_(rows * lines_of_row_),
        step_((left_ + touches - 1) / touches) {}

  /// `floats` in a row.
  TILEWISE_INLINE Ahead(const float* first, std::int64_t floats, std::int64_t touches)
      : Ahead(first, 1, floats * 4, 0, touches) {}

  /// This and then `next`, which is kept a pointer to, together within about `touches` calls.
  TILEWISE_INLINE Ahead then(Ahead* next, std::int64_t touches) const {
    Ahead both = *this;
    both.step_ = next->step_ = (left_ + next->left_ + touches - 1) / touches;
    both.next_ = next;
    return both;
  }

  TILEWISE_INLINE void touch() {
    if (left_ == 0) {
      if (next_ == nullptr) return;
      *this = *next_;
    }
    const std::int64_t end = left_ > step_ ? left_ - step_ : 0;
    for (; left_ > end; --left_) {
      __builtin_prefetch(line_);
      line_ += kLine;
      if (--in_row_ > 0) continue;
      in_row_ = lines_of_row_;
      line_ += skip_;
    }
  }

 private:
  static constexpr std::int64_t kLine = 64;
  const char* line_ = nullptr;
  std::int64_t lines_of_row_ = 0, in_row_ = 0, skip_ = 0, left_ = 0, step_ = 0;
  const Ahead* next_ = nullptr;
};

}  // namespace tilewise::cpu
