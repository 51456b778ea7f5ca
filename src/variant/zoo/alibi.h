#pragma once

#include <cmath>

#include "variant/zoo/common/expect.h"
#include "variant/zoo/common/frozen.h"

namespace tilewise::zoo {

///
/// `count` of the slopes that the paper gives a power of two of `heads`, from the first on in steps of `step`:
/// r, r^2, r^3, ... with r = 2^(-8 / heads).
inline void append_alibi_slopes(std::vector<float>& slopes, std::int32_t heads, std::int32_t step, std::int32_t count) {
  for (std::int32_t i = 0; i < count; ++i) {
    slopes.push_back(static_cast<float>(std::exp2(-8.0 * (1.0 + step * i) / heads)));
  }
}

/// Attention with linear biases: scores fall with distance, at a slope of each head's own.
///
///     s - slope[head] * abs(query - key)
///
/// Of a power of two of heads, head i has the slope 2^(-8 (i + 1) / heads). Otherwise the largest power of two below
/// gives its slopes first, and the rest are every other one of twice that many heads, as in the paper's code. Slopes
/// are float32. The absolute distance is the paper's for causal masks, and its symmetric extension for others.
///
/// `heads`: query heads, at least 1; a call with more of them is refused when it is planned.
///
/// Source: Train Short, Test Long: ALiBi (Press, Smith, Lewis 2022)
/// Example: alibi(8)
Variant alibi(std::int32_t heads) {
  expect_between("alibi", "heads", heads, 1, 1 << 20);
  std::int32_t power = 1;
  while (power * 2 <= heads) power *= 2;
  std::vector<float> slopes;
  append_alibi_slopes(slopes, power, 1, power);
  append_alibi_slopes(slopes, 2 * power, 2, heads - power);
  const Table slope = frozen("slope", slopes);
  return score([&](Expr s, const At& at) { return s - slope(at.head) * abs(at.query - at.key); });
}

}  // namespace tilewise::zoo
