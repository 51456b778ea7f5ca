#pragma once

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// Sharpens attention step by step with the query's position, for layers without position embeddings.
///
///     s * (1 + gain * log(1 + (query + 1) // span))
///
/// `span`: positions of a step, at least 1; it is part of the code. `gain`: finite and above 0.
///
/// Source: Llama 4's temperature tuning (Meta 2025), after Scalable-Softmax (Nakanishi 2025)
/// Example: llama4_temperature(8192, 0.1)
Variant llama4_temperature(std::int32_t span = 8192, double gain = 0.1) {
  expect_at_least("llama4_temperature", "span", span, 1);
  expect_positive("llama4_temperature", "gain", gain);
  return score([&](Expr s, const At& at) {
    const Expr step = floor_divide(max(at.query + 1, 0), span);
    return s * (1.0 + gain * log(to_real(1 + step)));
  });
}

}  // namespace tilewise::zoo
