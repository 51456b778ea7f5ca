// The largest score of each head, which tasks raise together. A maximum has no order.
#pragma once

#include <atomic>
#include <limits>

#include "tilewise/arguments.h"

namespace tilewise::attention {

inline constexpr float kNoScore = -std::numeric_limits<float>::infinity();

inline float* max_score_of(const ForwardOutputs& outputs, std::int64_t head) {
  return static_cast<float*>(outputs.max_score->data) + head * outputs.max_score->strides[0];
}

/// Where a call asks for them: nothing has been kept yet.
inline void clear_max_scores(const ForwardOutputs& outputs) {
  if (!outputs.max_score) return;
  for (std::int64_t head = 0; head < outputs.max_score->extents[0]; ++head) *max_score_of(outputs, head) = kNoScore;
}

inline void raise_max_score(const ForwardOutputs& outputs, std::int64_t head, float score) {
  const std::atomic_ref<float> largest(*max_score_of(outputs, head));
  float old = largest.load(std::memory_order_relaxed);
  while (old < score && !largest.compare_exchange_weak(old, score, std::memory_order_relaxed)) {
  }
}

}  // namespace tilewise::attention
