// What is written reads back, and a write that fails leaves nothing.
#include "io/gguf_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): SIGKILL is POSIX's
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <numeric>

#include "tests/io/temporary.h"
#include "tests/refusal.h"

namespace tilewise::io {
namespace {

/// A source that counts up in bytes, so that a row put in the wrong place is seen.
GgufTensorSource counting(std::string name, Storage storage, std::vector<std::int64_t> shape) {
  GgufTensorSource source{std::move(name), storage, std::move(shape)};
  const std::int64_t row_bytes = *bytes_of(storage, source.shape.empty() ? 1 : source.shape.back());
  source.fill = [row_bytes](std::int64_t first, std::span<std::byte> out) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = static_cast<std::byte>((static_cast<std::size_t>(first * row_bytes) + i) * 2654435761u >> 13);
    }
  };
  return source;
}

std::vector<std::byte> contents(const GgufTensorSource& source) {
  std::vector<std::byte> all(static_cast<std::size_t>(*bytes_of(source.storage, *product(source.shape))));
  source.fill(0, all);
  return all;
}

TEST(GgufWriter, WhatIsWrittenReadsBack) {
  const TemporaryFolder folder;
  const std::vector<float> floats{0.5F, -2.0F};
  const std::vector<std::int32_t> integers{-1, 1 << 30};
  const GgufMetadata metadata{
      {"u", GgufValue::of_uint32(4000000000u)},
      {"f", GgufValue::of_float32(0.1F)},
      {"b", GgufValue::of_bool(true)},
      {"s", GgufValue::of_string("text")},
      {"ss", GgufValue::of_strings({"a", "", "c"})},
      {"fs", GgufValue::of_floats(floats)},
      {"is", GgufValue::of_int32s(integers)},
      {"i8", {GgufType::int8, std::int64_t{-5}}},
      {"u64", {GgufType::uint64, ~std::uint64_t{0}}},
  };
  // The last one takes several chunks.
  const std::vector<GgufTensorSource> tensors{
      counting("scalar", Storage::float32, {}),
      counting("empty", Storage::float32, {0, 3}),
      counting("odd", Storage::int8, {3, 7}),
      counting("blocks", Storage::q8_0, {5, 2, 64}),
      counting("large", Storage::bfloat16, {3000, 1111}),
  };
  const std::string path = folder / "m.gguf";
  write_gguf(path, metadata, tensors);

  const GgufFile read(path);
  EXPECT_EQ(read.integer("u", 0, INT64_MAX), 4000000000);
  EXPECT_EQ(static_cast<float>(read.real("f")), 0.1F);
  EXPECT_TRUE(read.boolean("b"));
  EXPECT_EQ(read.string("s"), "text");
  EXPECT_EQ(read.strings("ss"), (std::vector<std::string_view>{"a", "", "c"}));
  EXPECT_EQ(read.reals("fs"), (std::vector<double>{0.5, -2.0}));
  EXPECT_EQ(read.integers("is"), (std::vector<std::int64_t>{-1, 1 << 30}));
  EXPECT_EQ(read.integer("i8", -128, 127), -5);
  EXPECT_EQ(std::get<std::uint64_t>(read.metadata()[8].second.value), ~std::uint64_t{0});
  ASSERT_EQ(read.tensors().size(), tensors.size());
  for (const GgufTensorSource& source : tensors) {
    const FileTensor& tensor = read.tensor(source.name);
    EXPECT_EQ(tensor.storage, source.storage);
    EXPECT_EQ(tensor.shape, source.shape);
    const std::vector<std::byte> expected = contents(source);
    EXPECT_TRUE(std::equal(tensor.bytes.begin(), tensor.bytes.end(), expected.begin(), expected.end())) << source.name;
  }
}

TEST(GgufWriter, ACopyIsTheSameFile) {
  const TemporaryFolder folder;
  write_gguf(folder / "a", {{"k", GgufValue::of_string("v")}},
             {counting("w", Storage::q4_k, {3, 512}), counting("x", Storage::float16, {7})});
  const GgufFile read(folder / "a");
  std::vector<GgufTensorSource> copies;
  for (const FileTensor& tensor : read.tensors()) copies.push_back(copy_of(tensor));
  write_gguf(folder / "b", read.metadata(), copies);
  EXPECT_EQ(bytes_of_file(folder / "a"), bytes_of_file(folder / "b"));
}

TEST(GgufWriter, RefusesBeforeAnyWork) {
  const TemporaryFolder folder;
  const std::string path = folder / "m.gguf";
  const auto refuse = [&](const GgufMetadata& metadata, const std::vector<GgufTensorSource>& tensors,
                          const std::string& told) {
    expect_refused([&] { write_gguf(path, metadata, tensors); }, {told});
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  };
  const GgufValue one = GgufValue::of_uint32(1);
  refuse({{"k", one}, {"k", one}}, {}, "'k' appears twice");
  refuse({{"", one}}, {}, "no name");
  refuse({}, {counting("w", Storage::int8, {1}), counting("w", Storage::int8, {1})}, "'w' appears twice");
  refuse({}, {counting("w", Storage::int8, {1, 1, 1, 1, 1})}, "5 axes");
  refuse({}, {counting("w", Storage::boolean, {1})}, "GGUF has no type");
  GgufTensorSource halves = counting("w", Storage::q8_0, {2, 32});
  halves.shape = {4, 16};
  refuse({}, {halves}, "whole blocks of 32");
}

// ---- disks that fail ----

ssize_t write_no_space(int, const void*, std::size_t) { return errno = ENOSPC, -1; }
int fsync_fails(int) { return errno = EIO, -1; }
int rename_fails(const char*, const char*) { return errno = EACCES, -1; }

TEST(GgufWriter, AFailureLeavesWhatWasThere) {
  const TemporaryFolder folder;
  const std::string path = folder.put("m.gguf", "what was there");
  const auto fails = [&](auto arm, const std::string& reason) {
    WriteCalls calls = WriteCalls::system();
    arm(calls);
    const std::string message =
        refusal([&] { write_gguf(path, {}, {counting("w", Storage::int8, {9})}, calls); }, ErrorCode::io);
    EXPECT_NE(message.find(path), std::string::npos) << message;
    EXPECT_NE(message.find(reason), std::string::npos) << message;
    EXPECT_EQ(bytes_of_file(path), "what was there");
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
  };
  fails([](WriteCalls& calls) { calls.write = write_no_space; }, "No space left");
  fails([](WriteCalls& calls) { calls.fsync = fsync_fails; }, "Input/output error");
  fails([](WriteCalls& calls) { calls.rename = rename_fails; }, "Permission denied");
}

TEST(GgufWriter, AThrowingSourceLeavesNothing) {
  const TemporaryFolder folder;
  GgufTensorSource source = counting("w", Storage::int8, {9});
  source.fill = [](std::int64_t, std::span<std::byte>) { throw Error(ErrorCode::io, "no more rows"); };
  EXPECT_EQ(refusal([&] { write_gguf(folder / "m.gguf", {}, {source}); }, ErrorCode::io), "no more rows");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

// Nobody can tidy up behind SIGKILL, a power cut or the system's shortage of memory.
TEST(GgufWriter, AKilledWriterLeavesNothing) {
  const TemporaryFolder folder;
  const std::string path = folder.put("m.gguf", "what was there");
  const int probe = ::open(folder.path().c_str(), O_WRONLY | O_TMPFILE, 0666);
  if (probe < 0) GTEST_SKIP() << "this file system has no files without a name";
  ::close(probe);
  const pid_t child = fork();
  if (child == 0) {
    GgufTensorSource source =
        counting("w", Storage::int8, {64, 1024 * 1024});  // of which a part is on the disk by then
    source.fill = [](std::int64_t first, std::span<std::byte>) {
      if (first >= 32) raise(SIGKILL);
    };
    write_gguf(path, {}, {source});
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  EXPECT_EQ(bytes_of_file(path), "what was there");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

constexpr int kSkipped = 77;

/// The exit status of a process that writes 1 MiB to a disk of 128 KiB: 0 where all went as it should.
int write_to_full_disk(const std::string& folder) {
  const int flags = CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER);
  if (unshare(flags) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return kSkipped;
  if (mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=128k") != 0) return kSkipped;
  try {
    write_gguf(folder + "/m.gguf", {}, {counting("w", Storage::int8, {1024, 1024})});
  } catch (const Error& error) {
    const bool told = std::string(error.what()).find("No space left") != std::string::npos;
    return told && error.code() == ErrorCode::io && std::filesystem::is_empty(folder) ? 0 : 1;
  }
  return 2;
}

TEST(GgufWriter, ARealFullDiskIsToldAndLeavesNothing) {
  const TemporaryFolder folder;
  const pid_t child = fork();
  if (child == 0) _exit(write_to_full_disk(folder.path()));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == kSkipped) GTEST_SKIP() << "this user may not mount a file system here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace tilewise::io
