// Random choices, replayed from a tape of words.
//
// What a law draws is built by ordinary code that asks for one choice after the other. RapidCheck generates the tape
// and shrinks it; code that takes its simplest alternative on a 0, and reads 0 once the tape is spent, so shrinks
// whatever it builds.
//
//   RC_GTEST_PROP(Folding, ChangesNoValue, (Choices choices, Choices values)) {
//     const RandomVariant random = random_variant(choices); ...
#pragma once

#include <rapidcheck.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <span>
#include <vector>

namespace tilewise::laws {

class Choices {
 public:
  explicit Choices(std::vector<std::uint32_t> tape) : tape_(std::move(tape)) {}

  std::uint32_t word() { return position_ < tape_.size() ? tape_[position_++] : 0; }

  /// 0 to count - 1.
  std::size_t below(std::size_t count) { return word() % count; }

  /// True once in `count` times, false on a spent tape. `count` is above 1.
  bool once_in(std::size_t count) { return below(count) == count - 1; }

  /// low to high, both included; low on a spent tape.
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(below(static_cast<std::size_t>(high - low) + 1));
  }

  template <class T, std::size_t N>
  const T& any_of(const std::array<T, N>& alternatives) {
    return alternatives[below(N)];
  }
  template <class T>
  const T& any_of(const std::vector<T>& alternatives) {
    return alternatives[below(alternatives.size())];
  }

  /// An int32: mostly small, sometimes at the edges of the type, sometimes any.
  std::int32_t int32();

  /// A real: mostly small and exact in float32, sometimes of any size, sometimes 0, -0, subnormal, huge; infinite or
  /// NaN only where asked for.
  double real(bool may_be_infinite = false, bool may_be_nan = false);

  const std::vector<std::uint32_t>& tape() const { return tape_; }

 private:
  std::vector<std::uint32_t> tape_;
  std::size_t position_ = 0;
};

std::ostream& operator<<(std::ostream& out, const Choices& choices);

/// A tape of a thousand words: for tests that draw much and need no shrinking, since they report what failed.
Choices full_tape(std::uint64_t seed);

/// Tapes of up to 12 words for each unit of RapidCheck's size, which grows to 100 over a run.
rc::Gen<Choices> tapes();

}  // namespace tilewise::laws

template <>
struct rc::Arbitrary<tilewise::laws::Choices> {
  static rc::Gen<tilewise::laws::Choices> arbitrary() { return tilewise::laws::tapes(); }
};
