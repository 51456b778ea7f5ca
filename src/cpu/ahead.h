// Prefetching spread over a computation.
#pragma once

#include <cstdint>

#include "cpu/block.h"

namespace tilewise::cpu {

/// Memory that is needed after the computation that holds this: each touch() asks for a few lines more. In one burst
/// the requests would fill the line buffers that the computation itself needs.
class Ahead {
 public:
  /// Nothing to fetch.
  TILEWISE_INLINE Ahead() {}

  /// rows of row_bytes, stride_bytes apart, within about `touches` calls.
  TILEWISE_INLINE Ahead(const void* first, std::int64_t rows, std::int64_t row_bytes, std::int64_t stride_bytes,
                        std::int64_t touches)
      : walk_{static_cast<const char*>(first), (row_bytes + kLine - 1) / kLine, (row_bytes + kLine - 1) / kLine,
              stride_bytes - (row_bytes + kLine - 1) / kLine * kLine},
        left_(rows * walk_.lines_of_row),
        step_((left_ + touches - 1) / touches) {}

  /// `floats` in a row.
  TILEWISE_INLINE Ahead(const float* first, std::int64_t floats, std::int64_t touches)
      : Ahead(first, 1, floats * 4, 0, touches) {}

  /// The same, and then `other`, within as many calls.
  TILEWISE_INLINE Ahead and_then(const Ahead& other) const {
    Ahead both = left_ > 0 ? *this : other;
    if (left_ > 0) both.next_ = other.walk_;
    both.left_after_ = left_ > 0 ? other.left_ : 0;
    both.step_ = step_ + other.step_;
    return both;
  }

  TILEWISE_INLINE void touch() {
    for (std::int64_t i = 0; i < step_; ++i) {
      if (left_ == 0) {
        if (left_after_ == 0) return;
        walk_ = next_;
        left_ = left_after_;
        left_after_ = 0;
      }
      __builtin_prefetch(walk_.line);
      --left_;
      walk_.line += kLine;
      if (--walk_.in_row > 0) continue;
      walk_.in_row = walk_.lines_of_row;
      walk_.line += walk_.skip;
    }
  }

 private:
  static constexpr std::int64_t kLine = 64;
  struct Walk {
    const char* line = nullptr;
    std::int64_t lines_of_row = 0, in_row = 0, skip = 0;
  };
  Walk walk_, next_;
  std::int64_t left_ = 0, left_after_ = 0, step_ = 0;
};

}  // namespace tilewise::cpu
