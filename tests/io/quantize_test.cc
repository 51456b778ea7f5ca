// Blocks against their definition, element by element, from bits to a value; and int8 against its own error bound.
#include "io/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "core/half.h"
#include "io/dequantize.h"
#include "io/gguf.h"
#include "tests/io/temporary.h"
#include "tests/refusal.h"

namespace tilewise::io {
namespace {

using Block = std::vector<unsigned char>;

/// `count` bits from bit `first` on, byte 0's lowest bit being bit 0.
int bits(const Block& block, int first, int count) {
  int value = 0;
  for (int i = 0; i < count; ++i) value |= (block[(first + i) / 8] >> ((first + i) % 8) & 1) << i;
  return value;
}

float half(const Block& block, int byte) {
  return static_cast<float>(Float16::from_bits(static_cast<std::uint16_t>(bits(block, 8 * byte, 16))));
}

/// The four low bits of element i of a block of 32 whose pairs begin at a byte.
int nibble(const Block& block, int byte, int i) { return bits(block, 8 * (byte + i % 16) + (i < 16 ? 0 : 4), 4); }

/// The six bits of scale (or minimum) `g` of the 12 packed bytes at byte 4.
int packed6(const Block& block, int g, bool minimum) {
  if (g < 4) return bits(block, 8 * (4 + g + (minimum ? 4 : 0)), 6);
  const int low = bits(block, 8 * (12 + g - 4) + (minimum ? 4 : 0), 4);
  return low | bits(block, 8 * (4 + (g - 4) + (minimum ? 4 : 0)) + 6, 2) << 4;
}

float k_value(const Block& block, int i, int quant) {
  const int g = i / 32;
  const float step = half(block, 0) * static_cast<float>(packed6(block, g, false));
  return step * static_cast<float>(quant) - half(block, 2) * static_cast<float>(packed6(block, g, true));
}

float q6_k_value(const Block& block, int i) {
  const int run = i / 32, at = i % 32, part = run / 4, in_half = run % 4;
  const int low = bits(block, 8 * (64 * part + 32 * (in_half % 2) + at) + (in_half < 2 ? 0 : 4), 4);
  const int high = bits(block, 8 * (128 + 32 * part + at) + 2 * in_half, 2);
  const auto scale = static_cast<signed char>(block[static_cast<std::size_t>(192 + i / 16)]);
  return half(block, 208) * static_cast<float>(scale) * static_cast<float>((low | high << 4) - 32);
}

float definition(Storage storage, const Block& block, int i) {
  const auto scaled = [&](int quant) { return static_cast<float>(quant) * half(block, 0); };
  switch (storage) {
    case Storage::q4_0: return scaled(nibble(block, 2, i) - 8);
    case Storage::q4_1: return scaled(nibble(block, 4, i)) + half(block, 2);
    case Storage::q5_0: return scaled((nibble(block, 6, i) | bits(block, 16 + i, 1) << 4) - 16);
    case Storage::q5_1: return scaled(nibble(block, 8, i) | bits(block, 32 + i, 1) << 4) + half(block, 2);
    case Storage::q8_0: return scaled(static_cast<signed char>(block[static_cast<std::size_t>(2 + i)]));
    case Storage::q4_k: return k_value(block, i, bits(block, 8 * (16 + i / 64 * 32 + i % 32) + i / 32 % 2 * 4, 4));
    case Storage::q5_k:
      return k_value(block, i,
                     bits(block, 8 * (48 + i / 64 * 32 + i % 32) + i / 32 % 2 * 4, 4) |
                         bits(block, 8 * (16 + i % 32) + i / 32, 1) << 4);
    default: return q6_k_value(block, i);
  }
}

class Blocks : public ::testing::TestWithParam<Storage> {};

TEST_P(Blocks, ReadAsTheirDefinition) {
  const StorageInfo& type = info(GetParam());
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    Block block(static_cast<std::size_t>(type.block_bytes));
    for (unsigned char& byte : block) byte = static_cast<unsigned char>(random());
    std::vector<float> read(static_cast<std::size_t>(type.block_elements));
    dequantize(GetParam(), reinterpret_cast<const std::byte*>(block.data()), type.block_elements, read.data());
    for (int i = 0; i < static_cast<int>(read.size()); ++i) {
      const float expected = definition(GetParam(), block, i);
      const float value = read[static_cast<std::size_t>(i)];
      // Random scales may be infinite or NaN.
      ASSERT_TRUE(value == expected || (std::isnan(value) && std::isnan(expected)))
          << type.name << " element " << i << ": " << value << ", expected " << expected;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Storage, Blocks,
                         ::testing::Values(Storage::q4_0, Storage::q4_1, Storage::q5_0, Storage::q5_1, Storage::q8_0,
                                           Storage::q4_k, Storage::q5_k, Storage::q6_k),
                         [](const auto& test) { return io::info(test.param).name; });

// A file that another implementation wrote, and what it reads in it (data/, written by make_references.py).
TEST(Dequantize, ReadsEveryTypeAsAnotherImplementationDoes) {
  const std::string data = TILEWISE_IO_DATA;
  const GgufFile file(data + "/every_type.gguf");
  const std::string stored = bytes_of_file(data + "/every_type.f32");
  std::vector<float> expected(stored.size() / sizeof(float));
  std::memcpy(expected.data(), stored.data(), stored.size());
  std::vector<std::string> names;
  constexpr std::int64_t kRows = 3, kColumns = 256;
  ASSERT_EQ(expected.size(), file.tensors().size() * kRows * kColumns);
  const float* place = expected.data();
  for (const FileTensor& tensor : file.tensors()) {
    ASSERT_EQ(tensor.shape, (std::vector<std::int64_t>{kRows, kColumns}));
    names.emplace_back(tensor.name);
    for (std::int64_t row = 0; row < kRows; ++row) {
      std::vector<float> read(kColumns);
      read_rows(tensor, row, 1, read.data());
      for (const float value : read) ASSERT_EQ(value, *place++) << tensor.name << ", row " << row;
    }
  }
  EXPECT_EQ(names, (std::vector<std::string>{"F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K",
                                             "Q5_K", "Q6_K"}));
}

TEST(Dequantize, RefusesPartsOfBlocksIntegersAndRowsThatAreNotThere) {
  std::vector<std::byte> stored(64);
  std::vector<float> out(64);
  expect_refused([&] { dequantize(Storage::q8_0, stored.data(), 33, out.data()); }, {"33", "multiple of 32"});
  EXPECT_NE(refusal([&] { dequantize(Storage::int32, stored.data(), 1, out.data()); }, ErrorCode::unsupported), "");
  const FileTensor tensor{"w", Storage::float32, {2, 4}, 0, std::span(stored).first(32)};
  expect_refused([&] { read_rows(tensor, 1, 2, out.data()); }, {"rows [1, 1 + 2)", "it has 2"});
  expect_refused([&] { read_rows(tensor, -1, 1, out.data()); }, {"-1"});
}

TEST(QuantizeQ8, StaysWithinHalfAStep) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (const float magnitude : {1e-4F, 1.0F, 1e6F}) {
    std::vector<float> values(32 * 100), read(values.size());
    for (float& value : values) value = normal(random) * magnitude;
    std::vector<std::byte> stored(34 * 100);
    const auto count = static_cast<std::int64_t>(values.size());
    quantize_q8_0(values.data(), count, stored.data(), "w");
    dequantize(Storage::q8_0, stored.data(), count, read.data());
    for (std::size_t i = 0; i < values.size(); ++i) {
      float largest = 0;
      for (std::size_t j = i / 32 * 32; j < i / 32 * 32 + 32; ++j) largest = std::max(largest, std::abs(values[j]));
      const float step = largest / 127;
      // Half a step by rounding, and float16's own rounding of the scale: 2^-11 of the value, or half its subnormal
      // unit.
      const float bound = 0.5F * step * 1.0001F + std::abs(values[i]) * 0x1p-11F + 127 * 0x1p-25F;
      EXPECT_LE(std::abs(read[i] - values[i]), bound);
    }
  }
}

TEST(QuantizeQ8, RoundsAsGgmlDoes) {
  // Scale 1: halves go away from zero.
  std::vector<float> values(32, 0.0F);
  values[0] = 127.0F, values[1] = 0.5F, values[2] = -1.5F, values[3] = 2.4F;
  std::vector<std::byte> stored(34);
  quantize_q8_0(values.data(), 32, stored.data(), "w");
  EXPECT_EQ(static_cast<signed char>(stored[2]), 127);
  EXPECT_EQ(static_cast<signed char>(stored[3]), 1);
  EXPECT_EQ(static_cast<signed char>(stored[4]), -2);
  EXPECT_EQ(static_cast<signed char>(stored[5]), 2);
}

TEST(QuantizeQ8, ZerosAndSubnormalsStayFinite) {
  std::vector<float> values(32, 0.0F), read(32);
  std::vector<std::byte> stored(34);
  for (const float value : {0.0F, std::numeric_limits<float>::denorm_min(), 1e-39F}) {
    values[7] = value;
    quantize_q8_0(values.data(), 32, stored.data(), "w");
    dequantize(Storage::q8_0, stored.data(), 32, read.data());
    for (const float back : read) EXPECT_LE(std::abs(back), 1e-6F);
  }
}

TEST(QuantizeQ8, RefusesWhatCouldNotBeReadBack) {
  std::vector<float> values(32, 0.0F);
  std::vector<std::byte> stored(34);
  for (const float value : {std::nanf(""), INFINITY, 9e6F}) {
    values[5] = value;
    expect_refused([&] { quantize_q8_0(values.data(), 32, stored.data(), "blk.0.w"); }, {"blk.0.w", "finite values"});
  }
  expect_refused([&] { quantize_q8_0(values.data(), 31, stored.data(), "w"); }, {"31", "multiples of 32"});
}

}  // namespace
}  // namespace tilewise::io
