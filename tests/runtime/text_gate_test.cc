// Stop strings, however the text is cut into pieces.
#include "runtime/text_gate.h"

#include <gtest/gtest.h>

#include <random>

namespace tilewise::runtime {
namespace {

/// The text before the stop string that is complete first; of those that end together, before the longest.
std::string expected_of(const std::string& text, const std::vector<std::string>& stop) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t begin = std::string::npos;
    for (const std::string& word : stop) {
      if (end >= word.size() && text.compare(end - word.size(), word.size(), word) == 0) {
        begin = std::min(begin, end - word.size());
      }
    }
    if (begin != std::string::npos) return text.substr(0, begin);
  }
  return text;
}

TEST(TextGate, HoldsBackWhatMayBeABeginning) {
  TextGate gate({"\n\nUser:", "END"});
  EXPECT_EQ(gate.add("hello E"), "hello ");
  EXPECT_EQ(gate.add("ND"), "");
  EXPECT_TRUE(gate.stopped());
  EXPECT_EQ(gate.add("more"), "");
  EXPECT_EQ(gate.finish(), "");
}

TEST(TextGate, GivesBackWhatWasNoBeginning) {
  TextGate gate({"\n\nUser:"});
  EXPECT_EQ(gate.add("a\n\nUs"), "a");
  EXPECT_EQ(gate.add("ually\n"), "\n\nUsually");
  EXPECT_EQ(gate.finish(), "\n");
  EXPECT_FALSE(gate.stopped());
}

TEST(TextGate, WithoutStopStringsNothingIsHeldBack) {
  TextGate gate({});
  EXPECT_EQ(gate.add("all"), "all");
  EXPECT_EQ(gate.finish(), "");
}

TEST(TextGate, EqualsTheFormulaInAnyPieces) {
  std::mt19937_64 random(20251121);
  const auto below = [&](std::size_t count) { return static_cast<std::size_t>(random() % count); };
  const auto word = [&](std::size_t most) {
    std::string text;
    for (std::size_t size = 1 + below(most); size > 0; --size) text += static_cast<char>('a' + below(2));
    return text;
  };
  int stopped = 0;
  for (int run = 0; run < 20'000; ++run) {
    std::vector<std::string> stop;
    for (std::size_t count = below(4); count > 0; --count) stop.push_back(word(6));
    const std::string text = word(40);
    TextGate gate(stop);
    std::string got;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = std::min(text.size() - at, 1 + below(9));
      got += gate.add(text.substr(at, size));
      at += size;
      ASSERT_EQ(got, text.substr(0, got.size()));
    }
    got += gate.finish();
    ASSERT_EQ(got, expected_of(text, stop)) << "run " << run << " of seed 20251121, text " << text;
    stopped += gate.stopped() ? 1 : 0;
  }
  EXPECT_GT(stopped, 5000);
}

}  // namespace
}  // namespace tilewise::runtime
