#include "core/dropout.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace tilewise {
namespace {

TEST(Dropout, BytesAreTheWordsOfPhiloxLittleEndian) {
  // The third Random123 vector: counter 243f6a88 85a308d3 13198a2e 03707344 under key a4093822 299f31d0 gives
  // d16cfe09 94fdcceb 5001e420 24126ea1.
  const auto bytes = dropout_bytes(0x299f31d0'a4093822, 0x03707344, 0x243f6a88, 0x85a308d3, 0x13198a2e);
  const std::array<std::uint8_t, 16> expected{0x09, 0xfe, 0x6c, 0xd1, 0xeb, 0xcc, 0xfd, 0x94,
                                              0x20, 0xe4, 0x01, 0x50, 0xa1, 0x6e, 0x12, 0x24};
  EXPECT_EQ(bytes, expected);
}

TEST(Dropout, EntryUsesItsByteOfItsBlock) {
  // Counter and key all zero: words 6627e8d5 e169c58d bc57ac4c 9b00dbd8, so byte 0 is d5 and byte 13 is db.
  Dropout dropout(1.0, 0, 0);
  for (const auto& [key_index, byte] : {std::pair{0, 0xd5u}, {13, 0xdbu}, {14, 0x00u}, {15, 0x9bu}}) {
    dropout.keep_below = byte;
    EXPECT_FALSE(dropout_keeps(dropout, key_index, 0, 0));
    dropout.keep_below = byte + 1;
    EXPECT_TRUE(dropout_keeps(dropout, key_index, 0, 0));
  }
}

TEST(Dropout, EachCoordinateMatters) {
  const auto base = dropout_bytes(1, 2, 3, 4, 5);
  EXPECT_NE(base, dropout_bytes(1 + (std::uint64_t{1} << 32), 2, 3, 4, 5));
  EXPECT_NE(base, dropout_bytes(2, 2, 3, 4, 5));
  EXPECT_NE(base, dropout_bytes(1, 3, 3, 4, 5));
  EXPECT_NE(base, dropout_bytes(1, 2, 4, 4, 5));
  EXPECT_NE(base, dropout_bytes(1, 2, 3, 5, 5));
  EXPECT_NE(base, dropout_bytes(1, 2, 3, 4, 6));
}

TEST(Dropout, ProbabilityIsQuantisedToNearest) {
  EXPECT_EQ(Dropout(0.0, 0, 0).keep_below, 0u);
  EXPECT_EQ(Dropout(1.0, 0, 0).keep_below, 256u);
  EXPECT_EQ(Dropout(0.9, 0, 0).keep_below, 230u);  // 230.4
  EXPECT_EQ(Dropout(0.5, 0, 0).keep_below, 128u);
  EXPECT_EQ(Dropout(1.0 / 512, 0, 0).keep_below, 1u);      // 0.5: halves go up
  EXPECT_EQ(Dropout(0.0019, 0, 0).keep_below, 0u);         // 0.4864
  EXPECT_EQ(Dropout(511.0 / 512, 0, 0).keep_below, 256u);  // 255.5
  EXPECT_EQ(Dropout(0.9, 0, 0).scale(), 256.0 / 230);
  EXPECT_EQ(Dropout(1.0, 0, 0).scale(), 1.0);
  EXPECT_EQ(Dropout(0.0, 0, 0).scale(), 0.0);
}

TEST(Dropout, ZeroDropsAllAndOneKeepsAll) {
  const Dropout none(0.0, 42, 7), all(1.0, 42, 7);
  for (int query = 0; query < 64; ++query) {
    for (int key = 0; key < 64; ++key) {
      EXPECT_FALSE(dropout_keeps(none, key, query, 3));
      EXPECT_TRUE(dropout_keeps(all, key, query, 3));
    }
  }
}

TEST(Dropout, KeptShareIsTheQuantisedProbability) {
  const Dropout dropout(0.75, 1234567890123, 1);
  constexpr int kQueries = 512, kKeys = 1000;
  double kept = 0;
  for (int query = 0; query < kQueries; ++query) {
    for (int key = 0; key < kKeys; ++key) kept += dropout_keeps(dropout, key, query, 0);
  }
  const double entries = double{kQueries} * kKeys;
  const double deviation = std::sqrt(0.75 * 0.25 / entries);  // of the mean of independent entries
  EXPECT_NEAR(kept / entries, 0.75, 5 * deviation);
}

TEST(Dropout, ProbabilityOutsideItsRangeIsRefused) {
  EXPECT_THROW(Dropout(-0.1, 0, 0), Error);
  EXPECT_THROW(Dropout(1.1, 0, 0), Error);
  EXPECT_THROW(Dropout(std::numeric_limits<double>::quiet_NaN(), 0, 0), Error);
}

}  // namespace
}  // namespace tilewise
