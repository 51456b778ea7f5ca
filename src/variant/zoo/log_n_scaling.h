#pragma once

#include <cmath>

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// Sharpens attention as the context outgrows the trained length, so that its entropy stays about the same.
///
///     s * max(1, log(query + 1) / log(trained_length))
///
/// query + 1 is how many keys a causal query sees. Up to the trained length scores stay as they are.
///
/// `trained_length`: at least 2.
///
/// Source: Su (2021) and Qwen's log-n attention (2023), after Chiang and Cholak (2022)
/// Example: log_n_scaling(2048)
Variant log_n_scaling(std::int32_t trained_length) {
  expect_at_least("log_n_scaling", "trained_length", trained_length, 2);
  const double whole = std::log(static_cast<double>(trained_length));
  return score([&](Expr s, const At& at) { return s * max(log(to_real(max(at.query + 1, 1))) / whole, 1.0); });
}

}  // namespace tilewise::zoo
