// What variants print as, and that the text reads back.
#include "variant/text/printer.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>

#include "core/half.h"
#include "tests/variant/round_trip.h"
#include "tilewise/error.h"

#include "variant/build.h"
#include "variant/operations/operations.h"
#include "variant/recording.h"

namespace tilewise {
namespace {

/// The text of the variant, which must also read back.
std::string text_of(const Variant& variant) {
  expect_round_trip(variant);
  return to_string(variant);
}

/// The text of what `function` makes of the score and the place.
template <class Function>
std::string score_text(Function function) {
  const std::string text = text_of(score(function));
  return text.substr(6, text.size() - 7);  // score(...)
}

template <class Function>
std::string keep_text(Function function) {
  const std::string text = text_of(keep(function));
  return text.substr(5, text.size() - 6);  // keep(...)
}

TEST(Printer, PlainAttentionIsPlain) { EXPECT_EQ(text_of(Variant()), "plain"); }

TEST(Printer, WritesTheMathematicsAsItWasRecorded) {
  const Table bias("bias", DType::float32, 2);
  const Variant mine =
      keep([](const At& at) { return at.query >= at.key && at.query - at.key < 1024; }) &
      score([&](Expr s, const At& at) { return 30.0f * tanh(s / 30.0f) + bias(at.head, at.query - at.key); });
  EXPECT_EQ(text_of(mine),
            "table bias: float32[?, ?]; keep(query >= key and query - key < 1024) & "
            "score(30 * tanh(s / 30) + bias[head, query - key])");
}

TEST(Printer, WritesSinkAndDropoutLast) {
  const Table logit("logit", DType::float16, 1);
  const Variant variant = dropout(0.1) & sink([&](const At& at) { return logit(at.head); }) &
                          keep([](const At& at) { return at.query >= at.key; });
  EXPECT_EQ(text_of(variant), "table logit: float16[?]; keep(query >= key) & sink(logit[head]) & dropout(0.1)");
  EXPECT_EQ(text_of(dropout(0)), "dropout(0)");
  EXPECT_EQ(text_of(dropout(1.0 / 3)), "dropout(0.3333333333333333)");
  EXPECT_EQ(text_of(sink([](const At&) { return 0; })), "sink(0)");
}

TEST(Printer, NamesEveryCoordinate) {
  EXPECT_EQ(keep_text([](const At& at) {
              return at.query + at.key + at.query_index + at.key_index + at.query_token + at.key_token + at.queries +
                         at.keys + at.batch + at.head + at.kv_head >
                     0;
            }),
            "query + key + query_index + key_index + query_token + key_token + queries + keys + batch + head + kv_head "
            "> 0");
}

TEST(Printer, ParenthesesStandOnlyWhereTheyAreNeeded) {
  EXPECT_EQ(score_text([](Expr s, const At&) { return s - (s - 5) - 6; }), "s - (s - 5) - 6");
  EXPECT_EQ(score_text([](Expr s, const At&) { return (s + 2) * (s * 3 / 4); }), "(s + 2) * (s * 3 / 4)");
  EXPECT_EQ(score_text([](Expr s, const At&) { return -(s * s) + -s; }), "-(s * s) + -s");
  EXPECT_EQ(score_text([](Expr s, const At&) { return pow(pow(-s, 2), 3); }), "((-s) ** 2) ** 3");
  EXPECT_EQ(score_text([](Expr s, const At&) { return -pow(s, 2); }), "-s ** 2");
  EXPECT_EQ(score_text([](Expr s, const At&) { return pow(s, -0.5); }), "s ** -0.5");
  EXPECT_EQ(keep_text([](const At& at) { return !(at.query == 2 || at.key == 3) && !(at.head == 4); }),
            "not (query == 2 or key == 3) and not head == 4");
  EXPECT_EQ(keep_text([](const At& at) { return (at.query == 2 || at.key == 3) && at.head == 4; }),
            "(query == 2 or key == 3) and head == 4");
  EXPECT_EQ(keep_text([](const At& at) { return ((at.query & 6) | (at.key ^ at.head)) == (at.query << 2) + 7; }),
            "query & 6 | key ^ head == (query << 2) + 7");
  EXPECT_EQ(keep_text([](const At& at) { return (~at.query >> (at.key & 31)) % -3 < at.query % (at.key + 5); }),
            "(~query >> (key & 31)) % -3 < query % (key + 5)");
  EXPECT_EQ(
      keep_text([](const At& at) { return floor_divide(at.query, 16) == floor_divide(floor_divide(at.key, 4), 4); }),
      "query // 16 == key // 4 // 4");
}

TEST(Printer, PointsAndCastsStandOnlyWhereReadingDoesNotPromote) {
  EXPECT_EQ(score_text([](Expr s, const At& at) { return s * 2.0 + at.query; }), "s * 2 + query");
  EXPECT_EQ(score_text([](Expr, const At& at) { return at.query; }), "query");
  EXPECT_EQ(score_text([](Expr, const At&) { return 2.0; }), "2");
  EXPECT_EQ(score_text([](Expr, const At& at) { return at.query * 2.0; }), "query * 2.0");
  EXPECT_EQ(score_text([](Expr, const At& at) { return to_real(at.query) * to_real(at.key); }), "real(query) * key");
  EXPECT_EQ(score_text([](Expr, const At&) { return Expr(2.0) + 3.0; }), "2.0 + 3");
  EXPECT_EQ(score_text([](Expr, const At& at) { return at.query / at.keys; }), "query / keys");
  EXPECT_EQ(score_text([](Expr, const At& at) { return exp(at.query + 2); }), "exp(query + 2)");
  EXPECT_EQ(score_text([](Expr, const At& at) { return min(at.query, 2.5) * abs(to_real(at.key)); }),
            "min(query, 2.5) * abs(real(key))");
  EXPECT_EQ(score_text([](Expr s, const At& at) { return select(at.query > at.key, s, at.head); }),
            "select(query > key, s, head)");
  EXPECT_EQ(score_text([](Expr, const At& at) { return select(at.query > at.key, 2.0, to_real(at.head)); }),
            "select(query > key, 2.0, head)");
  EXPECT_EQ(keep_text([](const At& at) { return at.query < 2.0; }), "query < 2.0");
  EXPECT_EQ(keep_text([](const At& at) { return at.query < 2.5; }), "query < 2.5");
  EXPECT_EQ(keep_text([](const At& at) { return to_int(at.query * 0.5) < 2; }), "int(query * 0.5) < 2");
  EXPECT_EQ(score_text([](Expr, const At& at) { return -to_real(at.query); }), "-real(query)");
  EXPECT_EQ(score_text([](Expr, const At& at) { return -at.query; }), "-query");
}

TEST(Printer, NumbersReadBackToTheSameBits) {
  EXPECT_EQ(score_text([](Expr s, const At&) { return s * 0.1 + 1e30 - 1e-300; }), "s * 0.1 + 1e+30 - 1e-300");
  EXPECT_EQ(score_text([](Expr s, const At&) { return s * 0.1f; }), "s * 0.10000000149011612");
  EXPECT_EQ(score_text([](Expr s, const At&) { return s * 5e-324; }), "s * 5e-324");
  EXPECT_EQ(score_text([](Expr s, const At&) { return s * 3e9; }), "s * 3000000000.0");
  EXPECT_EQ(score_text([](Expr s, const At&) { return s * 2147483647.0 * -2147483648.0; }),
            "s * 2147483647 * -2147483648");
  EXPECT_EQ(score_text([](Expr s, const At&) { return max(s, -kInfinity) + -0.0; }), "max(s, -inf) + -0.0");
  EXPECT_EQ(keep_text([](const At& at) { return at.query > std::numeric_limits<std::int32_t>::min(); }),
            "query > -2147483648");
  EXPECT_EQ(keep_text([](const At&) { return true; }), "true");
}

TEST(Printer, ANegatedNumberIsNotANegativeNumber) {
  EXPECT_EQ(score_text([](Expr s, const At&) { return s + Expr(-5.0); }), "s + -5");
  EXPECT_EQ(score_text([](Expr s, const At&) { return s + -Expr(5.0); }), "s + -(5.0)");
  EXPECT_EQ(score_text([](Expr s, const At&) { return s + -Expr(-5.0); }), "s + -(-5.0)");
  EXPECT_EQ(score_text([](Expr s, const At&) { return s + pow(-5, 3); }), "s + (-5) ** 3");
  EXPECT_EQ(score_text([](Expr s, const At&) { return s + -pow(5, 3); }), "s + -5 ** 3");
  EXPECT_EQ(keep_text([](const At& at) { return at.query > ~Expr(-5); }), "query > ~-5");
}

TEST(Printer, BakedNumbersAreMarkedWhereTheyWouldBeLifted) {
  EXPECT_EQ(score_text([](Expr s, const At&) { return s * constant(2.0); }), "s * constant(2.0)");
  EXPECT_EQ(score_text([](Expr s, const At&) { return s * constant(-0.1); }), "s * constant(-0.1)");
  EXPECT_EQ(keep_text([](const At& at) { return at.query > constant(-7); }), "query > constant(-7)");
  EXPECT_EQ(score_text([](Expr s, const At&) { return s * constant(1.0) + constant(-1.0); }), "s + -1");
  EXPECT_EQ(score_text([](Expr s, const At&) { return s + constant(16777217); }), "s + constant(16777217)");
  EXPECT_EQ(score_text([](Expr s, const At&) { return pow(s, 16777217.0); }), "s ** 16777217.0");
  EXPECT_EQ(score_text([](Expr s, const At&) { return pow(s, kInfinity); }), "s ** inf");
  EXPECT_EQ(score_text([](Expr s, const At&) { return s + exp(Expr(1.0)) + -constant(0.1); }),
            "s + exp(1) + -constant(0.1)");
}

TEST(Printer, AnExpressionThatIsUsedTwiceAndHoldsALiteralIsNamed) {
  EXPECT_EQ(keep_text([](const At& at) {
              const Expr d = at.query - 5;
              return d >= 0 && d < 1024;
            }),
            "let a = query - 5; a >= 0 and a < 1024");
  EXPECT_EQ(score_text([](Expr s, const At&) {
              const Expr five = 5.0;
              return (s + five) * five;
            }),
            "let a = 5.0; (s + a) * a");
  EXPECT_EQ(score_text([](Expr s, const At&) {
              const Expr t = s + 2, u = t * t * 3;
              return u - u / t;
            }),
            "let a = s + 2; let b = a * a * 3; b - b / a");
}

TEST(Printer, ALiteralUsedAsIntAndAsRealIsTwo) {
  const Variant variant = score([](Expr s, const At& at) {
    const Expr five = 5;
    return s * five + (at.query + five);
  });
  EXPECT_EQ(text_of(variant), "score(s * 5 + (query + 5))");
  EXPECT_EQ(variant.literals().size(), 2u);
}

TEST(Printer, SmallSharedExpressionsWithoutLiteralsAreWrittenOut) {
  EXPECT_EQ(keep_text([](const At& at) {
              const Expr d = at.query - at.key;
              return d >= 0 && d < at.keys;
            }),
            "query - key >= 0 and query - key < keys");
}

TEST(Printer, TextGrowsNoFasterThanTheGraph) {
  const Variant tower = score([](Expr s, const At&) {
    for (int i = 0; i < 200; ++i) s = s * s + s;
    return s;
  });
  EXPECT_LT(text_of(tower).size(), 20000u);
}

TEST(Printer, WhatStagesShareIsNamedBeforeThem) {
  using namespace variant;  // NOLINT(google-build-using-namespace): of this test alone
  Recording recording;
  const At at = recording.at();
  const Expr distance = at.query - at.key - 5;
  const NodeId near = recording.node_of(distance < 10), biased = recording.node_of(distance * 0.5);
  const Variant variant =
      make_variant(recording.graph(), {{Stage::Kind::keep, near}, {Stage::Kind::score, biased}}, kNoNode, {});
  EXPECT_EQ(text_of(variant), "let a = query - key - 5; keep(a < 10) & score(a * 0.5)");
}

TEST(Printer, AComposedVariantReadsBackThoughItsPartsRepeat) {
  const Variant window = keep([](const At& at) { return at.query - at.key < 1024; });
  EXPECT_EQ(text_of(window & window), "keep(query - key < 1024) & keep(query - key < 1024)");
  const Variant cap = score([](Expr s, const At&) { return 30 * tanh(s / 30); });
  EXPECT_EQ(text_of(cap & cap & window),
            "score(30 * tanh(s / 30)) & score(30 * tanh(s / 30)) & keep(query - key < 1024)");
}

TEST(Printer, LongChainsNeedNoNames) {
  const Variant chain = keep([](const At& at) {
    Expr any = at.query == 2;
    for (int i = 3; i < 300; ++i) any = any || at.query == i;
    return any;
  });
  EXPECT_EQ(text_of(chain).find("let"), std::string::npos);
}

TEST(Printer, DeepExpressionsAreNamedInParts) {
  const auto nested = [](int depth) {
    return score([depth](Expr s, const At&) {
      for (int i = 0; i < depth; ++i) s = 2 - s;
      return s;
    });
  };
  EXPECT_NE(text_of(nested(variant::kMaxDepth)).find("let a = "), std::string::npos);
  EXPECT_EQ(text_of(nested(50)).find("let"), std::string::npos);
  EXPECT_THROW(nested(variant::kMaxDepth + 1), Error);
  EXPECT_THROW(nested(100000), Error);  // and no stack overflow
}

TEST(Printer, ParametersAreDeclaredWithTheirRanges) {
  const Parameter cap("cap", 0, 100), any("any"), half("half", 0.5);
  const Parameter n = Parameter::integer("n"), m = Parameter::integer("m", -3, 8);
  EXPECT_EQ(text_of(score([&](Expr s, const At&) { return s * cap + any + half + n + m; })),
            "param cap: real in [0, 100]; param any: real; param half: real in [0.5, inf]; param n: int; "
            "param m: int in [-3, 8]; score(s * cap + any + half + n + m)");
}

TEST(Printer, TablesToBeBoundAreDeclaredByRankAndRange) {
  const Table a("a", DType::int64, 1), b = Table("b", DType::bfloat16, 4).values_in(-kInfinity, 2.5);
  const Table c("c", DType::boolean, 2), d = Table("d", DType::uint8, 1).values_in(0, 7);
  EXPECT_EQ(text_of(keep([&](const At& at) { return c(at.query, at.key) && d(at.head) == a(at.batch); }) &
                    score([&](Expr s, const At& at) { return s + b.clamped(at.batch, at.head, at.query, at.key); })),
            "table c: bool[?, ?]; table d: uint8[?] in [0, 7]; table a: int64[?]; "
            "table b: bfloat16[?, ?, ?, ?] in [-inf, 2.5]; keep(c[query, key] and d[head] == a[batch]) & "
            "score(s + b.clamped[batch, head, query, key])");
}

template <class T, std::size_t N>
Variant with_frozen(DType dtype, const std::array<T, N>& values, std::initializer_list<std::int64_t> extents) {
  const Table table = Table::frozen("t", ConstTensor(values.data(), dtype, extents));
  return keep([&](const At& at) {
    std::vector<Expr> index(extents.size(), at.head);
    const Expr value = table.read(index, true);
    return table.type() == Type::boolean ? value : value > 0;
  });
}

TEST(Printer, SmallFrozenTablesShowTheirValues) {
  EXPECT_EQ(text_of(with_frozen(DType::float32, std::array{0.5f, 0.1f, -0.0f, 3e38f}, {2, 2})),
            "table t: float32[2, 2] = [0.5, 0.1, -0, 3e+38]; keep(t.clamped[head, head] > 0)");
  EXPECT_EQ(text_of(with_frozen(DType::float64, std::array{0.1, 0.1 + 0x1p-56, 5e-324}, {3})),
            "table t: float64[3] = [0.1, 0.10000000000000002, 5e-324]; keep(t.clamped[head] > 0)");
  EXPECT_EQ(text_of(with_frozen(DType::bfloat16, std::array{Bfloat16(0.1), Bfloat16(kInfinity)}, {2})),
            "table t: bfloat16[2] = [0.1, inf]; keep(t.clamped[head] > 0)");
  EXPECT_EQ(text_of(with_frozen(DType::float16, std::array{Float16(65504.0), Float16(6e-8)}, {2})),
            "table t: float16[2] = [65500, 6e-08]; keep(t.clamped[head] > 0)");
  EXPECT_EQ(text_of(with_frozen(DType::int32, std::array{-2147483647 - 1, 7}, {2, 1})),
            "table t: int32[2, 1] = [-2147483648, 7]; keep(t.clamped[head, head] > 0)");
  EXPECT_EQ(text_of(with_frozen(DType::uint8, std::array<std::uint8_t, 1>{255}, {1})),
            "table t: uint8[1] = [255]; keep(t.clamped[head] > 0)");
  EXPECT_EQ(text_of(with_frozen(DType::boolean, std::array{true, false}, {2})),
            "table t: bool[2] = [true, false]; keep(t.clamped[head])");
  EXPECT_EQ(text_of(with_frozen(DType::float32, std::array{0.0f}, {0, 1000000000})),
            "table t: float32[0, 1000000000] = []; keep(t.clamped[head, head] > 0)");
}

TEST(Printer, AFrozenTableKeepsItsNaNAndItsDeclaredRange) {
  const std::array<float, 2> nan{std::numeric_limits<float>::quiet_NaN(), 2};
  EXPECT_EQ(text_of(with_frozen(DType::float32, nan, {2})),
            "table t: float32[2] = [nan, 2]; keep(t.clamped[head] > 0)");
  const std::array<float, 2> data{1, 2};
  const Table ranged = Table::frozen("t", ConstTensor(data.data(), DType::float32, {2})).values_in(0, 10);
  EXPECT_EQ(text_of(score([&](Expr s, const At& at) { return s + ranged(at.head); })),
            "table t: float32[2] in [0, 10] = [1, 2]; score(s + t[head])");
}

TEST(Printer, LargeFrozenTablesPrintAsTablesToBeBound) {
  std::array<std::int32_t, 65> data{};
  data[3] = 9;
  const Variant large = with_frozen(DType::int32, data, {65});
  EXPECT_EQ(text_of(large), "table t: int32[?] in [0, 9]; keep(t.clamped[head] > 0)");
  const std::array<std::int32_t, 64> fewer{};
  EXPECT_NE(text_of(with_frozen(DType::int32, fewer, {8, 8})).find("int32[8, 8] = ["), std::string::npos);
}

TEST(Printer, NamesAreMadeUniqueAndKeptApartFromWords) {
  const Table bias("bias", DType::float32, 1), other("bias", DType::float32, 1), taken("bias_2", DType::float32, 1);
  const Table query("query", DType::float32, 1), keyword("let", DType::float32, 1), function("exp", DType::float32, 1);
  const Parameter parameter("bias"), a("a");
  const Variant variant = score([&](Expr s, const At& at) {
    const Expr five = 5.0;
    return s + bias(at.head) + other(at.head) + taken(at.head) + query(at.head) + keyword(at.head) + function(at.head) +
           parameter + a + five + five;
  });
  EXPECT_EQ(text_of(variant),
            "table bias: float32[?]; table bias_3: float32[?]; table bias_2: float32[?]; table query_2: float32[?]; "
            "table let_2: float32[?]; table exp_2: float32[?]; param bias_4: real; param a: real; "
            "score(let b = 5.0; s + bias[head] + bias_3[head] + bias_2[head] + query_2[head] + let_2[head] + "
            "exp_2[head] + bias_4 + a + b + b)");
}

TEST(Printer, ShowsOneExpressionOfAGraph) {
  variant::Recording recording;
  const At at = recording.at();
  const Expr d = at.query - 5;
  EXPECT_EQ(variant::expression_text(recording.graph(), (d * d).node()), "let a = query - 5; a * a");
}

/// Each operation on each types of operands that it takes, so that one that is added is covered without a line here.
TEST(Printer, EveryOperationReadsBack) {
  using namespace variant;  // NOLINT(google-build-using-namespace): of this test alone
  for (std::int32_t number = 0; number < static_cast<std::int32_t>(kInfo.size()); ++number) {
    const Info& info = kInfo[static_cast<std::size_t>(number)];
    std::size_t taken = 0;
    for (int kinds = 0; kinds < 1 << (2 * info.operands); ++kinds) {
      Graph graph;
      const auto leaf = [&](int place) {
        switch (kinds >> (2 * place) & 3) {
          case 0: return graph.add_coordinate(Coordinate::query);
          case 1: return graph.add_score();
          case 2: return make_number(graph, place == 0 ? Type::real : Type::int32, 3);
          default:
            return make_operation(graph, number_of<Less>, {{graph.add_score(), graph.add_coordinate(Coordinate::key)}});
        }
      };
      std::vector<NodeId> operands;
      for (int place = 0; place < info.operands; ++place) operands.push_back(leaf(place));
      try {
        NodeId root = make_operation(graph, number, operands);
        if (graph[root].type == Type::boolean)
          root = make_operation(graph, number_of<Selection>,
                                {{root, graph.add_score(), graph.add_constant(Type::real, 0)}});
        expect_round_trip(make_variant(graph, {{Stage::Kind::score, make_real(graph, root, "the root")}}, kNoNode, {}));
        ++taken;
      } catch (const Error& error) {  // not operands that it takes
        EXPECT_EQ(error.code(), ErrorCode::invalid_argument) << error.what();
      }
    }
    EXPECT_GT(taken, 0u) << info.name;
  }
}

}  // namespace
}  // namespace tilewise
