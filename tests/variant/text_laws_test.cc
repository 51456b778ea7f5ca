// Laws of the textual form over random variants and random texts. A failure prints the seed.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>

#include "tests/laws/random_variant.h"
#include "tests/variant/random_variant.h"
#include "tests/variant/round_trip.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

using variant::Random;

/// Reading never does anything but return or throw Error(parse) with a place; what it returns reads back.
void expect_read_or_refused(const std::string& text) {
  try {
    const Variant found = parse_variant(text);
    EXPECT_EQ(parse_variant(to_string(found)).key(), found.key()) << text;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::parse) << error.what();
    EXPECT_EQ(std::string(error.what()).rfind("variant, line ", 0), 0u) << error.what();
  }
}

RC_GTEST_PROP(TextLaw, AnyVariantReadsBack, (std::uint64_t seed)) {
  Random random(seed);
  expect_round_trip(variant::random_variant(random));
  RC_ASSERT(!testing::Test::HasFailure());
}

RC_GTEST_PROP(TextLaw, AnyRecordedVariantReadsBack, (laws::Choices choices)) {
  const Variant variant = laws::random_variant(choices).variant;
  RC_LOG() << laws::listing(variant);
  expect_round_trip(variant);
  RC_ASSERT(!testing::Test::HasFailure());
}

RC_GTEST_PROP(TextLaw, CompositionsReadBack, (std::uint64_t seed)) {
  Random random(seed);
  const Variant a = variant::random_variant(random), b = variant::random_variant(random);
  if ((a.has_sink() && b.has_sink()) || (a.has_dropout() && b.has_dropout())) return;
  expect_round_trip(a & b);
  if (!a.has_sink() && !a.has_dropout()) expect_round_trip(a & b & a);
  RC_ASSERT(!testing::Test::HasFailure());
}

RC_GTEST_PROP(TextLaw, RandomBytesAreReadOrRefused, (const std::string& bytes)) {
  expect_read_or_refused(bytes);
  expect_read_or_refused("keep(" + bytes + ")");
  RC_ASSERT(!testing::Test::HasFailure());
}

RC_GTEST_PROP(TextLaw, RandomWordsAreReadOrRefused, (std::uint64_t seed)) {
  constexpr const char* kWords[] = {"keep",  "(",    ")",    "score", "s",     "query",  "&",        "+",
                                    "-",     "let",  "x",    "=",     ";",     "table",  "t",        ":",
                                    "int32", "[",    "]",    "?",     "param", "in",     "true",     "not",
                                    "and",   "<",    "5",    "2.5",   "inf",   "**",     "//",       ",",
                                    "plain", "sink", "real", "int",   "abs",   "select", ".clamped", "constant"};
  Random random(seed);
  std::string text;
  for (std::size_t count = random.below(30); count > 0; --count)
    text += std::string(kWords[random.below(std::size(kWords))]) + ' ';
  expect_read_or_refused(text);
  RC_ASSERT(!testing::Test::HasFailure());
}

RC_GTEST_PROP(TextLaw, MutatedTextsAreReadOrRefused, (std::uint64_t seed)) {
  Random random(seed);
  std::string text = to_string(variant::random_variant(random));
  for (std::size_t count = 1 + random.below(3); count > 0 && !text.empty(); --count) {
    const std::size_t place = random.below(text.size());
    switch (random.below(4)) {
      case 0: text.erase(place, 1 + random.below(4)); break;
      case 1: text.insert(place, 1, static_cast<char>(random.bits())); break;
      case 2: text[place] = text[random.below(text.size())]; break;
      default: text.insert(place, text.substr(random.below(text.size()), random.below(12)));
    }
  }
  expect_read_or_refused(text);
  RC_ASSERT(!testing::Test::HasFailure());
}

}  // namespace
}  // namespace tilewise
