#pragma once

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// Divides scores by a temperature: above 1 weights even out, below 1 they sharpen.
///
///     s / temperature
///
/// `temperature`: finite and above 0.
///
/// Source: Distilling the Knowledge in a Neural Network (Hinton, Vinyals, Dean 2015)
/// Example: temperature(0.7)
Variant temperature(double temperature) {
  expect_positive("temperature", "temperature", temperature);
  return score([&](Expr s, const At&) { return s / temperature; });
}

}  // namespace tilewise::zoo
