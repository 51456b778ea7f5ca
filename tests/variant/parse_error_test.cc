// Texts that do not read: what the message says, and what its caret points at.
#include "tests/variant/parse_error.h"

#include <gtest/gtest.h>

#include "tilewise/variant.h"
#include "variant/text/lexer.h"

namespace tilewise {
namespace {

void expect_error(std::string_view text, std::size_t column, std::string_view message) {
  expect_parse_error([&] { parse_variant(std::string(text)); }, text, column, message);
}

/// The same inside of keep(...): the column counts from the expression's first letter.
void expect_keep_error(const std::string& expression, std::size_t column, std::string_view message) {
  expect_error("keep(" + expression + ")", column + 5, message);
}
void expect_score_error(const std::string& expression, std::size_t column, std::string_view message) {
  expect_error("score(" + expression + ")", column + 6, message);
}

TEST(ParseError, NothingToRead) {
  expect_error("", 1, "the text is empty; write plain for plain attention");
  expect_error("   ", 4, "the text is empty");
  expect_error("keep(true) &", 13, "expected a stage: keep(...), score(...)");
  expect_error("& keep(true)", 1, "expected a stage");
  expect_error("table t: float32[?];", 21, "expected a stage");
}

TEST(ParseError, StagesThatAreNone) {
  expect_error("kep(query > key)", 1, "unknown variant 'kep'; did you mean 'keep'?");
  expect_error("scroe(s)", 1, "unknown variant 'scroe'; did you mean 'score'?");
  expect_error("banana", 1, "unknown variant 'banana'");
  expect_error("tanh(s)", 1, "'tanh' stands outside of a stage; expected keep(...), score(...) or sink(...)");
  expect_error("5", 1, "expected a stage");
  expect_error("keep(true) keep(true)", 12, "expected '&' and another stage, or the end of the text, found 'keep'");
  expect_error("keep(true) and keep(true)", 12, "expected '&' and another stage");
  expect_error("keep true", 6, "expected '(', found 'true'");
  expect_error("keep(true))", 11, "expected '&' and another stage");
}

TEST(ParseError, Symbols) {
  expect_keep_error("query && key", 7, "'&&' is not used here; write 'and'");
  expect_keep_error("query || key", 7, "'||' is not used here; write 'or'");
  expect_keep_error("!(query < key)", 1, "'!' is not used here; write 'not'");
  expect_keep_error("query $ key", 7, "the character '$' has no meaning here");
  expect_keep_error("query = key", 7, "expected ')' or an operator, found '='");
  // One '?' stands for each byte that is not printable ASCII.
  expect_parse_error([] { parse_variant("keep(\xCF\x80 > 3)"); }, "keep(?? > 3)", 6, "the byte 0xcf has no meaning");
}

TEST(ParseError, Numbers) {
  expect_keep_error(
      "query < 3000000000", 9,
      "the int 3000000000 does not fit int32; expected -2147483648 to 2147483647, or a real: 3000000000.0");
  expect_keep_error("query < -2147483649", 9, "the int -2147483649 does not fit int32");
  expect_score_error("s * 1e999", 5, "the number is too large or too small for float64");
  expect_score_error("s * 1e-999", 5, "the number is too large or too small for float64");
  expect_score_error("s * 5x", 6, "expected the number to end here");
  expect_score_error("s * 0x10", 6, "expected the number to end here");
  expect_score_error("s * 1.2.3", 8, "expected the number to end here");
  expect_score_error("s * nan", 5, "a NaN constant");
  expect_score_error("s * constant(nan)", 14, "a NaN constant");
  expect_score_error("s * constant(s)", 14, "expected a number that constant() bakes in, found 's'");
}

TEST(ParseError, Operands) {
  expect_keep_error("", 1, "expected a number, a name, a function or '(', found ')'");
  expect_keep_error("query <", 8, "expected a number, a name, a function or '('");
  expect_keep_error("query < * 3", 9, "expected a number, a name, a function or '(', found '*'");
  expect_keep_error("(query < key", 13 + 1, "expected ')' or an operator, found the end of the text");
  expect_keep_error("query key", 7, "expected ')' or an operator, found 'key'");
  expect_keep_error("2 + not query", 5, "expected '(' before 'not': it binds less tightly than what is before it");
}

TEST(ParseError, Names) {
  expect_keep_error("querry >= key", 1, "unknown name 'querry'; did you mean 'query'?");
  expect_keep_error("query >= banana", 10, "unknown name 'banana'");
}

TEST(ParseError, Functions) {
  expect_score_error("tahn(s)", 1, "unknown function 'tahn'; did you mean 'tanh'?");
  expect_score_error("s + pow(s, 2)", 5, "'pow' is written '**' here");
  expect_score_error("to_real(query)", 1, "'to_real' is written 'real' here");
  expect_score_error("tanh(s, s)", 1, "tanh() takes 1 operand, found 2");
  expect_score_error("1 + min(s)", 5, "min() takes 2 operands, found 1");
  expect_score_error("select()", 1, "select() takes 3 operands, found 0");
  expect_score_error("tanh s", 1, "unknown name 'tanh'; a function is called as tanh(...)");
  expect_score_error("keep(s)", 1, "unknown function 'keep'");
}

TEST(ParseError, Comparisons) {
  expect_keep_error("0 <= query < 5", 12, "comparisons do not chain; write '0 <= query and query < ...'");
  expect_keep_error("key<query+1==head", 12, "comparisons do not chain; write 'key<query+1 and query+1 == ...'");
  expect_keep_error("query < key and 0 < key < 5", 25, "comparisons do not chain; write '0 < key and key < ...'");
}

TEST(ParseError, Types) {
  expect_error("score(query > key)", 1, "score(): the result is bool, expected real; use keep(...) for a predicate");
  expect_error("keep(query - key)", 1, "keep(...) is given int, expected bool; use score(...) to change scores");
  expect_error("plain & sink(true)", 9, "sink(): the logit is bool, expected real");
  expect_score_error("s * (query > key)", 3, "operator *: operand 2 is bool, expected real; write select(b, 1, 0)");
  expect_score_error("exp(query > key)", 1, "exp(): operand 1 is bool, expected real");
  expect_keep_error("query % 2 and true", 11, "operator and: operand 1 is int, expected bool; write x != 0");
  expect_keep_error("query % 2.5 == 1", 7, "operator %: operand 2 is real, expected int; write");
  expect_keep_error("-true", 1, "operator -: operand 1 is bool, expected int");
  expect_keep_error("not query", 1, "operator not: operand 1 is int, expected bool");
  expect_score_error("int(query)", 1, "int(): operand 1 is int, expected real");
}

TEST(ParseError, Divisors) {
  expect_keep_error("query % 0 == 1", 7, "operator %: the divisor is 0, expected any other int");
  expect_keep_error("query // 0 == 1", 7, "operator //: the divisor is 0, expected any other int");
  expect_score_error("s ** query", 3, "operator **: the exponent is not a constant");
}

TEST(ParseError, TheScoreIsNotEverywhere) {
  expect_keep_error("s > 0", 1, "'s' reads the score, which keep(...) does not see");
  expect_error("sink(s)", 6, "'s' reads the score, which sink(...) does not see");
  expect_error("let t = s * 2; keep(t > 0)", 21, "'t' reads the score, which keep(...) does not see");
  expect_error("sink(query + 2)", 1, "sink(): the logit reads query; expected batch, head, kv_head");
}

TEST(ParseError, Tables) {
  const std::string bias = "table bias: float32[?, ?]; ";  // 27 characters
  expect_error(bias + "score(s + bias[head])", 38, "table 'bias': read with 1 indices, expected 2");
  expect_error(bias + "score(s + bias[head, s])", 38, "table 'bias': index 2 is real, expected int");
  expect_error(bias + "score(s + bias)", 42,
               "expected '[': the table is read as bias[i] or bias.clamped[i], found ')'");
  expect_error(bias + "score(s + bias(head, 2))", 34 + 4, "unknown function 'bias'");
  expect_error(bias + "score(s + bias.clampd[head, 2])", 43, "expected 'clamped', found 'clampd'");
  expect_error(bias + "score(s + bais[head, 2])", 38, "unknown name 'bais'; did you mean 'bias'?");
  expect_error(bias + "score(s + query[head])", 28 + 15, "expected ')' or an operator, found '['");
  expect_error("param n: int; score(s + n[2])", 25, "'n' is not a table, expected no index");
}

TEST(ParseError, Declarations) {
  expect_error("table t: float32[?]; score(s)", 7, "'t' is not used; expected a use, or no declaration");
  expect_error("param n: int; score(s)", 7, "'n' is not used");
  expect_error("let d = query; score(s)", 5, "'d' is not used");
  expect_error("score(let d = query; s)", 11, "'d' is not used");
  expect_error("param n: int; param n: int; score(s + n)", 21, "'n' is declared twice, expected a name for each");
  expect_error("param n: int; score(let n = 2; s + n)", 25, "'n' is declared twice");
  expect_error("table query: float32[?]; score(s)", 7, "'query' has a meaning of its own, expected another name");
  expect_error("let s = 2; score(s)", 5, "'s' has a meaning of its own");
  expect_error("let tanh = 2; score(tanh)", 5, "'tanh' has a meaning of its own");
  expect_error("param n; score(s + n)", 8, "expected ':' and the parameter's type, found ';'");
  expect_error("param n: bool; score(s + n)", 10, "expected the type 'real' or 'int', found 'bool'");
  expect_error("param n: int in 0; score(s + n)", 17, "expected a range [low, high], found '0'");
  expect_error("param n: int in [5, 2]; score(s + n)", 18, "parameter 'n': the range is [5, 2], expected low <= high");
  expect_error("param n: int in [0, inf]; score(s + n)", 21, "inf is a real, expected an int");
  expect_error("param n: int score(s + n)", 14, "expected ';' after the declaration, found 'score'");
  expect_error("let d 2; score(d)", 7, "expected '=', found '2'");
  expect_error("let d = d; score(d)", 9, "unknown name 'd'");
  expect_error("score(let d = query s + d)", 21, "expected ';' and the rest of the stage, or an operator, found 's'");
}

TEST(ParseError, TableDeclarations) {
  const std::string use = "; score(s + t[0])";
  expect_error("table t: float33[?]" + use, 10, "");
  expect_error("table t: int8[?]" + use, 7, "table 't': the dtype is int8, expected float64");
  expect_error("table t: float32" + use, 17, "expected the extents, such as [?, ?], found ';'");
  expect_error("table t: float32[]" + use, 18, "expected an extent or ?, found ']'");
  expect_error("table t: float32[?, ?, ?, ?, ?]" + use, 30, "a table has at most 4 extents");
  expect_error("table t: float32[8]" + use, 7, "table 't': the extent 8 is given, but no values; expected ?");
  expect_error("table t: float32[-1] = []" + use, 18, "the extent is negative, expected 0 or more");
  expect_error("table t: float32[?] = [1]" + use, 7,
               "table 't': an extent is ?, expected a number where values are given");
  expect_error("table t: float32[2, 2] = [1, 2, 3]" + use, 7, "table 't': 3 values are given, expected 4");
  expect_error("table t: float32[2] = [1 2]" + use, 26, "expected ',' or ']', found '2'");
  expect_error("table t: float32[1] = [x]" + use, 24, "expected a number, found 'x'");
  expect_error("table t: bool[1] = [1]" + use, 21, "expected true or false, found '1'");
  expect_error("table t: int32[1] = [2.5]" + use, 22, "2.5 is a real, expected an int");
  expect_error("table t: uint8[1] = [256]" + use, 22, "256 does not fit an element of dtype uint8; expected 0 to 255");
  expect_error("table t: float32[1] in [0, 1] = [2]" + use, 25, "table 't': the value at [0] is 2, expected 0 to 1");
  expect_error("table t: float32[?] in [2, 1]" + use, 25, "table 't': the range is [2, 1], expected low <= high");
  expect_error("table t: float32[2147483647, 2147483647, 2147483647] = [1]; score(s + t[0, 0, 0])", 7,
               "the extents up to axis 2 multiply to 2^63");
}

TEST(ParseError, SinkAndDropoutOccurOnce) {
  expect_error("sink(1) & sink(2)", 11, "a second sink, expected at most one");
  expect_error("dropout(0.1) & dropout(0.2)", 16, "operator &: both sides have dropout, expected at most one");
  expect_error("dropout(1.5)", 9, "dropout(): the probability is 1.5, expected 0 to 1");
  expect_error("dropout(nan)", 9, "dropout(): the probability is nan, expected 0 to 1");
  expect_error("dropout(s)", 9, "expected the probability, 0 to 1, found 's'");
}

std::string message_of(const std::string& text) {
  try {
    parse_variant(text);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::parse);
    return error.what();
  }
}

TEST(ParseError, ShowsTheLineOfTheError) {
  EXPECT_EQ(message_of("keep(query >= key)\n  & score(s *\t$ 2)\n  & dropout(0)"),
            "variant, line 2, column 15: the character '$' has no meaning here\n"
            "    & score(s * $ 2)\n"
            "                ^");
}

TEST(ParseError, CutsALongLineAroundTheError) {
  const std::vector<std::string> lines =
      lines_of(message_of("score(" + std::string(500, '(') + "s" + std::string(500, ' ') + "$)"));
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_LE(lines[1].size(), 120u);
  ASSERT_EQ(lines[2].back(), '^');
  EXPECT_EQ(lines[1][lines[2].size() - 1], '$');
}

TEST(ParseError, NestingIsBounded) {
  for (const char* level : {"(", "-", "~", "not ", "abs(", "2 - (", "select(true, ", "2 ** "}) {
    std::string deep = "keep(";
    for (int i = 0; i < 50000; ++i) deep += level;
    EXPECT_NE(message_of(deep).find("the expression nests more than 200 deep; name parts of it"), std::string::npos)
        << level;
  }
}

TEST(ParseError, DepthIsBoundedWhereNothingNests) {
  std::string sum = "score(s";
  for (int i = 0; i < 100000; ++i) sum += " + 2";
  EXPECT_NE(message_of(sum + ")").find("an expression is 100000 operations deep, expected at most 1000"),
            std::string::npos);
  std::string lets = "score(let a0 = s; ";
  for (int i = 1; i < 20000; ++i) lets += "let a" + std::to_string(i) + " = 2 - a" + std::to_string(i - 1) + "; ";
  EXPECT_NE(message_of(lets + "a19999)").find("operations deep"), std::string::npos);
}

// Each let doubles what it would be written out; nothing may take its time or space.
TEST(ParseError, SharedTowersAreNoBomb) {
  std::string tower = "sink(let a0 = head + 2; ";
  for (int i = 1; i < 500; ++i) {
    const std::string below = std::to_string(i - 1);
    tower += "let a" + std::to_string(i) + " = a" + below + " * a" + below + "; ";
  }
  const Variant variant = parse_variant(tower + "a499)");
  EXPECT_EQ(parse_variant(to_string(variant)).key(), variant.key());
  EXPECT_NE(message_of(tower + "a499 + query)").find("reads query"), std::string::npos);
}

TEST(ParseError, LengthIsBounded) {
  EXPECT_NE(message_of(std::string(variant::kMaxText + 1, ' ')).find("bytes, expected at most 1048576"),
            std::string::npos);
  EXPECT_EQ(message_of("plain" + std::string(variant::kMaxText - 5, ' ')), "");
}

}  // namespace
}  // namespace tilewise
