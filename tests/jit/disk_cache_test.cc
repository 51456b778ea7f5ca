#include "jit/disk_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>

#include "jit/entry.h"
#include "tests/jit/support.h"

namespace tilewise::jit {
namespace {

namespace fs = std::filesystem;

std::string no_compiler() { return ""; }

Key key_for(const std::string& tag) { return key_of(small_program(tag)); }

DiskCacheOptions in(const std::string& folder, std::vector<std::string> shipped = {}) {
  DiskCacheOptions options;
  options.folder = folder;
  options.shipped = std::move(shipped);
  return options;
}

// Puts a file's time of last use this many seconds into the past.
void age(const std::string& path, int seconds) {
  timespec times[2] = {{0, UTIME_OMIT}, {time(nullptr) - seconds, 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
}

std::string only_entry(const std::string& folder) {
  const std::vector<std::string> paths = files_below(folder, ".kernel");
  EXPECT_EQ(paths.size(), 1u);
  return paths.empty() ? "" : paths[0];
}

TEST(DiskCache, GivesBackWhatWasStored) {
  const TemporaryFolder folder;
  DiskCache cache(in(folder.path() + "/made/on/demand"));
  EXPECT_EQ(cache.find(key_for("a"), no_compiler), std::nullopt);
  cache.store(key_for("a"), made_up_binary("code"));
  EXPECT_EQ(cache.find(key_for("a"), no_compiler), made_up_binary("code"));
  EXPECT_EQ(cache.find(key_for("b"), no_compiler), std::nullopt);
  EXPECT_EQ(cache.take_problem(), "");
}

TEST(DiskCache, LeavesNothingButTheEntry) {
  const TemporaryFolder folder;
  DiskCache cache(in(folder.path()));
  cache.store(key_for("a"), made_up_binary("code"));
  EXPECT_EQ(files_below(folder.path()), std::vector<std::string>{only_entry(folder.path())});
}

TEST(DiskCache, EntriesCanBeReadByWhomeverTheUmaskAllows) {
  const TemporaryFolder folder;
  const mode_t before = umask(022);
  DiskCache(in(folder.path())).store(key_for("a"), made_up_binary("code"));
  umask(before);
  struct stat status {};
  ASSERT_EQ(stat(only_entry(folder.path()).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0644u);
}

class DamagedEntry : public ::testing::TestWithParam<std::pair<const char*, void (*)(std::string&)>> {};

TEST_P(DamagedEntry, IsFoundReportedRemovedAndReplaced) {
  const TemporaryFolder folder;
  DiskCache cache(in(folder.path()));
  cache.store(key_for("a"), made_up_binary("code"));
  const std::string path = only_entry(folder.path());
  std::string bytes = contents(path);
  GetParam().second(bytes);
  overwrite(path, bytes);

  EXPECT_EQ(cache.find(key_for("a"), no_compiler), std::nullopt);
  const std::string problem = cache.take_problem();
  EXPECT_NE(problem.find(path), std::string::npos) << problem;
  EXPECT_EQ(cache.take_problem(), "") << "reported twice";
  EXPECT_FALSE(fs::exists(path));

  cache.store(key_for("a"), made_up_binary("code"));
  EXPECT_EQ(cache.find(key_for("a"), no_compiler), made_up_binary("code"));
}

INSTANTIATE_TEST_SUITE_P(
    DiskCache, DamagedEntry,
    ::testing::Values(std::pair(
                          "Empty", +[](std::string& bytes) { bytes.clear(); }),
                      std::pair(
                          "Truncated", +[](std::string& bytes) { bytes.resize(bytes.size() / 2); }),
                      std::pair(
                          "LastByteGone", +[](std::string& bytes) { bytes.pop_back(); }),
                      std::pair(
                          "OtherChecksum", +[](std::string& bytes) { bytes[12] = static_cast<char>(~bytes[12]); }),
                      std::pair(
                          "OtherCode", +[](std::string& bytes) { bytes.back() = 'x'; }),
                      std::pair(
                          "Zeros", +[](std::string& bytes) { bytes.assign(bytes.size(), '\0'); })),
    [](const auto& test) { return test.param.first; });

TEST(DiskCache, ADamagedEntryInAShippedFolderIsLeftAloneAndPassedOver) {
  const TemporaryFolder own, first, second;
  DiskCache(in(first.path())).store(key_for("a"), made_up_binary("first"));
  DiskCache(in(second.path())).store(key_for("a"), made_up_binary("second"));
  overwrite(only_entry(first.path()), "damaged");
  DiskCache cache(in(own.path(), {first.path(), second.path()}));
  EXPECT_EQ(cache.find(key_for("a"), no_compiler), made_up_binary("second"));
  EXPECT_NE(cache.take_problem(), "");
  EXPECT_EQ(contents(only_entry(first.path())), "damaged");
}

TEST(DiskCache, OfSeveralCompilersEntriesItsOwnComesFirst) {
  const TemporaryFolder folder;
  DiskCache cache(in(folder.path()));
  for (const char* compiler : {"nvrtc-12.4", "nvrtc-12.9", "nvrtc-13.0"}) {
    cache.store(key_for("a"), made_up_binary(compiler, compiler));
  }
  const auto found_by = [&](const std::string& own) {
    return cache.find(key_for("a"), [&] { return own; }).value().compiler;
  };
  EXPECT_EQ(found_by("nvrtc-12.4"), "nvrtc-12.4");
  EXPECT_EQ(found_by("nvrtc-12.9"), "nvrtc-12.9");
  EXPECT_EQ(found_by("nvrtc-13.0"), "nvrtc-13.0");
  EXPECT_EQ(found_by("nvrtc-11.8"), "nvrtc-13.0");
  EXPECT_EQ(found_by(""), "nvrtc-13.0");
}

TEST(DiskCache, AnotherCompilersEntryServesAndNobodyIsAskedForTheirOwn) {
  const TemporaryFolder folder;
  DiskCache cache(in(folder.path()));
  cache.store(key_for("a"), made_up_binary("code", "nvrtc-12.4"));
  const auto must_not_ask = []() -> std::string { throw std::logic_error("asked"); };
  EXPECT_EQ(cache.find(key_for("a"), must_not_ask).value().compiler, "nvrtc-12.4");
  EXPECT_EQ(cache.find(key_for("b"), must_not_ask), std::nullopt);
}

TEST(DiskCache, FoldersAreSearchedInOrderAndOnlyTheFirstIsWritten) {
  const TemporaryFolder own, first, second;
  DiskCache(in(first.path())).store(key_for("a"), made_up_binary("first"));
  DiskCache(in(second.path())).store(key_for("a"), made_up_binary("second"));
  DiskCache(in(second.path())).store(key_for("b"), made_up_binary("second"));
  DiskCache cache(in(own.path(), {first.path(), "/nonexistent", second.path()}));
  EXPECT_EQ(cache.find(key_for("a"), no_compiler).value().cubin, "first");
  EXPECT_EQ(cache.find(key_for("b"), no_compiler).value().cubin, "second");
  EXPECT_TRUE(files_below(own.path()).empty());

  cache.store(key_for("a"), made_up_binary("own"));
  EXPECT_EQ(cache.find(key_for("a"), no_compiler).value().cubin, "own");
  EXPECT_EQ(files_below(first.path()).size(), 1u);
  EXPECT_EQ(files_below(second.path()).size(), 2u);
  EXPECT_EQ(cache.take_problem(), "");
}

TEST(DiskCache, UseCountsAgainstEviction) {
  const TemporaryFolder folder;
  const std::string code(10000, 'c');
  const std::int64_t size = static_cast<std::int64_t>(encode_entry(key_for("a"), made_up_binary(code)).size());
  DiskCacheOptions options = in(folder.path());
  options.limit_bytes = 3 * size;
  DiskCache cache(options);
  int seconds = 400;
  for (const char* tag : {"a", "b", "c"}) {
    cache.store(key_for(tag), made_up_binary(code));
    for (const std::string& path : files_below(folder.path())) {
      if (path.find(key_for(tag).hex()) != std::string::npos) age(path, seconds -= 100);
    }
  }
  ASSERT_TRUE(cache.find(key_for("a"), no_compiler));  // a was the oldest; now it is the latest used
  cache.store(key_for("d"), made_up_binary(code));
  EXPECT_TRUE(cache.find(key_for("a"), no_compiler));
  EXPECT_FALSE(cache.find(key_for("b"), no_compiler));
  EXPECT_TRUE(cache.find(key_for("c"), no_compiler));
  EXPECT_TRUE(cache.find(key_for("d"), no_compiler));
}

TEST(DiskCache, AnEntryBeyondTheLimitIsKeptUntilTheNext) {
  const TemporaryFolder folder;
  DiskCacheOptions options = in(folder.path());
  options.limit_bytes = 1;
  DiskCache cache(options);
  cache.store(key_for("a"), made_up_binary("code"));
  EXPECT_TRUE(cache.find(key_for("a"), no_compiler));
  cache.store(key_for("b"), made_up_binary("code"));
  EXPECT_FALSE(cache.find(key_for("a"), no_compiler));
  EXPECT_TRUE(cache.find(key_for("b"), no_compiler));
}

TEST(DiskCache, EvictionTouchesNothingThatIsNotItsOwn) {
  const TemporaryFolder folder;
  DiskCache(in(folder.path())).store(key_for("a"), made_up_binary("code"));
  const std::string entry = only_entry(folder.path());
  const std::string beside = fs::path(entry).parent_path().string() + "/notes.kernel";
  const std::string odd = fs::path(entry).parent_path().string() + "/notes.tmp-1";
  const std::string above = folder.path() + "/" + fs::path(entry).filename().string();
  for (const std::string& path : {beside, odd, above}) {
    overwrite(path, "somebody's work");
    age(path, 100000);
  }
  evict(folder.path(), 0, "");
  EXPECT_FALSE(fs::exists(entry));
  for (const std::string& path : {beside, odd, above}) EXPECT_TRUE(fs::exists(path)) << path;
}

TEST(DiskCache, OldTemporaryFilesAreSweptAndYoungOnesLeft) {
  const TemporaryFolder folder;
  DiskCache(in(folder.path())).store(key_for("a"), made_up_binary("code"));
  const std::string old = only_entry(folder.path()) + std::string(kTemporaryMark) + "1";
  const std::string young = only_entry(folder.path()) + std::string(kTemporaryMark) + "2";
  overwrite(old, "half");
  overwrite(young, "half");
  age(old, 3700);
  age(young, 3500);
  evict(folder.path(), 1 << 20, "");
  EXPECT_FALSE(fs::exists(old));
  EXPECT_TRUE(fs::exists(young));
}

// ---- the environment ----

class CacheEnvironment : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"TILEWISE_CACHE_DIR", "TILEWISE_CACHE_PATH", "XDG_CACHE_HOME"}) unsetenv(name);
    setenv("HOME", "/home/ada", 1);
  }
};

TEST_F(CacheEnvironment, TheFolderIsTheOneNamedElseTheUsersCache) {
  EXPECT_EQ(DiskCacheOptions::from_environment().folder, "/home/ada/.cache/tilewise");
  setenv("XDG_CACHE_HOME", "relative", 1);
  EXPECT_EQ(DiskCacheOptions::from_environment().folder, "/home/ada/.cache/tilewise");
  setenv("XDG_CACHE_HOME", "/var/cache/ada", 1);
  EXPECT_EQ(DiskCacheOptions::from_environment().folder, "/var/cache/ada/tilewise");
  setenv("TILEWISE_CACHE_DIR", "", 1);
  EXPECT_EQ(DiskCacheOptions::from_environment().folder, "/var/cache/ada/tilewise");
  setenv("TILEWISE_CACHE_DIR", "/kernels", 1);
  EXPECT_EQ(DiskCacheOptions::from_environment().folder, "/kernels");
}

TEST_F(CacheEnvironment, WithoutAnyFolderTheCacheIsLostAndSaysSo) {
  unsetenv("HOME");
  DiskCache cache(DiskCacheOptions::from_environment());
  EXPECT_EQ(cache.find(key_for("a"), no_compiler), std::nullopt);
  cache.store(key_for("a"), made_up_binary("code"));
  EXPECT_NE(cache.take_problem().find("TILEWISE_CACHE_DIR"), std::string::npos);
}

TEST_F(CacheEnvironment, ThePathIsDividedAtColons) {
  EXPECT_TRUE(DiskCacheOptions::from_environment().shipped.empty());
  setenv("TILEWISE_CACHE_PATH", ":/a:/b c::/d:", 1);
  EXPECT_EQ(DiskCacheOptions::from_environment().shipped, (std::vector<std::string>{"/a", "/b c", "/d"}));
}

TEST_F(CacheEnvironment, TheFolderComesBeforeThePath) {
  const TemporaryFolder own, shipped;
  setenv("TILEWISE_CACHE_DIR", own.path().c_str(), 1);
  setenv("TILEWISE_CACHE_PATH", shipped.path().c_str(), 1);
  DiskCache(in(shipped.path())).store(key_for("a"), made_up_binary("shipped"));
  DiskCache cache(DiskCacheOptions::from_environment());
  EXPECT_EQ(cache.find(key_for("a"), no_compiler).value().cubin, "shipped");
  cache.store(key_for("a"), made_up_binary("own"));
  EXPECT_EQ(cache.find(key_for("a"), no_compiler).value().cubin, "own");
}

}  // namespace
}  // namespace tilewise::jit
