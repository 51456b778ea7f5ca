// The GPU's bounds against the host's interval reading, bit by bit: both are double arithmetic in one order, so the
// device's header, compiled here, must give the host's very numbers.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <type_traits>

#define __device__
#include "cuda/device/bounds.h"
#undef __device__

#include "variant/operations/operations.h"

namespace tilewise::cuda {
namespace {

using bounds::Ints;
using bounds::Reals;
using bounds::Truth;
using variant::Interval;

Interval interval_of(const Truth& x) { return {x.low ? 1.0 : 0.0, x.high ? 1.0 : 0.0, false}; }
Interval interval_of(const Ints& x) { return {x.low, x.high, false}; }
Interval interval_of(const Reals& x) { return {x.low, x.high, x.may_be_nan}; }

class Bounds : public ::testing::Test {
 protected:
  template <class T>
  T draw() {
    if constexpr (std::is_same_v<T, Truth>) {
      const int which = pick(3);
      return {which == 1, which != 0};
    } else if constexpr (std::is_same_v<T, Ints>) {
      const double a = number(), b = pick(4) == 0 ? a : number();
      return {std::min(a, b), std::max(a, b)};
    } else {
      const float a = real(), b = pick(4) == 0 ? a : real();
      return {std::min(a, b), std::max(a, b), pick(5) == 0};
    }
  }

  /// Calls `device` on random bounds of these types and the operation's interval reading on the same.
  template <class O, class... T, class Device>
  void expect_same(Type operand_type, Device device) {
    for (int i = 0; i < 20000; ++i) {
      const std::tuple<T...> operands{draw<T>()...};
      std::apply(
          [&](const auto&... x) {
            const Interval expected = O::interval(operand_type, interval_of(x)...);
            const Interval got = interval_of(device(x...));
            ASSERT_TRUE(got == expected) << O::info.name << " of "
                                         << ::testing::PrintToString(std::vector{interval_of(x).low...}) << " to "
                                         << ::testing::PrintToString(std::vector{interval_of(x).high...}) << ": ["
                                         << got.low << ", " << got.high << "] " << got.may_be_nan << ", not ["
                                         << expected.low << ", " << expected.high << "] " << expected.may_be_nan;
          },
          operands);
      if (HasFatalFailure()) return;
    }
  }

 private:
  int pick(int count) { return std::uniform_int_distribution<int>(0, count - 1)(random_); }
  double number() {
    switch (pick(4)) {
      case 0: return pick(7) - 3;
      case 1: return pick(2000) - 1000;
      case 2: return std::ldexp(1.0, pick(31)) * (pick(2) == 0 ? 1 : -1);
      default: return static_cast<std::int32_t>(random_());
    }
  }
  float real() {
    switch (pick(5)) {
      case 0: return static_cast<float>(pick(7) - 3);
      case 1: return pick(2) == 0 ? INFINITY : -INFINITY;
      case 2: return std::ldexp(static_cast<float>(pick(1000) - 500), pick(60) - 30);
      case 3: return std::ldexp(static_cast<float>(pick(1000) - 500), pick(260) - 150);
      default: return std::normal_distribution<float>(0, 5)(random_);
    }
  }
  std::mt19937_64 random_{20260101};
};

TEST_F(Bounds, OfInts) {
  using namespace variant;  // NOLINT(google-build-using-namespace): the operations
  constexpr Type kInt = Type::int32;
  expect_same<Addition, Ints, Ints>(kInt, [](auto a, auto b) { return add(a, b); });
  expect_same<Subtraction, Ints, Ints>(kInt, [](auto a, auto b) { return sub(a, b); });
  expect_same<Multiplication, Ints, Ints>(kInt, [](auto a, auto b) { return mul(a, b); });
  expect_same<FloorDivision, Ints, Ints>(kInt, [](auto a, auto b) { return floor_divide(a, b); });
  expect_same<Modulo, Ints, Ints>(kInt, [](auto a, auto b) { return mod(a, b); });
  expect_same<Negation, Ints>(kInt, [](auto a) { return neg(a); });
  expect_same<Minimum, Ints, Ints>(kInt, [](auto a, auto b) { return min(a, b); });
  expect_same<Maximum, Ints, Ints>(kInt, [](auto a, auto b) { return max(a, b); });
  expect_same<Absolute, Ints>(kInt, [](auto a) { return abs(a); });
  expect_same<BitAnd, Ints, Ints>(kInt, [](auto a, auto b) { return bit_and(a, b); });
  expect_same<BitOr, Ints, Ints>(kInt, [](auto a, auto b) { return bit_or(a, b); });
  expect_same<BitXor, Ints, Ints>(kInt, [](auto a, auto b) { return bit_xor(a, b); });
  expect_same<BitNot, Ints>(kInt, [](auto a) { return bit_not(a); });
  expect_same<ShiftUp, Ints, Ints>(kInt, [](auto a, auto b) { return shift_left(a, b); });
  expect_same<ShiftDown, Ints, Ints>(kInt, [](auto a, auto b) { return shift_right(a, b); });
  expect_same<ToReal, Ints>(kInt, [](auto a) { return to_real(a); });
}

TEST_F(Bounds, OfReals) {
  using namespace variant;  // NOLINT(google-build-using-namespace)
  constexpr Type kReal = Type::real;
  expect_same<Addition, Reals, Reals>(kReal, [](auto a, auto b) { return add(a, b); });
  expect_same<Subtraction, Reals, Reals>(kReal, [](auto a, auto b) { return sub(a, b); });
  expect_same<Multiplication, Reals, Reals>(kReal, [](auto a, auto b) { return mul(a, b); });
  expect_same<Division, Reals, Reals>(kReal, [](auto a, auto b) { return div(a, b); });
  expect_same<Negation, Reals>(kReal, [](auto a) { return neg(a); });
  expect_same<Minimum, Reals, Reals>(kReal, [](auto a, auto b) { return min(a, b); });
  expect_same<Maximum, Reals, Reals>(kReal, [](auto a, auto b) { return max(a, b); });
  expect_same<Absolute, Reals>(kReal, [](auto a) { return abs(a); });
  expect_same<RoundDown, Reals>(kReal, [](auto a) { return floor(a); });
  expect_same<ToInt, Reals>(kReal, [](auto a) { return to_int(a); });
}

TEST_F(Bounds, OfFunctions) {
  using namespace variant;  // NOLINT(google-build-using-namespace)
  constexpr Type kReal = Type::real;
  expect_same<Exponential, Reals>(kReal, [](auto a) { return exp(a); });
  expect_same<Exponential2, Reals>(kReal, [](auto a) { return exp2(a); });
  expect_same<Logarithm, Reals>(kReal, [](auto a) { return log(a); });
  expect_same<Logarithm2, Reals>(kReal, [](auto a) { return log2(a); });
  expect_same<SquareRoot, Reals>(kReal, [](auto a) { return sqrt(a); });
  expect_same<ReciprocalSquareRoot, Reals>(kReal, [](auto a) { return rsqrt(a); });
  expect_same<HyperbolicTangent, Reals>(kReal, [](auto a) { return tanh(a); });
  expect_same<variant::Sigmoid, Reals>(kReal, [](auto a) { return sigmoid(a); });
  expect_same<ErrorFunction, Reals>(kReal, [](auto a) { return erf(a); });
  expect_same<Sine, Reals>(kReal, [](auto a) { return sin(a); });
  expect_same<Cosine, Reals>(kReal, [](auto a) { return cos(a); });
  expect_same<Power, Reals, Reals>(kReal, [](auto a, auto b) { return pow(a, b); });
}

TEST_F(Bounds, OfComparisonsAndLogic) {
  using namespace variant;  // NOLINT(google-build-using-namespace)
  const auto compare = [&]<class T>(Type type, T) {
    expect_same<Equal, T, T>(type, [](auto a, auto b) { return eq(a, b); });
    expect_same<NotEqual, T, T>(type, [](auto a, auto b) { return ne(a, b); });
    expect_same<Less, T, T>(type, [](auto a, auto b) { return lt(a, b); });
    expect_same<LessEqual, T, T>(type, [](auto a, auto b) { return le(a, b); });
    expect_same<Greater, T, T>(type, [](auto a, auto b) { return gt(a, b); });
    expect_same<GreaterEqual, T, T>(type, [](auto a, auto b) { return ge(a, b); });
    expect_same<Selection, Truth, T, T>(type, [](auto a, auto b, auto c) { return select(a, b, c); });
  };
  compare(Type::int32, Ints{});
  compare(Type::real, Reals{});
  expect_same<Selection, Truth, Truth, Truth>(Type::boolean, [](auto a, auto b, auto c) { return select(a, b, c); });
  expect_same<Conjunction, Truth, Truth>(Type::boolean, [](auto a, auto b) { return both(a, b); });
  expect_same<Disjunction, Truth, Truth>(Type::boolean, [](auto a, auto b) { return either(a, b); });
  expect_same<Inversion, Truth>(Type::boolean, [](auto a) { return negate(a); });
}

// An operation that is added must have bounds here and a row above.
static_assert(variant::kInfo.size() == 41);

}  // namespace
}  // namespace tilewise::cuda
