// Calls of named variants: against a zoo of the test's own, and the examples of the library's.
#include <gtest/gtest.h>

#include "tests/variant/parse_error.h"
#include "tests/variant/round_trip.h"
#include "variant/text/parser.h"

namespace tilewise {
namespace {

using zoo::Argument;
using zoo::ArgumentKind;

/// Keeps what reproduces the arguments it was made with, as literals.
Variant recorded(std::span<const Argument> arguments) {
  return keep([&](const At& at) {
    Expr sum = at.query;
    for (const Argument& argument : arguments) {
      if (const double* number = std::get_if<double>(&argument)) {
        sum = sum + *number;
      } else {
        for (std::int32_t element : std::get<std::vector<std::int32_t>>(argument)) sum = sum + element;
      }
    }
    return sum > at.key;
  });
}

Variant refused(std::span<const Argument>) { throw Error(ErrorCode::invalid_argument, "size = 7: expected less"); }
Variant sunk(std::span<const Argument>) {
  return sink([](const At&) { return 0.5; });
}

zoo::Entry entry(std::string_view name, std::string_view example, std::vector<zoo::ArgumentInfo> arguments,
                 Variant (*make)(std::span<const Argument>)) {
  return {.name = name,
          .summary = "",
          .source = "",
          .mathematics = "",
          .example = example,
          .arguments = std::move(arguments),
          .make = make};
}

const std::vector<zoo::Entry>& test_zoo() {
  static const std::vector<zoo::Entry> kZoo = {
      entry("causal", "causal()", {}, recorded),
      entry("documents", "documents([3, 4])", {{"lengths", ArgumentKind::integers}}, recorded),
      entry("refused", "refused()", {}, refused),
      entry("sunk", "sunk()", {}, sunk),
      entry("window", "window(1024)",
            {{"size"}, {"ratio", ArgumentKind::real, true, 2.5}, {"step", ArgumentKind::integer, true, 3.0}}, recorded),
  };
  return kZoo;
}

Variant parsed(std::string_view text) { return variant::parse(text, test_zoo()); }

/// The arguments of a call of the test's zoo, in order.
std::vector<double> arguments_of(std::string_view text) { return parsed(text).literals(); }

using Numbers = std::vector<double>;

TEST(ZooCall, TakesArgumentsByPlaceAndByName) {
  EXPECT_EQ(arguments_of("window(1024)"), (Numbers{1024, 2.5, 3}));
  EXPECT_EQ(arguments_of("window(1024, 7)"), (Numbers{1024, 7, 3}));
  EXPECT_EQ(arguments_of("window(-1024, -7.5, 4)"), (Numbers{-1024, -7.5, 4}));
  EXPECT_EQ(arguments_of("window(size=1024)"), (Numbers{1024, 2.5, 3}));
  EXPECT_EQ(arguments_of("window(step = 5, size = 6)"), (Numbers{6, 2.5, 5}));
  EXPECT_EQ(arguments_of("window(6, step=5)"), (Numbers{6, 2.5, 5}));
  EXPECT_EQ(arguments_of("documents([3, -4, 5])"), (Numbers{3, -4, 5}));
  EXPECT_EQ(arguments_of("documents(lengths=[7])"), (Numbers{7}));
  EXPECT_EQ(arguments_of("documents([])"), Numbers{});
}

TEST(ZooCall, ParenthesesMayBeLeftOutWhereNothingIsNeeded) {
  EXPECT_EQ(parsed("causal").key(), parsed("causal()").key());
  EXPECT_EQ(parsed("causal & plain & causal").data().stages.size(), 2u);
}

TEST(ZooCall, ComposesWithStages) {
  const Variant whole = parsed("score(s * 2) & window(4) & dropout(0.5)");
  EXPECT_EQ(whole.literals(), (Numbers{2, 4, 2.5, 3}));
  EXPECT_TRUE(whole.has_dropout());
  EXPECT_EQ(parsed(to_string(whole)).key(), whole.key());
  EXPECT_EQ(to_string(parsed("causal")), "keep(query > key)");
}

TEST(ZooCall, EveryExampleReadsAndReadsBack) {
  for (const zoo::Entry& entry : zoo::entries()) {
    SCOPED_TRACE(entry.example);
    expect_round_trip(parse_variant(std::string(entry.example)));
  }
}

TEST(ZooCall, ErrorsPointAtTheCallOrTheArgument) {
  const auto expect = [](std::string_view text, std::size_t column, std::string_view message) {
    expect_parse_error([&] { parsed(text); }, text, column, message);
  };
  expect("windw(4)", 1, "unknown variant 'windw'; did you mean 'window'?");
  expect("causal & docments([3])", 10, "unknown variant 'docments'; did you mean 'documents'?");
  expect("window()", 1, "window(): the argument 'size' is missing; example: window(1024)");
  expect("window", 1, "window(): the argument 'size' is missing; example: window(1024)");
  expect("window(1, 2, 3, 4)", 17, "window() takes 3 arguments; example: window(1024)");
  expect("causal(1)", 8, "causal() takes 0 arguments; example: causal()");
  expect("window(2.5)", 8, "2.5 is a real, expected an int");
  expect("window(3000000000)", 8, "the int 3000000000 does not fit int32");
  expect("window([1])", 8, "expected an int for the argument 'size', found '['");
  expect("window(4, key)", 11, "expected a number for the argument 'ratio', found 'key'");
  expect("window(4, nan)", 11, "nan: expected a number for the argument 'ratio'");
  expect("window(4, step=2.5)", 16, "2.5 is a real, expected an int");
  expect("window(4, stpe=2)", 11, "window() has no argument 'stpe'; did you mean 'step'?");
  expect("window(4, size=2)", 11, "the argument 'size' is given twice");
  expect("window(size=4, 2)", 16, "an argument without a name after one with a name");
  expect("documents(3)", 11, "expected a list of ints such as [1, 2, 3] for the argument 'lengths', found '3'");
  expect("documents([3, 2.5])", 15, "2.5 is a real, expected an int");
  expect("documents([3 4])", 14, "expected ',' or ']', found '4'");
  expect("window(4", 9, "expected ',' or ')', found the end of the text");
  expect("causal & refused()", 10, "size = 7: expected less");
  expect("sink(1) & sunk()", 11, "operator &: both sides have a sink");
}

}  // namespace
}  // namespace tilewise
