// The numbers that standard attention computes with, and what is left of them when they are stored.
#pragma once

#include <cstdint>

#include "core/half.h"

namespace tilewise::reference {

/// A precision is a type to compute with, and the rounding of what goes to slow memory.
struct Float64 {
  using Real = double;
  static constexpr std::int64_t kStoredBytes = 8;
  static double stored(double value) { return value; }
};

struct Float32 {
  using Real = float;
  static constexpr std::int64_t kStoredBytes = 4;
  static float stored(float value) { return value; }
};

/// float32 between loads and stores of 16-bit numbers.
template <class Half>
struct Stored16 {
  using Real = float;
  static constexpr std::int64_t kStoredBytes = 2;
  static float stored(float value) { return static_cast<float>(Half(value)); }
};

}  // namespace tilewise::reference
