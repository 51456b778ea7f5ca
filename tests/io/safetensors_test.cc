// safetensors files put together by hand: what is read, and what is refused.
#include "io/safetensors.h"

#include <gtest/gtest.h>

#include "io/dequantize.h"
#include "tests/io/temporary.h"
#include "tests/refusal.h"

namespace tilewise::io {
namespace {

std::string file_of(std::string_view header, std::size_t data_bytes) {
  return Bytes().text(header).raw(std::string(data_bytes, '\0')).bytes();
}

SafetensorsFile open(const TemporaryFolder& folder, const std::string& bytes) {
  return SafetensorsFile(folder.put("m.safetensors", bytes));
}

TEST(Safetensors, ReadsTensorsAndMetadata) {
  const TemporaryFolder folder;
  Bytes file;
  file.text(
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,1],"data_offsets":[8,12]},)"
      R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"none":{"dtype":"I64","shape":[0],"data_offsets":[8,8]}})");
  file.add(1.5F).add(-2.0F).add(std::uint16_t{0x3F80}).add(std::uint16_t{0xC000});
  const SafetensorsFile read = open(folder, file.bytes());
  ASSERT_EQ(read.metadata().size(), 1u);
  EXPECT_EQ(read.metadata()[0].second, "pt");
  EXPECT_EQ(read.tensors().size(), 3u);
  float a[2], b[2];
  read_rows(read.tensor("a"), 0, 1, a);
  read_rows(read.tensor("b"), 0, 2, b);
  EXPECT_EQ(a[0], 1.5F);
  EXPECT_EQ(a[1], -2.0F);
  EXPECT_EQ(b[0], 1.0F);
  EXPECT_EQ(b[1], -2.0F);
  EXPECT_EQ(read.find_tensor("c"), nullptr);
}

struct Defect {
  const char* name;
  std::string header;
  std::size_t data_bytes;
  std::string told;
  ErrorCode code = ErrorCode::parse;
};

std::vector<Defect> defects() {
  const auto a = [](const char* dtype, const char* shape, const char* offsets) {
    return std::string(R"({"a":{"dtype":")") + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  const std::string two = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],)";
  return {
      {"NoJson", "{\"a\":", 0, "malformed JSON"},
      {"NotAnObject", "[1]", 0, "expected an object"},
      {"NameTwice",
       R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
       1, "'a' appears twice"},
      {"Nested", std::string(100000, '['), 0, "nested deeper"},
      {"NoDtype", R"({"a":{"shape":[1],"data_offsets":[0,1]}})", 1, "'dtype' is missing"},
      {"OtherDtype", a("F8_E4M3", "[1]", "[0,1]"), 1, "supported are F64", ErrorCode::unsupported},
      {"DtypeIsNumber", R"({"a":{"dtype":1,"shape":[1],"data_offsets":[0,1]}})", 1, "a/dtype: is a JSON number"},
      {"NegativeExtent", a("U8", "[-1]", "[0,1]"), 1, "expected an integer from 0"},
      {"FractionalExtent", a("U8", "[1.5]", "[0,1]"), 1, "expected an integer"},
      {"HugeExtent", a("U8", "[18446744073709551615]", "[0,1]"), 1, "expected an integer"},
      {"Overflow", a("F32", "[4294967296,4294967296]", "[0,4]"), 4, "does not take the 4 bytes"},
      {"BytesOverflow", a("F32", "[4611686018427387905]", "[0,4]"), 4, "does not take the 4 bytes"},
      {"ManyAxes", a("U8", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "has 17 axes"},
      {"WrongBytes", a("F32", "[2]", "[0,4]"), 4, "does not take the 4 bytes"},
      {"OffsetsBackwards", a("U8", "[1]", "[1,0]"), 1, "expected an integer from 1"},
      {"OffsetsPastTheEnd", a("U8", "[2]", "[0,2]"), 1, "from 0 to 1"},
      {"ThreeOffsets", a("U8", "[1]", "[0,1,1]"), 1, "has 3 elements"},
      {"Overlap", two + R"("data_offsets":[3,7]}})", 7, "no gap and no overlap"},
      {"Gap", two + R"("data_offsets":[5,9]}})", 9, "no gap and no overlap"},
      {"BytesLeft", a("U8", "[1]", "[0,1]"), 2, "belong to none"},
      {"MetadataNumber", R"({"__metadata__":{"x":1}})", 0, "expected a string"},
  };
}

class SafetensorsDefects : public ::testing::TestWithParam<Defect> {};

TEST_P(SafetensorsDefects, AreTold) {
  const TemporaryFolder folder;
  const Defect& defect = GetParam();
  const std::string message = refusal([&] { open(folder, file_of(defect.header, defect.data_bytes)); }, defect.code);
  EXPECT_NE(message.find(defect.told), std::string::npos) << message;
  EXPECT_NE(message.find(folder / "m.safetensors"), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(Safetensors, SafetensorsDefects, ::testing::ValuesIn(defects()),
                         [](const auto& test) { return test.param.name; });

TEST(Safetensors, RefusesHeadersLongerThanTheFileOrTheFormat) {
  const TemporaryFolder folder;
  EXPECT_NE(refusal([&] { open(folder, "1234567"); }, ErrorCode::parse).find("past the end"), std::string::npos);
  const auto header_of = [&](std::uint64_t size) {
    return refusal([&] { open(folder, Bytes().u64(size).raw("{}").bytes()); }, ErrorCode::parse);
  };
  EXPECT_NE(header_of(3).find("past the end"), std::string::npos);
  EXPECT_NE(header_of(~std::uint64_t{0}).find("expected at most 100000000"), std::string::npos);
}

}  // namespace
}  // namespace tilewise::io
