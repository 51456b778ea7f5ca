#include "tilewise/suggest.h"

#include <gtest/gtest.h>

#include <array>

namespace tilewise {
namespace {

TEST(Suggest, DistanceCountsInsertionsDeletionsReplacementsAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("window", "window"), 0u);
  EXPECT_EQ(edit_distance("windw", "window"), 1u);
  EXPECT_EQ(edit_distance("windoww", "window"), 1u);
  EXPECT_EQ(edit_distance("wundow", "window"), 1u);
  EXPECT_EQ(edit_distance("iwndow", "window"), 1u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("ca", "abc"), 3u);  // with letters touched twice it would be 2
}

TEST(Suggest, NamesTheClosestWord) {
  constexpr std::array<std::string_view, 4> words{"causal", "sliding_window", "softcap", "window"};
  EXPECT_EQ(did_you_mean("windw", words), "; did you mean 'window'?");
  EXPECT_EQ(did_you_mean("sotfcap", words), "; did you mean 'softcap'?");
  EXPECT_EQ(closest_word("causal", words), "causal");
}

TEST(Suggest, SaysNothingOfDistantWords) {
  constexpr std::array<std::string_view, 2> words{"causal", "window"};
  EXPECT_EQ(did_you_mean("banana", words), "");
  EXPECT_EQ(did_you_mean("", words), "");
  EXPECT_EQ(did_you_mean("anything", {}), "");
}

TEST(Suggest, OfEquallyCloseWordsTheFirstIsNamed) {
  constexpr std::array<std::string_view, 2> words{"exp2", "exp3"};
  EXPECT_EQ(closest_word("exp", words), "exp2");
}

}  // namespace
}  // namespace tilewise
