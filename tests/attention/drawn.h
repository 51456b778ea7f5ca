// What a call of the product is given: its variant, and numbers that are ordinary, rare or adversarial.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>

#include "tilewise/variant.h"

namespace tilewise::attention::testing {

/// Variants of every kind: masks by position, by table and by -inf; scores that read the score, tables of each shape,
/// parameters; sinks.
///   number: of the axis of variants.
Variant make_variant(int number);

/// Makes of normal numbers what the axis says; see kInputs.
class Draw {
 public:
  Draw(int kind, double scale, std::int64_t d_qk, std::uint64_t seed)
      : kind_(kind), unit_(1 / (std::fabs(scale) * static_cast<double>(d_qk))), random_(seed) {}

  double q(double normal) {
    if (kind_ == 1) return outlier(normal);
    return kind_ >= 2 && kind_ <= 4 ? 1 : normal;
  }
  double k(double normal, std::int64_t key) {
    const auto j = static_cast<double>(key);
    switch (kind_) {
      case 1: return outlier(normal);
      case 2: return 200 * unit_;  // every score is 200
      case 3: return ((key % 2 == 0 ? 1e4 : -1e4) + normal) * unit_;
      case 4: return (0.25 * j + normal) * unit_;
      case 5: return 0;
      default: return normal;
    }
  }
  double v(double normal, std::int64_t key) {
    if (kind_ == 1) return outlier(normal);
    return kind_ == 6 ? (key % 2 == 0 ? 1000 : -1000) + normal : normal;
  }

 private:
  double outlier(double normal) { return random_() % 64 == 0 ? 20 * normal : normal; }

  int kind_;
  double unit_;  // what an element of k must be for a score of 1, where those of q are 1
  std::mt19937_64 random_;
};

}  // namespace tilewise::attention::testing
