// GGUF files put together byte by byte: what is read, and what is refused.
#include "io/gguf.h"

#include <gtest/gtest.h>

#include "tests/io/temporary.h"
#include "tests/refusal.h"

namespace tilewise::io {
namespace {

constexpr std::uint32_t kUint32 = 4, kFloat32 = 6, kBool = 7, kString = 8, kArray = 9, kInt8 = 1, kUint64 = 10;
constexpr std::uint32_t kF32 = 0, kQ8 = 8;

Bytes header(std::uint64_t tensors, std::uint64_t settings, std::uint32_t version = 3) {
  return Bytes().raw("GGUF").u32(version).u64(tensors).u64(settings);
}

Bytes& tensor(Bytes& file, std::string_view name, std::initializer_list<std::uint64_t> extents, std::uint32_t type,
              std::uint64_t offset) {
  file.text(name).u32(static_cast<std::uint32_t>(extents.size()));
  for (const std::uint64_t extent : extents) file.u64(extent);
  return file.u32(type).u64(offset);
}

/// A file of one float32 tensor "w" of 2 rows of 3 and one setting.
std::string small_file() {
  Bytes file = header(1, 1);
  file.text("a.b").u32(kUint32).u32(7);
  tensor(file, "w", {3, 2}, kF32, 0).pad(32);
  for (int i = 0; i < 6; ++i) file.add(static_cast<float>(i));
  return file.bytes();
}

GgufFile open(const TemporaryFolder& folder, const std::string& bytes) { return GgufFile(folder.put("m.gguf", bytes)); }

TEST(Gguf, ReadsSettingsOfEveryType) {
  const TemporaryFolder folder;
  Bytes file = header(0, 7);
  file.text("u").u32(kUint32).u32(7).text("i").u32(kInt8).add(std::int8_t{-3});
  file.text("f").u32(kFloat32).add(0.5F).text("b").u32(kBool).add(std::uint8_t{1});
  file.text("s").u32(kString).text("hello");
  file.text("ss").u32(kArray).u32(kString).u64(2).text("one").text("");
  file.text("us").u32(kArray).u32(kUint32).u64(2).u32(5).u32(6);
  const GgufFile read = open(folder, file.bytes());
  EXPECT_EQ(read.version(), 3u);
  EXPECT_EQ(read.integer("u", 0, 10), 7);
  EXPECT_EQ(read.integer("i", -5, 0), -3);
  EXPECT_EQ(read.real("f"), 0.5);
  EXPECT_TRUE(read.boolean("b"));
  EXPECT_EQ(read.string("s"), "hello");
  EXPECT_EQ(read.strings("ss"), (std::vector<std::string_view>{"one", ""}));
  EXPECT_EQ(read.integers("us"), (std::vector<std::int64_t>{5, 6}));
  EXPECT_EQ(read.integer_or("none", 0, 10, 4), 4);
  EXPECT_EQ(read.metadata().size(), 7u);
}

TEST(Gguf, ReadsTensorsWithTheContiguousAxisLast) {
  const TemporaryFolder folder;
  const GgufFile read = open(folder, small_file());
  const FileTensor& w = read.tensor("w");
  EXPECT_EQ(w.shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(w.rows(), 2);
  ASSERT_EQ(w.bytes.size(), 24u);
  EXPECT_EQ(w.offset % 32, 0u);
  float last = 0;
  std::memcpy(&last, w.bytes.data() + 20, 4);
  EXPECT_EQ(last, 5.0F);
}

TEST(Gguf, ReadsAnotherAlignment) {
  const TemporaryFolder folder;
  Bytes file = header(1, 1);
  file.text("general.alignment").u32(kUint32).u32(256);
  tensor(file, "w", {32}, kQ8, 0).pad(256).raw(std::string(34, '\1'));
  EXPECT_EQ(open(folder, file.bytes()).tensor("w").offset, 256u);
}

TEST(Gguf, RefusesSettingsOfOtherTypesAndRanges) {
  const TemporaryFolder folder;
  const GgufFile read = open(folder, small_file());
  const auto told = [&](auto call) { return refusal(call, ErrorCode::parse); };
  EXPECT_NE(told([&] { read.integer("a.b", 0, 6); }).find("'a.b' is 7; expected 0 to 6"), std::string::npos);
  EXPECT_NE(told([&] { read.string("a.b"); }).find("has type uint32; expected a string"), std::string::npos);
  EXPECT_NE(told([&] { read.real("c"); }).find("'c' is missing"), std::string::npos);
  EXPECT_NE(told([&] { read.tensor("v"); }).find("no tensor 'v'"), std::string::npos);
}

TEST(Gguf, EveryTruncationIsRefused) {
  const TemporaryFolder folder;
  const std::string whole = small_file();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::string message = refusal([&] { open(folder, whole.substr(0, size)); }, ErrorCode::parse);
    EXPECT_NE(message.find("m.gguf"), std::string::npos) << "cut to " << size << " bytes: " << message;
  }
}

struct Defect {
  const char* name;
  std::string bytes;
  std::string told;  // what the message says
  ErrorCode code = ErrorCode::parse;
};

std::vector<Defect> defects() {
  constexpr std::uint64_t kHuge = ~std::uint64_t{0};
  const auto one_tensor = [](std::initializer_list<std::uint64_t> extents, std::uint32_t type, std::uint64_t offset,
                             std::size_t data = 128) {
    Bytes file = header(1, 0);
    return tensor(file, "w", extents, type, offset).pad(32).raw(std::string(data, '\0')).bytes();
  };
  const auto two_tensors = [](const char* second, std::uint64_t offset) {
    Bytes file = header(2, 0);
    tensor(file, "w", {16}, kF32, 0);
    return tensor(file, second, {16}, kF32, offset).pad(32).raw(std::string(128, '\0')).bytes();
  };
  const auto setting = [](std::uint32_t type) { return header(0, 1).text("k").u32(type); };
  return {
      {"Magic", "GGML" + std::string(40, '\0'), "no GGUF file"},
      {"Version1", header(0, 0, 1).bytes(), "version 1", ErrorCode::unsupported},
      {"BigEndian", header(0, 0, 3u << 24).bytes(), "big-endian", ErrorCode::unsupported},
      {"ManyTensors", header(kHuge, 0).raw(std::string(100, '\0')).bytes(), "hold at most"},
      {"ManySettings", header(0, kHuge).raw(std::string(100, '\0')).bytes(), "hold at most"},
      {"LongKey", header(0, 1).u64(kHuge).raw(std::string(100, 'k')).bytes(), "past the end"},
      {"EmptyKey", header(0, 1).text("").u32(kUint32).u32(1).raw("xxxx").bytes(), "0 bytes; expected 1"},
      {"KeyTwice", header(0, 2).text("k").u32(kUint32).u32(1).text("k").u32(kUint32).u32(1).bytes(),
       "'k' appears twice"},
      {"UnknownType", setting(13).u64(0).bytes(), "type number 13"},
      {"BadBool", setting(kBool).add(std::uint8_t{2}).bytes(), "value 2"},
      {"BadBools", setting(kArray).u32(kBool).u64(1).add(std::uint8_t{2}).bytes(), "neither 0 nor 1"},
      {"LongString", setting(kString).u64(kHuge).bytes(), "past the end"},
      {"LongArray", setting(kArray).u32(kUint64).u64(kHuge / 8).bytes(), "elements of at least 8"},
      {"LongArrayOfStrings", setting(kArray).u32(kString).u64(kHuge / 8 + 2).bytes(), "elements of at least 8"},
      {"NestedArray", setting(kArray).u32(kArray).u64(1).u32(kUint32).u64(0).bytes(), "array of arrays"},
      {"AlignmentZero", header(0, 1).text("general.alignment").u32(kUint32).u32(0).bytes(), "is 0; expected 1"},
      {"AlignmentOdd", header(0, 1).text("general.alignment").u32(kUint32).u32(24).bytes(), "power of two"},
      {"FiveAxes", one_tensor({1, 1, 1, 1, 1}, kF32, 0), "has 5 axes"},
      {"NegativeExtent", one_tensor({kHuge}, kF32, 0), "negative"},
      {"Overflow", one_tensor({std::uint64_t{1} << 32, std::uint64_t{1} << 32}, kF32, 0), "exceeds 64 bits"},
      {"BytesOverflow", one_tensor({std::uint64_t{1} << 62}, kF32, 0), "fewer bytes than"},
      {"HalfABlock", one_tensor({16, 2}, kQ8, 0), "whole blocks of 32"},
      {"TypeNotSupported", one_tensor({256}, 10, 0), "Q2_K; supported are F32", ErrorCode::unsupported},
      {"TypeUnknown", one_tensor({256}, 4000, 0), "number 4000", ErrorCode::unsupported},
      {"Unaligned", one_tensor({1}, kF32, 4), "no multiple of the alignment"},
      {"PastTheEnd", one_tensor({64}, kF32, 0), "takes 256 bytes at offset 0 of the data, which has only 128"},
      {"FarOffset", one_tensor({1}, kF32, kHuge - 31), "truncated or damaged"},
      {"NameTwice", two_tensors("w", 64), "'w' appears twice"},
      {"Overlap", two_tensors("v", 32), "'w' and 'v' overlap"},
  };
}

class GgufDefects : public ::testing::TestWithParam<Defect> {};

TEST_P(GgufDefects, AreTold) {
  const TemporaryFolder folder;
  const std::string message = refusal([&] { open(folder, GetParam().bytes); }, GetParam().code);
  EXPECT_NE(message.find(GetParam().told), std::string::npos) << message;
  EXPECT_NE(message.find(folder / "m.gguf"), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(Gguf, GgufDefects, ::testing::ValuesIn(defects()),
                         [](const auto& test) { return test.param.name; });

TEST(Gguf, WhatIsNoFileIsAnIoError) {
  const TemporaryFolder folder;
  EXPECT_NE(refusal([&] { GgufFile(folder / "none"); }, ErrorCode::io).find("No such file"), std::string::npos);
  EXPECT_NE(refusal([&] { GgufFile(folder.path()); }, ErrorCode::io).find("not a regular file"), std::string::npos);
}

}  // namespace
}  // namespace tilewise::io
