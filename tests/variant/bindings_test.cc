// What a call binds: each table and parameter once, of the right shape, type and range.
#include "variant/bindings.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/refusal.h"
#include "tilewise/variant.h"

namespace tilewise::variant {
namespace {

class Bind : public testing::Test {
 protected:
  Bound bound(const Bindings& bindings) { return bind(variant_.data().graph, bindings); }
  TableBinding good_table() const { return {bias_, ConstTensor(numbers_, DType::float32, {2, 3})}; }
  ParameterBinding good_parameter() const { return {slope_, 1.5}; }

  const float numbers_[6] = {0, 1, 2, 3, 4, 5};
  const Table bias_{"bias", DType::float32, 2};
  const Parameter slope_{"slope", 1, 2};
  const Variant variant_ =
      score([this](Expr s, const At& at) { return slope_ * s + bias_.clamped(at.head, at.query - at.key); });
};

TEST_F(Bind, GivesDataAndValuesInTheOrderOfTheGraph) {
  const Bound all = bound({.tables = {good_table()}, .parameters = {good_parameter()}});
  ASSERT_EQ(all.tables.size(), 1u);
  EXPECT_EQ(all.tables[0].at(std::array<std::int64_t, 2>{1, 2}), 5);
  EXPECT_EQ(all.parameters, std::vector{1.5});
}

TEST_F(Bind, EachExactlyOnce) {
  expect_refused([&] { bound({.tables = {}, .parameters = {good_parameter()}}); },
                 {"table 'bias'", "not bound", "expected one binding"});
  expect_refused([&] { bound({.tables = {good_table()}, .parameters = {}}); },
                 {"parameter 'slope'", "not bound", "expected one binding"});
  expect_refused(
      [&] {
        bound({.tables = {good_table(), good_table()}, .parameters = {good_parameter()}});
      },
      {"table 'bias'", "2 times", "expected once"});
  expect_refused(
      [&] {
        bound({.tables = {good_table()}, .parameters = {good_parameter(), good_parameter()}});
      },
      {"parameter 'slope'", "2 times", "expected once"});
}

TEST_F(Bind, OnlyTheVariantsOwn) {
  // Handles of the same name are others.
  const TableBinding stranger{Table("bias", DType::float32, 2), good_table().data};
  expect_refused(
      [&] {
        bound({.tables = {good_table(), stranger}, .parameters = {good_parameter()}});
      },
      {"table 'bias'", "does not read it", "handles"});
  expect_refused(
      [&] {
        bound({.tables = {good_table()}, .parameters = {good_parameter(), {Parameter("other"), 1}}});
      },
      {"parameter 'other'", "does not read it"});
}

TEST_F(Bind, TheDataIsWhatTheTableDeclares) {
  const auto with = [&](const ConstTensor& data) {
    bound({.tables = {{bias_, data}}, .parameters = {good_parameter()}});
  };
  expect_refused([&] { with(ConstTensor(numbers_, DType::float32, {6})); }, {"table 'bias'", "rank 1", "expected 2"});
  expect_refused(
      [&] {
        with(ConstTensor(numbers_, DType::int32, {2, 3}));
      },
      {"table 'bias'", "int32", "expected float32"});
  expect_refused([&] { with(ConstTensor(nullptr, DType::float32, {2, 3})); }, {"table 'bias'", "null", "6 elements"});
  EXPECT_NO_THROW(with(ConstTensor(nullptr, DType::float32, {2, 0})));
  ConstTensor negative = good_table().data;
  negative.extents[1] = -3;
  expect_refused([&] { with(negative); }, {"table 'bias'", "axis 1", "-3", "expected 0"});
  ConstTensor vast = good_table().data;
  vast.extents[0] = std::int64_t{1} << 31;
  vast.strides[0] = 0;
  expect_refused([&] { with(vast); }, {"table 'bias'", "axis 0", "2147483648", "2147483647"});
}

TEST_F(Bind, ParametersLieInTheirRange) {
  const auto with = [&](double value) { bound({.tables = {good_table()}, .parameters = {{slope_, value}}}); };
  for (double inside : {1.0, 2.0}) EXPECT_NO_THROW(with(inside));
  expect_refused([&] { with(0.5); }, {"parameter 'slope'", "0.5", "expected 1 to 2"});
  expect_refused([&] { with(std::nan("")); }, {"parameter 'slope'", "nan"});
}

TEST(Bindings, IntParametersAreInts) {
  const Parameter size = Parameter::integer("size", -4, 4);
  const Variant variant = keep([&](const At& at) { return at.query < size; });
  const auto with = [&](double value) { bind(variant.data().graph, {.tables = {}, .parameters = {{size, value}}}); };
  EXPECT_NO_THROW(with(-4));
  expect_refused([&] { with(1.5); }, {"parameter 'size'", "1.5", "expected an int"});
  expect_refused([&] { with(5); }, {"parameter 'size'", "5", "-4 to 4"});
}

TEST(Bindings, ValuesLieInTheDeclaredRange) {
  const std::int32_t ids[] = {0, 3, 7};
  const Table table = Table("documents", DType::int32, 1).values_in(0, 6);
  const Variant variant = keep([&](const At& at) { return table(at.key) == 3; });
  expect_refused(
      [&] {
        bind(variant.data().graph, {.tables = {{table, ConstTensor(ids, DType::int32, {3})}}, .parameters = {}});
      },
      {"table 'documents'", "[2]", "is 7", "0 to 6"});
  EXPECT_NO_THROW(
      bind(variant.data().graph, {.tables = {{table, ConstTensor(ids, DType::int32, {2})}}, .parameters = {}}));
  const float not_a_number[] = {std::nanf("")};
  const Table bounded = Table("bias", DType::float32, 1).values_in(-1, 1);
  const Variant biased = score([&](Expr s, const At& at) { return s + bounded(at.key); });
  expect_refused(
      [&] {
        bind(biased.data().graph,
             {.tables = {{bounded, ConstTensor(not_a_number, DType::float32, {1})}}, .parameters = {}});
      },
      {"table 'bias'", "[0]", "nan", "-1 to 1"});
}

TEST(Bindings, WideIntsFitInt32) {
  const Table table("offsets", DType::int64, 1);
  const Variant variant = keep([&](const At& at) { return table(at.key) == 3; });
  const auto with = [&](std::int64_t value) {
    const std::int64_t data[] = {0, value};
    const Bound bound =
        bind(variant.data().graph, {.tables = {{table, ConstTensor(data, DType::int64, {2})}}, .parameters = {}});
    return bound.tables[0].at(std::array<std::int64_t, 1>{1});
  };
  EXPECT_EQ(with(2147483647), 2147483647);
  EXPECT_EQ(with(-2147483648), -2147483648.0);
  expect_refused([&] { with(2147483648); }, {"table 'offsets'", "[1]", "2147483648", "-2147483648 to 2147483647"});
}

TEST(Bindings, AFrozenTableIsBoundAlready) {
  float numbers[] = {1, 2, 3, 4};
  const std::int64_t extents[] = {2}, strides[] = {-2};
  const ConstTensor backwards(numbers + 2, DType::float32, extents, strides);  // 3, 1
  const Table table = Table::frozen("slopes", backwards);
  const Variant variant = score([&](Expr s, const At& at) { return s * table(at.head); });
  for (float& number : numbers) number = 0;  // copied when it was frozen
  const Bound bound = bind(variant.data().graph, {});
  EXPECT_EQ(bound.tables[0].at(std::array<std::int64_t, 1>{0}), 3);
  EXPECT_EQ(bound.tables[0].at(std::array<std::int64_t, 1>{1}), 1);
  EXPECT_EQ(table.low(), 1);
  EXPECT_EQ(table.high(), 3);
  expect_refused(
      [&] {
        bind(variant.data().graph, {.tables = {{table, backwards}}, .parameters = {}});
      },
      {"table 'slopes'", "frozen", "expected no binding"});
}

}  // namespace
}  // namespace tilewise::variant
