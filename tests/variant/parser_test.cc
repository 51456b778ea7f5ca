// Texts that people write, against the same variant recorded in C++.
#include "variant/text/parser.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "tests/variant/round_trip.h"
#include "variant/recording.h"

namespace tilewise {
namespace {

/// The text means `variant`: the same key and literals; and it survives being printed.
void expect_means(const std::string& text, const Variant& variant) {
  SCOPED_TRACE(text);
  const Variant found = parse_variant(text);
  EXPECT_EQ(to_string(found), to_string(variant));
  EXPECT_EQ(found.key(), variant.key());
  EXPECT_EQ(bits_of(found.literals()), bits_of(variant.literals()));
  expect_round_trip(found);
}

template <class Function>
void expect_scores(const std::string& expression, Function function) {
  expect_means("score(" + expression + ")", score(function));
}

template <class Function>
void expect_keeps(const std::string& expression, Function function) {
  expect_means("keep(" + expression + ")", keep([&](const At& at) { return function(at); }));
}

TEST(Parser, ReadsStagesInOrder) {
  const Variant window = keep([](const At& at) { return at.query >= at.key && at.query - at.key < 1024; });
  const Variant cap = score([](Expr s, const At&) { return 30 * tanh(s / 30); });
  expect_means("keep(query >= key and query - key < 1024) & score(30 * tanh(s / 30))", window & cap);
  expect_means("score(30 * tanh(s / 30)) & keep(query >= key and query - key < 1024)", cap & window);
  expect_means("sink(0.5) & score(s * 2) & dropout(0.25)",
               score([](Expr s, const At&) { return s * 2; }) & sink([](const At&) { return 0.5; }) & dropout(0.25));
}

TEST(Parser, PlainIsNeutral) {
  expect_means("plain", Variant());
  expect_means(" plain () ", Variant());
  expect_means("plain & dropout(1) & plain", dropout(1));
}

TEST(Parser, PrecedenceIsPythons) {
  expect_scores("s + 2 * s - 3 / s", [](Expr s, const At&) { return s + 2 * s - 3 / s; });
  expect_scores("s - s - s", [](Expr s, const At&) { return (s - s) - s; });
  expect_scores("s / 2 * 3", [](Expr s, const At&) { return (s / 2) * 3; });
  expect_scores("-s ** 2", [](Expr s, const At&) { return -pow(s, 2); });
  expect_scores("-5 ** 2", [](Expr, const At&) { return -pow(5, 2); });
  expect_scores("(-5) ** 2", [](Expr, const At&) { return pow(-5, 2); });
  expect_scores("2 * s ** -1.5 * 3", [](Expr s, const At&) { return 2 * pow(s, -1.5) * 3; });
  expect_scores("-s * s", [](Expr s, const At&) { return -s * s; });
  expect_scores("s * -s", [](Expr s, const At&) { return s * -s; });
  expect_scores("--s", [](Expr s, const At&) { return s; });
  expect_keeps("query | key ^ head & 6 << 1 + batch == keys",
               [](const At& at) { return (at.query | (at.key ^ (at.head & (Expr(6) << (1 + at.batch))))) == at.keys; });
  expect_keeps("query < key or not query == 3 and key > 4",
               [](const At& at) { return at.query < at.key || (!(at.query == 3) && at.key > 4); });
  expect_keeps("not not query < key", [](const At& at) { return at.query < at.key; });
  expect_keeps("(query + 2) * -~key % 7 // 3 >= key >> 1",
               [](const At& at) { return floor_divide(((at.query + 2) * -~at.key) % 7, 3) >= (at.key >> 1); });
}

TEST(Parser, ReadsFunctionsAndCasts) {
  expect_scores("exp(s) + exp2(s) + log(s) + log2(s) + sqrt(s) + rsqrt(s) + tanh(s) + sigmoid(s)",
                [](Expr s, const At&) {
                  return exp(s) + exp2(s) + log(s) + log2(s) + sqrt(s) + rsqrt(s) + tanh(s) + sigmoid(s);
                });
  expect_scores("erf(s) + sin(s) * cos(s) - floor(s) + abs(s)",
                [](Expr s, const At&) { return erf(s) + sin(s) * cos(s) - floor(s) + abs(s); });
  expect_scores("min(query, 3) + max(s, head)",
                [](Expr s, const At& at) { return min(at.query, 3) + max(s, at.head); });
  expect_scores("select(query > key, s, -inf)",
                [](Expr s, const At& at) { return select(at.query > at.key, s, -kInfinity); });
  expect_scores("real(query)", [](Expr, const At& at) { return to_real(at.query); });
  expect_scores("real(2) * query", [](Expr, const At& at) { return to_real(2) * at.query; });
  expect_scores("real(s)", [](Expr s, const At&) { return to_real(s); });
  expect_keeps("int(query * 0.5) == key and select(query > key, true, key < 3)", [](const At& at) {
    return to_int(at.query * 0.5) == at.key && select(at.query > at.key, true, at.key < 3);
  });
}

TEST(Parser, ReadsNumbersOfEveryForm) {
  expect_scores("s + 5 + 5.0 + 5. + .5 + 5e1 + 5E-1 + 007",
                [](Expr s, const At&) { return s + 5 + 5.0 + 5.0 + 0.5 + 50.0 + 0.5 + 7; });
  expect_keeps("query > -2147483648 and query < 2147483647",
               [](const At& at) { return at.query > (-2147483647 - 1) && at.query < 2147483647; });
  expect_scores("s * inf - -inf + -0.0", [](Expr s, const At&) { return s * kInfinity - -kInfinity + -0.0; });
  expect_scores("s * constant(2) + constant(-0.5)",
                [](Expr s, const At&) { return s * constant(2.0) + constant(-0.5); });
}

TEST(Parser, SpaceMattersNotBeyondWords) {
  expect_means("\n\tkeep ( query>=key\r\n and(query)-key<1024 )&dropout( .5 )\n",
               keep([](const At& at) { return at.query >= at.key && at.query - at.key < 1024; }) & dropout(0.5));
}

TEST(Parser, LetsNameParts) {
  expect_keeps("let d = query - 5; d >= 0 and d < 1024", [](const At& at) {
    const Expr d = at.query - 5;
    return d >= 0 && d < 1024;
  });
  expect_scores("let t = s + 2; let u = t * t; u - t", [](Expr s, const At&) {
    const Expr t = s + 2, u = t * t;
    return u - t;
  });
  // A name ends with its stage, and may be given again.
  expect_means("keep(let d = query; d > 2) & keep(let d = key; d > 2)",
               keep([](const At& at) { return at.query > 2; }) & keep([](const At& at) { return at.key > 2; }));
}

TEST(Parser, LetsBeforeTheStagesAreSharedByThem) {
  variant::Recording recording;
  const At at = recording.at();
  const Expr distance = at.query - at.key - 5;
  using Kind = variant::Stage::Kind;
  const std::vector<variant::Stage> stages{{Kind::keep, (distance < 10).node()},
                                           {Kind::score, (distance * 0.5).node()}};
  const Variant shared = make_variant(recording.graph(), stages, variant::kNoNode, {});
  expect_means("let d = query - key - 5; keep(d < 10) & score(d * 0.5)", shared);
  EXPECT_EQ(shared.literals().size(), 3u);
}

TEST(Parser, ReadsParameters) {
  const Variant found = parse_variant(
      "param cap: real in [0, 100]; param n: int; param m : int in [-3, 8]; "
      "score(s * cap) & keep(n > query and m > 0)");
  ASSERT_EQ(found.parameters().size(), 3u);
  EXPECT_EQ(found.parameters()[0].name(), "cap");
  EXPECT_EQ(found.parameters()[0].type(), Type::real);
  EXPECT_EQ(found.parameters()[0].low(), 0);
  EXPECT_EQ(found.parameters()[0].high(), 100);
  EXPECT_EQ(found.parameters()[1].type(), Type::int32);
  EXPECT_EQ(found.parameters()[1].low(), -2147483648.0);
  EXPECT_EQ(found.parameters()[2].low(), -3);
  EXPECT_EQ(found.parameters()[2].high(), 8);
  expect_round_trip(found);
}

TEST(Parser, ReadsTables) {
  const Variant found = parse_variant(
      "table bias: float32[?, ?] in [-1, 1]; table ids: int64[?]; "
      "score(s + bias[head, query - key]) & keep(ids[query_token] == ids.clamped[key_token + 1])");
  ASSERT_EQ(found.tables().size(), 2u);
  EXPECT_EQ(found.tables()[0].name(), "bias");
  EXPECT_EQ(found.tables()[0].dtype(), DType::float32);
  EXPECT_EQ(found.tables()[0].rank(), 2);
  EXPECT_TRUE(found.tables()[0].has_declared_range());
  EXPECT_EQ(found.tables()[0].low(), -1);
  EXPECT_EQ(found.tables()[1].dtype(), DType::int64);
  EXPECT_FALSE(found.tables()[1].has_declared_range());
  EXPECT_FALSE(found.tables()[1].frozen_data().has_value());
  expect_round_trip(found);

  const Table bias("other", DType::float32, 2), ids("names", DType::int64, 1);
  const Variant same = score([&](Expr s, const At& at) { return s + bias(at.head, at.query - at.key); }) &
                       keep([&](const At& at) { return ids(at.query_token) == ids.clamped(at.key_token + 1); });
  EXPECT_EQ(found.key(), same.key());  // names and ranges are not part of it
}

TEST(Parser, ReadsFrozenTables) {
  const Variant found = parse_variant(
      "table slopes: float32[2, 2] = [0.5, -0.1, inf, nan]; table on: bool[2] = [true, false]; "
      "table empty: uint8[0, 3] = []; table range: float16[1] in [-2, 2] = [1]; "
      "score(s * slopes[0, head] + range[0]) & keep(on[head] and empty[0, 0] == 0)");
  ASSERT_EQ(found.tables().size(), 4u);
  const ConstTensor slopes = *found.tables()[0].frozen_data();
  const auto* values = static_cast<const float*>(slopes.data);
  EXPECT_EQ(slopes.extents[0], 2);
  EXPECT_EQ(slopes.extents[1], 2);
  EXPECT_EQ(values[0], 0.5f);
  EXPECT_EQ(values[1], -0.1f);
  EXPECT_EQ(values[2], std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(values[3]));
  EXPECT_EQ(found.tables()[1].low(), -2);
  EXPECT_EQ(found.tables()[3].frozen_data()->elements(), 0);
  expect_round_trip(found);
}

TEST(Parser, FrozenNumbersRoundToTheirDtype) {
  const Variant found = parse_variant("table t: float32[1] = [0.1]; score(s + t[0])");
  EXPECT_EQ(found.tables()[0].low(), static_cast<double>(0.1f));
}

}  // namespace
}  // namespace tilewise
