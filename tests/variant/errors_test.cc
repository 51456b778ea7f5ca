// What a variant refuses: each error says which value, what was expected and where.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>

#include "tests/variant/expect_refused.h"
#include "tilewise/variant.h"

namespace tilewise {
namespace {

template <class Function>
void expect_keep_refused(Function function, std::initializer_list<std::string> parts) {
  expect_refused([&] { keep(function); }, parts);
}

// Types.

TEST(RecordingErrors, ABoolIsNoScore) {
  expect_refused([] { score([](Expr, const At& at) { return at.query >= at.key; }); },
                 {"score()", "bool", "expected real", "keep(...)"});
}

TEST(RecordingErrors, ARealIsNoKeep) {
  expect_keep_refused([](const At& at) { return to_real(at.query); },
                      {"keep()", "real", "expected bool", "score(...)"});
  expect_keep_refused([](const At& at) { return at.query - at.key; }, {"keep()", "int", "expected bool"});
}

TEST(RecordingErrors, ABoolIsNoNumber) {
  expect_keep_refused([](const At& at) { return (at.query > at.key) + 1 > 0; },
                      {"operator +", "operand 1", "bool", "expected int", "select(b, 1, 0)"});
  expect_keep_refused([](const At& at) { return 1.5 * (at.query > at.key) > 0; },
                      {"operator *", "operand 2", "bool", "expected real"});
  expect_keep_refused([](const At& at) { return exp(at.query > at.key) > 0; }, {"exp()", "bool", "expected real"});
  expect_keep_refused([](const At& at) { return to_real(at.query > at.key) > 0; },
                      {"to_real()", "bool", "expected real"});
  expect_keep_refused([](const At& at) { return (at.query > at.key) == (at.query > 1); }, {"operator ==", "bool"});
  expect_keep_refused([](const At& at) { return select(at.query > at.key, at.query > 1, 5); }, {"select()", "bool"});
}

TEST(RecordingErrors, ANumberIsNoBool) {
  expect_keep_refused([](const At& at) { return at.query && at.key > 1; },
                      {"operator and", "operand 1", "int", "expected bool", "x != 0"});
  expect_keep_refused([](const At& at) { return !at.query; }, {"operator not", "int", "expected bool"});
  expect_keep_refused([](const At& at) { return select(at.query, 1, 2) > 0; },
                      {"select()", "operand 1", "int", "expected bool"});
}

TEST(RecordingErrors, ARealIsNoInt) {
  expect_keep_refused([](const At& at) { return at.query % 2.5 == 0; },
                      {"operator %", "operand 2", "real", "expected int", "to_int(x)"});
  expect_keep_refused([](const At& at) { return (to_real(at.query) & 3) == 0; },
                      {"operator &", "real", "expected int"});
  expect_keep_refused([](const At& at) { return floor_divide(at.query, to_real(at.key)) == 0; },
                      {"operator //", "real"});
  expect_keep_refused([](const At& at) { return to_int(at.query) == 0; }, {"int()", "int", "expected real"});
}

// Numbers.

TEST(RecordingErrors, NaNIsNoConstant) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  expect_refused([nan] { score([nan](Expr s, const At&) { return s + nan; }); }, {"NaN", "expected a number"});
  expect_refused([nan] { score([nan](Expr s, const At&) { return s + constant(nan); }); }, {"NaN"});
  expect_refused([nan] { score([nan](Expr s, const At&) { return pow(s, nan); }); }, {"NaN"});
}

TEST(RecordingErrors, ZeroIsNoDivisor) {
  expect_keep_refused([](const At& at) { return at.query % 0 == 0; }, {"operator %", "divisor is 0", "expected"});
  expect_keep_refused([](const At& at) { return floor_divide(at.query, 0) == 0; }, {"operator //", "divisor is 0"});
  expect_keep_refused([](const At& at) { return at.query % constant(0) == 0; }, {"divisor is 0"});
  expect_keep_refused([](const At& at) { return at.query % (at.key * 0) == 0; }, {"divisor is 0"});
}

TEST(RecordingErrors, AnIntegerBeyondInt32IsNoLiteral) {
  expect_keep_refused([](const At& at) { return at.query < 3000000000; },
                      {"3000000000", "does not fit int32", "2147483647", "3000000000.0"});
  expect_keep_refused([](const At& at) { return at.query > std::int64_t{-2147483649}; }, {"-2147483649"});
  expect_keep_refused([](const At& at) { return at.query < ~std::uint64_t{0}; }, {"18446744073709551615"});
}

// Recordings.

TEST(RecordingErrors, AnExpressionNeedsARecording) {
  expect_refused([] { Expr(1) + Expr(2); }, {"outside of a recording", "keep()"});
  expect_refused([] { constant(1.0); }, {"outside of a recording"});
  expect_refused([] { static_cast<void>(static_cast<Expr>(Parameter("slope"))); }, {"outside of a recording"});
}

TEST(RecordingErrors, AnExpressionStaysInItsRecording) {
  std::optional<Expr> leaked;
  keep([&](const At& at) {
    leaked = at.query;
    return at.query > 0;
  });
  expect_refused([&] { *leaked + 1; }, {"outside of a recording"});
  expect_keep_refused([&](const At& at) { return *leaked > at.key; }, {"another recording", "expected", "beyond"});
  expect_keep_refused([&](const At&) { return *leaked > 1; }, {"another recording"});
  expect_refused([&] { score([&](Expr, const At&) { return *leaked; }); }, {"another recording"});
  expect_refused([&] { leaked->type(); }, {"outside of a recording"});
}

TEST(RecordingErrors, AnOuterExpressionIsForeignToAnInnerRecording) {
  expect_keep_refused(
      [](const At& outer) {
        keep([&](const At& inner) { return inner.query > outer.key; });
        return outer.query > 0;
      },
      {"another recording"});
}

TEST(RecordingErrors, AnEmptyFunctionRecordsNothing) {
  expect_refused([] { keep(nullptr); }, {"keep()", "empty", "expected"});
  expect_refused([] { score(nullptr); }, {"score()", "empty"});
  expect_refused([] { sink(nullptr); }, {"sink()", "empty"});
}

TEST(RecordingErrors, TheMessageNamesThePartOfTheVariant) {
  expect_refused([] { keep([](const At& at) { return at.query % 0 == 0; }); }, {"in keep(): operator %"});
  expect_refused([] { score([](Expr s, const At&) { return s + std::nan(""); }); }, {"in score(): a NaN"});
  expect_refused([] { sink([](const At& at) { return (at.head > 0) + 1; }); }, {"in sink(): operator +"});
}

TEST(RecordingErrors, AThrowingFunctionLeavesNoRecordingOpen) {
  EXPECT_THROW(keep([](const At&) -> Expr { throw std::string("a caller's own"); }), std::string);
  expect_refused([] { constant(1.0); }, {"outside of a recording"});
}

// Tables and parameters.

TEST(TableErrors, IndicesAreIntsAndAsManyAsTheRank) {
  const Table bias("bias", DType::float32, 2);
  expect_refused([&] { score([&](Expr s, const At& at) { return s + bias(at.head); }); },
                 {"table 'bias'", "1 indices", "expected 2"});
  expect_refused([&] { score([&](Expr s, const At& at) { return s + bias(at.head, at.query, at.key); }); },
                 {"table 'bias'", "3 indices", "expected 2"});
  expect_refused([&] { score([&](Expr s, const At& at) { return s + bias(at.head, s); }); },
                 {"table 'bias'", "index 2", "real", "expected int"});
  expect_refused([&] { score([&](Expr s, const At& at) { return s + bias.clamped(at.head > 1, at.key); }); },
                 {"table 'bias'", "index 1", "bool", "expected int"});
  const Table mask("mask", DType::boolean, 1);
  expect_refused([&] { score([&](Expr s, const At& at) { return s + mask(at.key); }); }, {"operator +", "bool"});
}

TEST(TableErrors, HandlesAreWellFormed) {
  expect_refused([] { Table("a", DType::int8, 1); }, {"table 'a'", "int8", "expected", "uint8"});
  expect_refused([] { Table("a", DType::float32, 0); }, {"table 'a'", "rank is 0", "1 to 4"});
  expect_refused([] { Table("a", DType::float32, 5); }, {"rank is 5", "1 to 4"});
  for (const char* name : {"", "2nd", "a b", "a-b", "\xc3\xa4", "a\n"}) {
    expect_refused([name] { Table(name, DType::float32, 1); }, {"table", name, "expected letters"});
    expect_refused([name] { Parameter{std::string(name)}; }, {"parameter", name, "expected letters"});
    expect_refused([name] { Parameter::integer(name); }, {"parameter", name, "expected letters"});
  }
  expect_refused([] { Parameter("slope", 2, 1); }, {"parameter 'slope'", "[2, 1]", "low <= high"});
  expect_refused([] { Parameter("slope", std::nan("")); }, {"parameter 'slope'", "nan", "NaN"});
  expect_refused([] { Parameter::integer("size", 5, -5); }, {"parameter 'size'", "[5, -5]"});
  expect_refused([] { Table("a", DType::int32, 1).values_in(1, 0); }, {"table 'a'", "[1, 0]"});
}

TEST(TableErrors, FrozenDataIsChecked) {
  const float numbers[] = {1, 2, 3};
  const std::int64_t wide[] = {0, std::int64_t{1} << 40};
  EXPECT_EQ(Table::frozen("a", ConstTensor(numbers, DType::float32, {3})).high(), 3);
  expect_refused([&] { Table::frozen("a", ConstTensor(numbers, DType::float32, {3})).values_in(0, 2); },
                 {"table 'a'", "[2]", "is 3", "0 to 2"});
  expect_refused([&] { Table::frozen("a", ConstTensor(nullptr, DType::float32, {3})); }, {"table 'a'", "null", "3"});
  expect_refused([&] { Table::frozen("a", ConstTensor(wide, DType::int64, {2})); },
                 {"table 'a'", "[1]", "1099511627776", "2147483647"});
  expect_refused(
      [&] { Table::frozen("a", ConstTensor(numbers, DType::float32, std::initializer_list<std::int64_t>{})); },
      {"table 'a'", "rank is 0"});
}

// Composition.

TEST(CompositionErrors, OneSinkAndOneDropout) {
  const Variant a = sink([](const At&) { return 0.5; }), b = dropout(0.1);
  expect_refused([&] { a& a; }, {"operator &", "both sides have a sink", "at most one"});
  expect_refused([&] { (a & b) & (b & keep([](const At&) { return true; })); }, {"dropout", "at most one"});
  EXPECT_TRUE((a & b).has_sink());
  EXPECT_TRUE((a & b).has_dropout());
}

TEST(CompositionErrors, ASinkReadsNoPosition) {
  expect_refused([] { sink([](const At& at) { return at.query; }); },
                 {"sink()", "reads query", "expected batch, head"});
  expect_refused([] { sink([](const At& at) { return to_real(at.head) * at.key_index; }); },
                 {"sink()", "reads key_index"});
  expect_refused([] { sink([](const At& at) { return at.query_token; }); }, {"reads query_token"});
  const Table logits("logits", DType::float32, 1);
  expect_refused([&] { sink([&](const At& at) { return logits(at.key); }); }, {"sink()", "reads key;"});
  EXPECT_NO_THROW(sink([&](const At& at) { return logits(at.head) + at.queries * at.keys + at.batch + at.kv_head; }));
  expect_refused([] { sink([](const At& at) { return at.head > 0; }); },
                 {"sink(): the logit", "bool", "expected real"});
}

TEST(CompositionErrors, AProbabilityIsAProbability) {
  for (double wrong : {-0.1, 1.5, std::nan("")})
    expect_refused([wrong] { dropout(wrong); }, {"dropout()", "probability", "0 to 1"});
  EXPECT_NO_THROW(dropout(0));
  EXPECT_NO_THROW(dropout(1));
}

}  // namespace
}  // namespace tilewise
