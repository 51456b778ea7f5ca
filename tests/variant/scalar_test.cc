// The scalar reading's own meaning, where C++ or IEEE leave room: expectations are derived by hand.
#include "variant/scalar.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "variant/operations/operations.h"

namespace tilewise::variant {
namespace {

constexpr std::int32_t kLeast = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();

template <class O>
std::int32_t of_ints(std::int32_t a, std::int32_t b = 0) {
  Value<float> operands[2]{};
  operands[0].int32 = a;
  operands[1].int32 = b;
  return evaluate_operation(number_of<O>, Type::int32, operands).int32;
}

template <class O, class Real>
Real of_reals(Real a, Real b = 0) {
  Value<Real> operands[2]{};
  operands[0].real = a;
  operands[1].real = b;
  return evaluate_operation(number_of<O>, Type::real, operands).real;
}

TEST(Scalar, IntsWrap) {
  EXPECT_EQ(of_ints<Addition>(kMost, 1), kLeast);
  EXPECT_EQ(of_ints<Subtraction>(kLeast, 1), kMost);
  EXPECT_EQ(of_ints<Multiplication>(1 << 16, 1 << 16), 0);
  EXPECT_EQ(of_ints<Multiplication>(kMost, kMost), 1);  // (2^31 - 1)^2 = 2^62 - 2^32 + 1
  EXPECT_EQ(of_ints<Negation>(kLeast), kLeast);
  EXPECT_EQ(of_ints<Absolute>(kLeast), kLeast);
}

TEST(Scalar, ShiftsCountModulo32AndKeepTheSignDownwards) {
  EXPECT_EQ(of_ints<ShiftUp>(1, 31), kLeast);
  EXPECT_EQ(of_ints<ShiftUp>(1, 32), 1);
  EXPECT_EQ(of_ints<ShiftUp>(3, -1), kLeast);  // by 31; the upper bit is lost
  EXPECT_EQ(of_ints<ShiftDown>(-5, 1), -3);    // floor(-2.5)
  EXPECT_EQ(of_ints<ShiftDown>(kLeast, 31), -1);
  EXPECT_EQ(of_ints<ShiftDown>(kLeast, 33), -(1 << 30));
  EXPECT_EQ(of_ints<BitNot>(0), -1);
  EXPECT_EQ(of_ints<BitXor>(-1, 0x0f0f0f0f), ~0x0f0f0f0f);
}

template <class Real>
void expect_minimum_and_maximum_as_stated() {
  const Real nan = std::numeric_limits<Real>::quiet_NaN();
  EXPECT_TRUE(std::isnan((of_reals<Minimum, Real>(nan, 1))));
  EXPECT_TRUE(std::isnan((of_reals<Minimum, Real>(1, nan))));
  EXPECT_TRUE(std::isnan((of_reals<Maximum, Real>(nan, 1))));
  EXPECT_TRUE(std::isnan((of_reals<Maximum, Real>(1, nan))));
  // The second where both are equal.
  EXPECT_TRUE(std::signbit(of_reals<Minimum, Real>(0, Real(-0.0))));
  EXPECT_FALSE(std::signbit(of_reals<Minimum, Real>(Real(-0.0), 0)));
  EXPECT_TRUE(std::signbit(of_reals<Maximum, Real>(0, Real(-0.0))));
  EXPECT_FALSE(std::signbit(of_reals<Maximum, Real>(Real(-0.0), 0)));
}
TEST(Scalar, MinimumAndMaximumAreAsStated) {
  expect_minimum_and_maximum_as_stated<float>();
  expect_minimum_and_maximum_as_stated<double>();
}

template <class Real>
void expect_saturation() {
  const auto to_int = [](Real x) {
    Value<Real> operand{};
    operand.real = x;
    return evaluate_operation(number_of<ToInt>, Type::real, &operand).int32;
  };
  EXPECT_EQ(to_int(Real(2.9)), 2);
  EXPECT_EQ(to_int(Real(-2.9)), -2);
  EXPECT_EQ(to_int(Real(1e30)), kMost);
  EXPECT_EQ(to_int(Real(-1e30)), kLeast);
  EXPECT_EQ(to_int(Real(0x1p31)), kMost);
  EXPECT_EQ(to_int(Real(-0x1p31)), kLeast);
  EXPECT_EQ(to_int(std::numeric_limits<Real>::infinity()), kMost);
  EXPECT_EQ(to_int(std::numeric_limits<Real>::quiet_NaN()), 0);
}
TEST(Scalar, ToIntSaturates) {
  expect_saturation<float>();
  expect_saturation<double>();
}

TEST(Scalar, ToRealRoundsToNearestEven) {
  Value<float> operand{};
  operand.int32 = (1 << 24) + 1;
  EXPECT_EQ(evaluate_operation(number_of<ToReal>, Type::int32, &operand).real, 0x1p24f);
  operand.int32 = kMost;
  EXPECT_EQ(evaluate_operation(number_of<ToReal>, Type::int32, &operand).real, 0x1p31f);
}

TEST(Scalar, FunctionsAtTheirEdges) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ((of_reals<Division, float>(1, 0)), infinity);
  EXPECT_EQ((of_reals<Division, float>(1, -0.0f)), -infinity);
  EXPECT_EQ((of_reals<Logarithm, float>(0)), -infinity);
  EXPECT_TRUE(std::isnan(of_reals<Logarithm, float>(-1)));
  EXPECT_EQ((of_reals<ReciprocalSquareRoot, float>(-0.0f)), -infinity);
  EXPECT_EQ((of_reals<Sigmoid, float>(-infinity)), 0);
  EXPECT_EQ((of_reals<Sigmoid, float>(infinity)), 1);
  EXPECT_EQ((of_reals<Power, float>(-2, 3)), -8);
  EXPECT_TRUE(std::isnan(of_reals<Power, float>(-2, 0.5f)));
  EXPECT_EQ((of_reals<Power, float>(std::nanf(""), 0)), 1);
}

TEST(Scalar, ReadsAreClamped) {
  const float numbers[] = {10, 11, 12, 20, 21, 22};
  const Table table("t", DType::float32, 2);
  const Variant variant = score([&](Expr, const At& at) { return table(at.query, at.key); });
  const Graph& graph = variant.data().graph;
  const Bound bound =
      bind(graph, {.tables = {{table, ConstTensor(numbers, DType::float32, {2, 3})}}, .parameters = {}});
  ScalarReading<float> reading(graph, bound);
  const auto read = [&](std::int32_t query, std::int32_t key) {
    Place place{};
    place[static_cast<std::size_t>(Coordinate::query)] = query;
    place[static_cast<std::size_t>(Coordinate::key)] = key;
    reading.enter(place);
    return reading.evaluate(variant.data().stages[0].root).real;
  };
  EXPECT_EQ(read(0, 0), 10);
  EXPECT_EQ(read(1, 2), 22);
  EXPECT_EQ(read(-7, 1), 11);
  EXPECT_EQ(read(5, kMost), 22);
  EXPECT_EQ(read(kLeast, kLeast), 10);
}

}  // namespace
}  // namespace tilewise::variant
