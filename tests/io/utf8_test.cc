// Broken UTF-8, and streams cut anywhere.
#include "io/tokenizer/utf8.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace tilewise::io {
namespace {

std::string replaced(std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) text += "\xEF\xBF\xBD";
  return text;
}

std::string between(const std::string& middle) { return fmt::format("a{}b", middle); }

struct Broken {
  const char* name;
  std::string bytes;
  std::size_t parts;  // maximal ones, counted by hand from Unicode 15.0, table 3-7
};

class BrokenUtf8 : public ::testing::TestWithParam<Broken> {};

TEST_P(BrokenUtf8, IsReplacedAsTheReferencesDo) {
  const Broken& broken = GetParam();
  EXPECT_EQ(valid_utf8(between(broken.bytes), Replacement::maximal_part), between(replaced(broken.parts)));
  EXPECT_EQ(valid_utf8(between(broken.bytes), Replacement::each_byte), between(replaced(broken.bytes.size())));
  EXPECT_EQ(valid_utf8(broken.bytes, Replacement::maximal_part), replaced(broken.parts));
}

INSTANTIATE_TEST_SUITE_P(Utf8, BrokenUtf8,
                         ::testing::Values(Broken{"Continuation", "\x80", 1}, Broken{"TwoContinuations", "\xBF\x80", 2},
                                           Broken{"OverlongTwo", "\xC0\xAF", 2},
                                           Broken{"OverlongThree", "\xE0\x80\xAF", 3},
                                           Broken{"OverlongFour", "\xF0\x8F\xBF\xBF", 4}, Broken{"CutTwo", "\xC3", 1},
                                           Broken{"CutThree", "\xE2\x82", 1}, Broken{"CutFour", "\xF0\x9F\x98", 1},
                                           Broken{"Surrogate", "\xED\xA0\x80", 3},
                                           Broken{"TooLarge", "\xF4\x90\x80\x80", 4},
                                           Broken{"NoFirstByte", "\xF8\x88\x80", 3}, Broken{"Fe", "\xFE\xFF", 2}),
                         [](const auto& test) { return test.param.name; });

RC_GTEST_PROP(Utf8Stream, GivesTheSameWhereverItIsCut, (const std::vector<std::uint8_t>& raw, std::uint8_t cut)) {
  // Bytes of whole and cut characters, rather than noise alone.
  std::string bytes;
  for (const std::uint8_t value : raw) {
    if (value < 64) {
      append_utf8(value * 1000u, bytes);
    } else {
      bytes += static_cast<char>(value);
    }
  }
  for (const Replacement replacement : {Replacement::maximal_part, Replacement::each_byte}) {
    Utf8Stream stream(replacement);
    std::string text;
    for (std::size_t at = 0; at < bytes.size(); at += 1 + cut % 5) {
      std::string part;
      stream.add(std::string_view(bytes).substr(at, 1 + cut % 5), part);
      RC_ASSERT(valid_utf8(part, Replacement::each_byte) == part);
      text += part;
    }
    stream.finish(text);
    RC_ASSERT(text == valid_utf8(bytes, replacement));
    RC_ASSERT(valid_utf8(text, replacement) == text);
  }
}

RC_GTEST_PROP(Utf8, EveryCodePointReadsBack, ()) {
  const auto code = *rc::gen::suchThat(rc::gen::inRange<std::uint32_t>(0, 0x110000),
                                       [](std::uint32_t c) { return c < 0xD800 || c > 0xDFFF; });
  std::string text;
  append_utf8(code, text);
  RC_ASSERT(valid_utf8(text, Replacement::each_byte) == text);
  RC_ASSERT(characters(text).size() == 1u);
  RC_ASSERT(characters(text)[0].code == code);
}

}  // namespace
}  // namespace tilewise::io
