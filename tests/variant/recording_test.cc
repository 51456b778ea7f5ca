// What recording makes of an expression: types, literals and constants, one canonical graph.
#include "variant/recording.h"

#include <gtest/gtest.h>

#include <barrier>
#include <thread>

#include "tests/variant/expect_refused.h"
#include "tilewise/variant.h"
#include "variant/operations/operations.h"

namespace tilewise::variant {
namespace {

/// The type of what `function` gives of the coordinates and a real.
template <class Function>
Type type_of(Function function) {
  Recording recording;
  const Expr score = recording.handle(recording.graph().add_score());
  return function(recording.at(), score).type();
}

std::vector<Node> nodes_of(const Variant& variant) { return variant.data().graph.nodes(); }

int count(const Variant& variant, Kind kind) {
  int found = 0;
  for (const Node& node : nodes_of(variant)) found += node.kind == kind;
  return found;
}

// Types.

TEST(Promotion, IntsStayIntsAndMeetRealsAsReals) {
  EXPECT_EQ(type_of([](const At& at, Expr) { return at.query + at.key * 2 - at.head; }), Type::int32);
  EXPECT_EQ(type_of([](const At& at, Expr) { return min(at.query, abs(-at.key)); }), Type::int32);
  EXPECT_EQ(type_of([](const At& at, Expr s) { return s + at.key; }), Type::real);
  EXPECT_EQ(type_of([](const At& at, Expr s) { return max(at.query, s); }), Type::real);
  EXPECT_EQ(type_of([](const At& at, Expr) { return at.query * 0.5f; }), Type::real);
  EXPECT_EQ(type_of([](const At& at, Expr) { return at.query + 2.0; }), Type::real);  // 2.0 is a real
}

TEST(Promotion, DivisionAndFunctionsAreReal) {
  EXPECT_EQ(type_of([](const At& at, Expr) { return at.query / at.key; }), Type::real);
  EXPECT_EQ(type_of([](const At& at, Expr) { return floor_divide(at.query, at.key); }), Type::int32);
  EXPECT_EQ(type_of([](const At& at, Expr) { return exp(at.query); }), Type::real);
  EXPECT_EQ(type_of([](const At& at, Expr) { return pow(at.query, 2); }), Type::real);
  EXPECT_EQ(type_of([](const At& at, Expr) { return to_real(at.query); }), Type::real);
  EXPECT_EQ(type_of([](const At&, Expr s) { return to_int(s); }), Type::int32);
  EXPECT_EQ(type_of([](const At&, Expr s) { return floor(s); }), Type::real);
}

TEST(Promotion, ComparisonsAreBoolAndSelectTakesItsBranches) {
  EXPECT_EQ(type_of([](const At& at, Expr s) { return at.query < s; }), Type::boolean);
  EXPECT_EQ(type_of([](const At& at, Expr) { return at.query == at.key || !(at.head != 3); }), Type::boolean);
  EXPECT_EQ(type_of([](const At& at, Expr) { return select(at.query < 5, at.key, 7); }), Type::int32);
  EXPECT_EQ(type_of([](const At& at, Expr s) { return select(at.query < 5, at.key, s); }), Type::real);
  EXPECT_EQ(type_of([](const At& at, Expr) { return select(at.query < 5, at.key < 2, true); }), Type::boolean);
}

TEST(Promotion, AnIntLiteralIsPromotedWithItsValue) {
  const Variant variant = score([](Expr s, const At&) { return s * 3; });
  EXPECT_EQ(variant.literals(), std::vector{3.0});
  EXPECT_EQ(nodes_of(variant).size(), 3u);  // no conversion is left: score, literal, product
}

TEST(Promotion, AScoreMayBeAnInt) {
  const Variant variant = score([](Expr, const At& at) { return at.query - at.key; });
  EXPECT_EQ(variant.data().graph[variant.data().stages[0].root].type, Type::real);
}

TEST(Promotion, TablesReadAsTheirTypes) {
  const auto read_type = [](DType dtype) {
    const Table table("t", dtype, 1);
    return type_of([&](const At& at, Expr) { return table(at.key); });
  };
  for (DType dtype : {DType::float64, DType::float32, DType::float16, DType::bfloat16})
    EXPECT_EQ(read_type(dtype), Type::real);
  for (DType dtype : {DType::int64, DType::int32, DType::uint8}) EXPECT_EQ(read_type(dtype), Type::int32);
  EXPECT_EQ(read_type(DType::boolean), Type::boolean);
}

// Literals and constants.

TEST(Literals, AreLiftedUnlessTheyShapeTheCode) {
  const auto literals = [](double value) {
    return score([value](Expr s, const At&) { return max(s, value); }).literals();
  };
  for (double lifted : {2.0, 0.5, -3.0, 1e-30, 1e300}) EXPECT_EQ(literals(lifted), std::vector{lifted});
  for (double baked : {0.0, -0.0, 1.0, -1.0, kInfinity, -kInfinity}) EXPECT_TRUE(literals(baked).empty()) << baked;
}

TEST(Literals, DivisorsShiftsAndExponentsAreBaked) {
  const auto literals = [](const std::function<Expr(const At&)>& function) { return keep(function).literals(); };
  EXPECT_EQ(literals([](const At& at) { return at.query % 7 == 3; }), std::vector{3.0});
  EXPECT_EQ(literals([](const At& at) { return floor_divide(at.query, 7) == 3; }), std::vector{3.0});
  EXPECT_EQ(literals([](const At& at) { return at.query >> 5 == 3; }), std::vector{3.0});
  EXPECT_EQ(literals([](const At& at) { return at.query << 5 == 3; }), std::vector{3.0});
  EXPECT_EQ(literals([](const At& at) { return pow(at.query, 2.5) > 3; }), std::vector{3.0});
  EXPECT_EQ(literals([](const At& at) { return at.query + constant(7) > 3; }), std::vector{3.0});
}

TEST(Literals, HaveSlotsInTheOrderOfTheGraph) {
  const Variant variant = keep([](const At& at) { return at.query < 10 && at.key < 20; }) &
                          score([](Expr s, const At&) { return 30 * tanh(s / 40); });
  EXPECT_EQ(variant.literals(), (std::vector{10.0, 20.0, 30.0, 40.0}));
}

TEST(Literals, EqualOnesStayApartAndASharedOneStaysShared) {
  EXPECT_EQ(keep([](const At& at) { return at.query < 10 && at.key < 10; }).literals(), (std::vector{10.0, 10.0}));
  const Variant shared = keep([](const At& at) {
    const Expr limit = 10;
    return at.query < limit && at.key < limit;
  });
  EXPECT_EQ(shared.literals(), std::vector{10.0});
  EXPECT_EQ((shared & shared).literals(), (std::vector{10.0, 10.0}));
}

// Canonical form.

TEST(Canonical, SharesEqualNodesAndDropsDeadOnes) {
  const Variant variant = keep([](const At& at) {
    static_cast<void>(exp(at.key * 2.5) + 17);
    return (at.query - at.key) * (at.query - at.key) > at.head;
  });
  EXPECT_EQ(nodes_of(variant).size(), 6u);  // query, key, difference, square, head, comparison
  EXPECT_TRUE(variant.literals().empty());
}

TEST(Canonical, OperandsStandBeforeTheirUsersInDepthFirstOrder) {
  const Variant variant = keep([](const At& at) {
    const Expr late = at.head + 5, early = at.query + 6;  // recorded in another order than they are used
    return early < late;
  });
  EXPECT_EQ(variant.literals(), (std::vector{6.0, 5.0}));
  const std::vector<Node> nodes = nodes_of(variant);
  for (NodeId id = 0; id < nodes.size(); ++id) {
    for (NodeId operand : nodes[id].inputs()) EXPECT_LT(operand, id);
  }
}

TEST(Canonical, TablesAndParametersAreListedAsFirstRead) {
  const Table a("a", DType::float32, 1), b("b", DType::float32, 1), unused("unused", DType::float32, 1);
  const Parameter p("p"), q("q");
  const Variant variant = score([&](Expr s, const At& at) {
    static_cast<void>(unused(at.key));
    const Expr first = a(at.key) * p;
    return b(at.key) * q + first + s;
  });
  EXPECT_EQ(variant.tables(), (std::vector{b, a}));
  EXPECT_EQ(variant.parameters(), (std::vector{q, p}));
}

TEST(Canonical, CopiesOfAHandleAreTheSameAndNamesakesAreNot) {
  const Parameter p("p"), copy = p, namesake("p");
  EXPECT_EQ(score([&](Expr s, const At&) { return s * p + copy; }).parameters().size(), 1u);
  EXPECT_EQ(score([&](Expr s, const At&) { return s * p + namesake; }).parameters().size(), 2u);
}

TEST(Folding, LeavesSimplerGraphs) {
  const auto size = [](const std::function<Expr(const At&)>& function) { return nodes_of(keep(function)).size(); };
  EXPECT_EQ(size([](const At& at) { return at.query > at.key && true; }), 3u);
  EXPECT_EQ(size([](const At& at) { return at.query > at.key || true; }), 1u);
  EXPECT_EQ(size([](const At& at) { return !!(at.query > at.key); }), 3u);
  EXPECT_EQ(size([](const At& at) { return at.query * 1 + 0 > at.key; }), 3u);
  EXPECT_EQ(size([](const At& at) { return select(true, at.query, 5) > at.key; }), 3u);
  EXPECT_EQ(size([](const At&) { return constant(7) + constant(8) == constant(15); }), 1u);
  EXPECT_EQ(size([](const At&) { return constant(16777217) + constant(2) == constant(16777219); }), 1u);
}

TEST(Folding, LeavesLiteralsAlone) {
  EXPECT_EQ(keep([](const At&) { return Expr(2) + Expr(3) > 4; }).literals().size(), 3u);
}

TEST(Folding, LeavesAloneWhatFloat32AndFloat64SeeDifferently) {
  // 0.1 + 0.2 rounds differently in float32, and 1 / 3 is inexact in both.
  EXPECT_EQ(count(score([](Expr s, const At&) { return s * (constant(0.1) + constant(0.2)); }), Kind::operation), 2);
  EXPECT_EQ(count(score([](Expr s, const At&) { return s * (constant(1.0) / constant(3.0)); }), Kind::operation), 2);
  EXPECT_EQ(count(score([](Expr s, const At&) { return s * (constant(0.5) + constant(0.25)); }), Kind::operation), 1);
}

// Size.

Variant sum_of(int terms) {
  return score([terms](Expr s, const At& at) {
    Expr sum = s;
    for (int i = 0; i < terms; ++i) sum = sum + to_real(at.key);
    return sum;
  });
}

TEST(Recording, ALongSumIsRecordedAndAVeryLongOneRefused) {
  EXPECT_EQ(nodes_of(sum_of(kMaxDepth - 1)).size(), kMaxDepth + 2u);  // and one conversion
  expect_refused([] { sum_of(kMaxDepth); }, {"1001 operations deep", "at most 1000", "table"});
  expect_refused([] { sum_of(100'000); }, {"100001 operations deep"});  // by Error, not by a stack that overflows
}

TEST(Recording, RepeatedDoublingTakesNoTime) {
  const Variant variant = sink([](const At& at) {
    Expr sum = to_real(at.head);
    for (int i = 0; i < 60; ++i) sum = sum + sum;  // 2^60 paths to the head
    return sum;
  });
  EXPECT_EQ(nodes_of(variant).size(), 62u);
}

// Recordings within one another and beside one another.

TEST(Recording, InnerOnesLeaveTheOuterOpen) {
  Variant inner;
  const Variant outer = keep([&](const At& at) {
    const Expr before = at.query + 5;
    inner = keep([](const At& other) { return other.key < 7; });
    return before < at.key;
  });
  EXPECT_EQ(inner.key(), keep([](const At& at) { return at.key < 7; }).key());
  EXPECT_EQ(outer.key(), keep([](const At& at) { return at.query + 5 < at.key; }).key());
}

TEST(Recording, AnInnerErrorLeavesTheOuterOpen) {
  const Variant outer = keep([&](const At& at) {
    expect_refused([] { keep([](const At& other) { return other.query; }); }, {"keep()"});
    return at.query < at.key;
  });
  EXPECT_EQ(outer.key(), keep([](const At& at) { return at.query < at.key; }).key());
}

TEST(Recording, TwoThreadsRecordInTurns) {
  constexpr int kSteps = 200;
  std::barrier in_turns(2);
  std::array<Variant, 2> recorded;
  const auto record = [&](std::size_t thread) {
    recorded[thread] = keep([&](const At& at) {
      Expr sum = at.query;
      for (int i = 0; i < kSteps; ++i) {
        in_turns.arrive_and_wait();
        sum = thread == 0 ? sum + at.key : sum * at.head;
      }
      return sum > 0;
    });
  };
  std::thread other(record, 1);
  record(0);
  other.join();
  const auto alone = [](bool adds) {
    return keep([adds](const At& at) {
      Expr sum = at.query;
      for (int i = 0; i < kSteps; ++i) sum = adds ? sum + at.key : sum * at.head;
      return sum > 0;
    });
  };
  EXPECT_EQ(recorded[0].key(), alone(true).key());
  EXPECT_EQ(recorded[1].key(), alone(false).key());
}

TEST(Recording, AnExpressionOfAnotherThreadIsForeign) {
  keep([](const At& at) {
    std::thread other([&at] {
      expect_refused([&at] { at.query + 1; }, {"outside of a recording"});
      expect_refused([&at] { keep([&at](const At& own) { return own.query < at.query; }); }, {"another recording"});
    });
    other.join();
    return at.query > 0;
  });
}

}  // namespace
}  // namespace tilewise::variant
