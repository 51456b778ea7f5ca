// 2^x for softmax: an in-register table for the leading fraction bits and a polynomial for the rest.
#pragma once

#include "cpu/block.h"

namespace tilewise::cpu {

/// Evaluates 2^(unit x) for unit x < 127, unit >= 2^-100. With unit x = n / T + r, |r| <= 1 / (2 T), T = 2^kTableBits
/// (1, 8, 16 or 32): 2^(unit x) = table[n mod T] 2^(n div T) (1 + r P(r)), with relative error 2.6e-8 at T = 8, P
/// quadratic, and 0.9e-8 at T = 1, P of degree 5; float32's own is 6e-8. unit x <= -127 and -inf give exactly 0,
/// results below 2^-126 are anything in [0, 2^-126], NaN gives NaN. The product by unit rides on the two operations
/// that split x, so a unit other than 1 costs nothing. Lanes that split and scale a number in an operation each
/// round unit x first, take n downwards and P linear: 0.8e-7 and what |unit x| 2^-24 adds; theirs overflows to
/// infinity.
template <class Lanes>
class Exp2 {
 public:
  using Vec = typename Lanes::Vec;

  explicit TILEWISE_INLINE Exp2(float unit)
      : table_(Lanes::power_table()),
        magic_(Lanes::broadcast(1.5f * static_cast<float>(1 << (23 - Lanes::kTableBits)))),
        lowest_(Lanes::broadcast(-127.0f / unit)),
        unit_(Lanes::broadcast(unit)) {}

  TILEWISE_INLINE Vec operator()(Vec x) const {
    if constexpr (kSplits) {
      const Vec y = Lanes::mul(x, unit_), r = Lanes::fraction(y);
      const Vec power = Lanes::lookup(table_, Lanes::add_downwards(y, magic_));
      return Lanes::scale(Lanes::fma(Lanes::mul(power, r), polynomial(r), power), y);
    } else {
      x = Lanes::max(lowest_, x);
      const Vec index = Lanes::fma(x, unit_, magic_);  // low mantissa bits: round(T unit x)
      const Vec r = Lanes::fms(x, unit_, Lanes::sub(index, magic_));
      const Vec power = Lanes::scaled_lookup(table_, index);
      return Lanes::fma(Lanes::mul(power, r), polynomial(r), power);
    }
  }

 private:
  static constexpr bool kSplits = requires(Vec x) { Lanes::fraction(x); };

  static TILEWISE_INLINE Vec polynomial(Vec r) {
    if constexpr (Lanes::kTableBits == 0) {
      Vec p = Lanes::fma(Lanes::broadcast(0.000154531634f), r, Lanes::broadcast(0.00133908633f));
      p = Lanes::fma(p, r, Lanes::broadcast(0.00961808302f));
      p = Lanes::fma(p, r, Lanes::broadcast(0.0555035695f));
      p = Lanes::fma(p, r, Lanes::broadcast(0.240226507f));
      return Lanes::fma(p, r, Lanes::broadcast(0.693147182f));
    } else if constexpr (kSplits) {
      static_assert(Lanes::kTableBits == 5);
      return Lanes::fma(Lanes::broadcast(0.24275991f), r, Lanes::broadcast(0.6931208f));
    } else {
      static_assert(Lanes::kTableBits >= 3);
      const Vec p = Lanes::fma(Lanes::broadcast(0.0554989f), r, Lanes::broadcast(0.24024245f));
      return Lanes::fma(p, r, Lanes::broadcast(0.69314720f));
    }
  }

  decltype(Lanes::power_table()) table_;
  Vec magic_, lowest_, unit_;
};

}  // namespace tilewise::cpu
