// What the disk and other processes do to the cache: writers killed half-way, full and read-only disks, many at once.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <functional>

#include "jit/disk_cache.h"
#include "jit/entry.h"
#include "tests/jit/support.h"

namespace tilewise::jit {
namespace {

constexpr int kSkipped = 77;

std::string no_compiler() { return ""; }

Key key_for(const std::string& tag) { return key_of(small_program(tag)); }

DiskCacheOptions in(const std::string& folder, WriteCalls calls = WriteCalls::system()) {
  DiskCacheOptions options;
  options.folder = folder;
  options.calls = calls;
  return options;
}

pid_t start_process(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  return child;
}

int status_of(pid_t child) {
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

// ---- writers killed ----

ssize_t write_half_and_die(int file, const void* bytes, std::size_t size) {
  if (::write(file, bytes, size / 2) < 0) _exit(1);
  return raise(SIGKILL);
}
int die_instead_of_renaming(const char*, const char*) { return raise(SIGKILL); }

class KilledWriter : public ::testing::TestWithParam<bool> {};

TEST_P(KilledWriter, LeavesNothingThatAnyoneReads) {
  const TemporaryFolder folder;
  WriteCalls calls = WriteCalls::system();
  if (GetParam())
    calls.write = write_half_and_die;
  else
    calls.rename = die_instead_of_renaming;
  const int status = status_of(start_process([&] {
    DiskCache(in(folder.path(), calls)).store(key_for("a"), made_up_binary("code"));
    return 0;
  }));
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  // A temporary file at most, and where files can be without a name only between naming and renaming.
  ASSERT_LE(files_below(folder.path()).size(), 1u);
  ASSERT_TRUE(files_below(folder.path(), ".kernel").empty());

  DiskCache cache(in(folder.path()));
  EXPECT_EQ(cache.find(key_for("a"), no_compiler), std::nullopt);
  EXPECT_EQ(cache.take_problem(), "");
  cache.store(key_for("a"), made_up_binary("code"));
  EXPECT_EQ(cache.find(key_for("a"), no_compiler), made_up_binary("code"));
}

INSTANTIATE_TEST_SUITE_P(DiskFaults, KilledWriter, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "HalfWay" : "BeforeRenaming"; });

TEST(DiskFaults, WriterKilledAtAnyMomentLeavesOnlyWholeEntries) {
  const TemporaryFolder folder;
  const std::string code(200000, 'c');
  for (int round = 0; round < 20; ++round) {
    const pid_t child = start_process([&] {
      DiskCache cache(in(folder.path()));
      for (int number = 0;; ++number) cache.store(key_for(std::to_string(number % 4)), made_up_binary(code));
      return 0;
    });
    usleep(1000 * static_cast<useconds_t>(1 + round));
    kill(child, SIGKILL);
    status_of(child);
    DiskCache cache(in(folder.path()));
    for (const std::string tag : {"0", "1", "2", "3"}) {
      const Binary whole = made_up_binary(code);
      EXPECT_EQ(cache.find(key_for(tag), no_compiler).value_or(whole), whole);
    }
    EXPECT_EQ(cache.take_problem(), "");
  }
}

// ---- many at once ----

TEST(DiskFaults, ManyProcessesStoreFindAndEvictAtOnce) {
  const TemporaryFolder folder;
  const std::string code(50000, 'c');
  std::vector<pid_t> children;
  for (int process = 0; process < 4; ++process) {
    children.push_back(start_process([&, process] {
      DiskCacheOptions options = in(folder.path());
      options.limit_bytes = std::int64_t{4} * 51000;  // room for 4 of the 6 entries
      DiskCache cache(options);
      for (int round = 0; round < 200; ++round) {
        const std::string tag = std::to_string((round * (process + 1)) % 6);
        const std::optional<Binary> binary = cache.find(key_for(tag), no_compiler);
        if (!binary)
          cache.store(key_for(tag), made_up_binary(tag + code));
        else if (*binary != made_up_binary(tag + code))
          return 1;
      }
      return cache.take_problem().empty() ? 0 : 2;
    }));
  }
  for (const pid_t child : children) EXPECT_EQ(status_of(child), 0);
  DiskCache cache(in(folder.path()));
  std::size_t whole = 0;
  for (int tag = 0; tag < 6; ++tag) whole += cache.find(key_for(std::to_string(tag)), no_compiler).has_value();
  EXPECT_EQ(whole, files_below(folder.path(), ".kernel").size());
  EXPECT_EQ(files_below(folder.path()).size(), whole) << "a temporary file was left";
}

// ---- disks that fail ----

ssize_t write_no_space(int, const void*, std::size_t) { return errno = ENOSPC, -1; }
ssize_t write_nothing(int, const void*, std::size_t) { return 0; }
int fsync_fails(int) { return errno = EIO, -1; }
int rename_fails(const char*, const char*) { return errno = EACCES, -1; }
ssize_t write_by_sevens(int file, const void* bytes, std::size_t size) {
  static int calls = 0;
  if (++calls % 3 == 0) return errno = EINTR, -1;
  return ::write(file, bytes, std::min<std::size_t>(size, 7));
}

struct Fault {
  const char* name;
  void (*arm)(WriteCalls&);
  const char* reason;  // in the problem
};

class FailingDisk : public ::testing::TestWithParam<Fault> {};

TEST_P(FailingDisk, OnlyLosesTheCache) {
  const TemporaryFolder folder;
  WriteCalls calls = WriteCalls::system();
  GetParam().arm(calls);
  DiskCache cache(in(folder.path(), calls));
  cache.store(key_for("a"), made_up_binary("code"));
  EXPECT_EQ(cache.find(key_for("a"), no_compiler), std::nullopt);
  EXPECT_TRUE(files_below(folder.path()).empty()) << "something half-written was left";
  const std::string problem = cache.take_problem();
  EXPECT_NE(problem.find(folder.path()), std::string::npos) << problem;
  EXPECT_NE(problem.find(GetParam().reason), std::string::npos) << problem;
  EXPECT_EQ(cache.take_problem(), "");
}

INSTANTIATE_TEST_SUITE_P(
    DiskFaults, FailingDisk,
    ::testing::Values(Fault{"NoSpace", [](WriteCalls& calls) { calls.write = write_no_space; }, "No space left"},
                      Fault{"WritesNothing", [](WriteCalls& calls) { calls.write = write_nothing; }, "No space left"},
                      Fault{"SyncFails", [](WriteCalls& calls) { calls.fsync = fsync_fails; }, "Input/output error"},
                      Fault{"RenameFails", [](WriteCalls& calls) { calls.rename = rename_fails; },
                            "Permission denied"}),
    [](const auto& test) { return test.param.name; });

TEST(DiskFaults, ShortAndInterruptedWritesAreContinued) {
  const TemporaryFolder folder;
  WriteCalls calls = WriteCalls::system();
  calls.write = write_by_sevens;
  DiskCache cache(in(folder.path(), calls));
  cache.store(key_for("a"), made_up_binary("code"));
  EXPECT_EQ(cache.take_problem(), "");
  EXPECT_EQ(cache.find(key_for("a"), no_compiler), made_up_binary("code"));
}

TEST(DiskFaults, AFolderThatCannotBeMadeOnlyLosesTheCache) {
  const TemporaryFolder folder;
  overwrite(folder.path() + "/file", "not a folder");
  DiskCache cache(in(folder.path() + "/file/cache"));
  EXPECT_EQ(cache.find(key_for("a"), no_compiler), std::nullopt);
  cache.store(key_for("a"), made_up_binary("code"));
  EXPECT_NE(cache.take_problem().find("Not a directory"), std::string::npos);
}

// Runs the body in a process with mounts of its own; kSkipped where that is not allowed. Its exit status says which
// check failed.
void with_own_mounts(const std::function<int()>& body) {
  const int status = status_of(start_process([&] {
    const int flags = CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER);
    if (unshare(flags) != 0) return kSkipped;
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return kSkipped;
    return body();
  }));
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == kSkipped) GTEST_SKIP() << "this user may not mount a file system here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(DiskFaults, ARealFullDiskOnlyLosesTheCache) {
  const TemporaryFolder folder;
  with_own_mounts([&] {
    if (mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=128k") != 0) return kSkipped;
    DiskCache cache(in(folder.path()));
    cache.store(key_for("small"), made_up_binary("code"));
    if (!cache.take_problem().empty()) return 1;
    cache.store(key_for("large"), made_up_binary(std::string(1 << 20, 'c')));
    if (cache.take_problem().find("No space left") == std::string::npos) return 2;
    if (cache.find(key_for("large"), no_compiler)) return 3;
    if (cache.find(key_for("small"), no_compiler) != made_up_binary("code")) return 4;
    return files_below(folder.path()).size() == 1 ? 0 : 5;
  });
}

TEST(DiskFaults, AReadOnlyDiskIsReadAndNotWritten) {
  const TemporaryFolder folder;
  DiskCache(in(folder.path())).store(key_for("a"), made_up_binary("code"));
  with_own_mounts([&] {
    const char* path = folder.path().c_str();
    if (mount(path, path, nullptr, MS_BIND, nullptr) != 0) return kSkipped;
    if (mount(nullptr, path, nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) != 0) return kSkipped;
    DiskCache cache(in(folder.path()));
    if (cache.find(key_for("a"), no_compiler) != made_up_binary("code")) return 1;
    if (!cache.take_problem().empty()) return 2;
    cache.store(key_for("b"), made_up_binary("code"));
    return cache.take_problem().find("Read-only file system") != std::string::npos ? 0 : 3;
  });
}

}  // namespace
}  // namespace tilewise::jit
