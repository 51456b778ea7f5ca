// Choices between candidates, kept in a folder.
#include "jit/choices.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/jit/support.h"

namespace tilewise::jit {
namespace {

DiskCacheOptions in(const std::string& folder, std::vector<std::string> shipped = {}) {
  DiskCacheOptions options;
  options.folder = folder;
  options.shipped = std::move(shipped);
  return options;
}

const Choice kTiles{"a GPU, forward, d 64", {"large tiles", "small tiles", "odd tiles"}};

TEST(Choices, FallOnTheFirstCandidateUntilOneIsKept) {
  const TemporaryFolder folder;
  Choices choices(in(folder.path() + "/made"));
  EXPECT_EQ(choices.choose(kTiles), 0u);
  EXPECT_EQ(choices.keep(kTiles.what, "odd tiles"), "");
  EXPECT_EQ(choices.choose(kTiles), 2u);
  EXPECT_EQ(choices.choose({"another", kTiles.candidates}), 0u);
  EXPECT_EQ(choices.choose({kTiles.what, {"round tiles", "large tiles"}}), 0u);  // no candidate any more
}

TEST(Choices, AreThereForLaterProcesses) {
  const TemporaryFolder folder;
  Choices first(in(folder.path())), second(in(folder.path()));
  EXPECT_EQ(second.choose(kTiles), 0u);  // has read what there is: nothing
  EXPECT_EQ(first.keep(kTiles.what, "small tiles"), "");
  EXPECT_EQ(second.keep("another", "x"), "");  // and leaves what the first has kept since
  Choices third(in(folder.path()));
  EXPECT_EQ(third.choose(kTiles), 1u);
  EXPECT_EQ(third.choose({"another", {"y", "x"}}), 1u);
}

TEST(Choices, OfAShippedFolderComeAfterOwnOnes) {
  const TemporaryFolder folder, shipped;
  EXPECT_EQ(Choices(in(shipped.path())).keep(kTiles.what, "small tiles"), "");
  Choices choices(in(folder.path(), {shipped.path()}));
  EXPECT_EQ(choices.choose(kTiles), 1u);
  EXPECT_EQ(choices.keep(kTiles.what, "odd tiles"), "");
  EXPECT_EQ(choices.choose(kTiles), 2u);
}

TEST(Choices, SurviveFilesThatMakeNoSense) {
  for (const std::string text :
       {"", "\n\n", "no tab at all\n", "\t\n", "a GPU, forward, d 64\tsmall", "\xff\t\xfe\n\t\t"}) {
    const TemporaryFolder folder;
    std::ofstream(folder.path() + "/choices") << text;
    Choices choices(in(folder.path()));
    EXPECT_EQ(choices.choose(kTiles), 0u);
    EXPECT_EQ(choices.keep(kTiles.what, "small tiles"), "");
    EXPECT_EQ(Choices(in(folder.path())).choose(kTiles), 1u);
  }
}

TEST(Choices, HoldForTheProcessWhereTheFolderTakesNone) {
  Choices choices(in(""));
  EXPECT_NE(choices.keep(kTiles.what, "small tiles"), "");
  EXPECT_EQ(choices.choose(kTiles), 1u);
}

TEST(ChoiceTrials, NoteWhatIsAskedAndDecide) {
  Choices choices(in(""));
  {
    const ChoiceTrial trial(kTiles.what, "odd tiles");
    EXPECT_EQ(choices.choose(kTiles), 2u);
    EXPECT_EQ(choices.choose({"another", {"x"}}), 0u);
    EXPECT_EQ(choices.choose(kTiles), 2u);
    ASSERT_EQ(trial.asked().size(), 2u);
    EXPECT_EQ(trial.asked()[0].what, kTiles.what);
    EXPECT_EQ(trial.asked()[1].candidates, std::vector<std::string>{"x"});
  }
  EXPECT_EQ(choices.choose(kTiles), 0u);
}

}  // namespace
}  // namespace tilewise::jit
