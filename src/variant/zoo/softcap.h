#pragma once

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// Keeps scores within (-cap, cap), smoothly.
///
///     cap * tanh(s / cap)
///
/// `cap`: finite and above 0.
///
/// Source: Neural Combinatorial Optimization (Bello et al. 2016); Gemma 2 (2024)
/// Example: softcap(30)
Variant softcap(double cap) {
  expect_positive("softcap", "cap", cap);
  return score([&](Expr s, const At&) { return cap * tanh(s / cap); });
}

}  // namespace tilewise::zoo
