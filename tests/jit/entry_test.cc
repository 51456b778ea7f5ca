#include "jit/entry.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/jit/support.h"

namespace tilewise::jit {
namespace {

const Key& key() {
  static const Key kKey = key_of(small_program());
  return kKey;
}

TEST(Entry, GivesBackWhatItWasGiven) {
  Binary binary = made_up_binary(std::string("\0code\n\xff", 7));
  EXPECT_EQ(decode_entry(key(), encode_entry(key(), binary)).binary, binary);
  EXPECT_EQ(decode_entry(key(), encode_entry(key(), Binary())).binary, Binary());
}

TEST(Entry, EveryTruncationIsFound) {
  const std::string bytes = encode_entry(key(), made_up_binary("code"));
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const DecodedEntry entry = decode_entry(key(), std::string_view(bytes).substr(0, size));
    EXPECT_FALSE(entry.binary) << size;
    EXPECT_NE(entry.problem, "") << size;
  }
}

TEST(Entry, EveryChangedBitIsFound) {
  const std::string bytes = encode_entry(key(), made_up_binary("code"));
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string changed = bytes;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(decode_entry(key(), changed).binary) << bit;
  }
}

TEST(Entry, BytesAfterItsEndAreFound) {
  EXPECT_FALSE(decode_entry(key(), encode_entry(key(), made_up_binary("code")) + "x").binary);
}

TEST(Entry, AnotherProgramsEntryIsNotTaken) {
  const DecodedEntry entry = decode_entry(key_of(small_program("other")), encode_entry(key(), made_up_binary("code")));
  EXPECT_FALSE(entry.binary);
  EXPECT_NE(entry.problem.find("another program"), std::string::npos) << entry.problem;
}

TEST(Entry, AnotherFormatIsNotTaken) {
  std::string bytes = encode_entry(key(), made_up_binary("code"));
  ++bytes[8];  // the format stands after the magic word
  EXPECT_NE(decode_entry(key(), bytes).problem.find("format"), std::string::npos);
}

RC_GTEST_PROP(EntryLaw, AnyBytesAreRefusedWithAReason, (const std::string& bytes)) {
  for (const std::string& candidate :
       {bytes, "TILEWISE" + bytes, encode_entry(key(), Binary()).substr(0, 30) + bytes}) {
    const DecodedEntry entry = decode_entry(key(), candidate);
    RC_ASSERT(!entry.binary);
    RC_ASSERT(!entry.problem.empty());
  }
}

}  // namespace
}  // namespace tilewise::jit
