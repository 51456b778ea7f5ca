// The order of keys in transposed values of float8_e4m3, and the kernel that makes it, on the processor.
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

#include "tests/cuda/emulated/intrinsics.h"

// A block's threads run one after the other, from one meeting to the next.
struct Index {
  unsigned x = 0, y = 0, z = 0;
};
static Index blockIdx, threadIdx;  // NOLINT: the names of CUDA
static void __syncthreads() {}     // NOLINT
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include "sm90/float8_values.h"
#pragma GCC diagnostic pop

namespace tilewise::cuda::sm90 {
namespace {

// PTX ISA, "Register Fragments" of wgmma: a thread t of a row's four has columns 2t and 2t + 1 of each 8 of a result;
// of a left operand of 8 bits places 4t to 4t + 3 of each 16.
TEST(Float8Values, AThreadsWeightsAreThoseOfItsPlaces) {
  for (int t = 0; t < 4; ++t) {
    std::multiset<int> of_result, of_operand;
    for (int block = 0; block < 2; ++block) {
      for (int e = 0; e < 2; ++e) of_result.insert(8 * block + 2 * t + e);
    }
    for (int place = 4 * t; place < 4 * t + 4; ++place) of_operand.insert(key_of_place(place));
    EXPECT_EQ(of_result, of_operand);
    // In the order in which float8_weights.h packs them: a block's two, then the next one's.
    for (int i = 0; i < 4; ++i) EXPECT_EQ(key_of_place(4 * t + i), 8 * (i / 2) + 2 * t + i % 2);
  }
}

TEST(Float8Values, BytesAreTransposed) {
  unsigned x[4] = {0x03020100, 0x13121110, 0x23222120, 0x33323130};
  transpose_bytes(x);
  const unsigned expected[4] = {0x30201000, 0x31211101, 0x32221202, 0x33231303};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(x[i], expected[i]);
}

/// All values of a sequence, block by block: place p of row c is key_of_place's key of column c.
template <int kHeadV>
void expect_transposed(bool is_packed) {
  using Values = Float8Values<kHeadV>;
  constexpr int kKeys = 300, kStart = 5, kHeads = 2, kBlocks = 3, kToken = 7;
  std::mt19937 random(3);
  std::vector<unsigned char> v((kToken + kKeys) * kHeads * kHeadV + 16), to(kHeads * kHeadV * kBlocks * kScaleBlock);
  for (unsigned char& code : v) code = static_cast<unsigned char>(random());
  const SequenceShape shape{.queries = 1,
                            .keys = kKeys,
                            .key_start = kStart,
                            .query_offset = 0,
                            .key_offset = 0,
                            .query_token = 0,
                            .key_token = kToken,
                            .padding = 0};
  ForwardArguments arguments{};
  arguments.v = {v.data(), 0, kHeadV, kHeads * kHeadV};
  arguments.keys_packed = is_packed;
  std::vector<unsigned> shared(Values::kSharedBytes / 4);
  const Values values{arguments, shared.data()};
  const long long row = kBlocks * kScaleBlock;
  for (int head = 0; head < kHeads; ++head) {
    for (int block = 0; block < kBlocks; ++block) {
      for (threadIdx.x = 0; threadIdx.x < Values::kThreads; ++threadIdx.x)
        values.load(shape, 0, head, block * kScaleBlock);
      for (threadIdx.x = 0; threadIdx.x < Values::kThreads; ++threadIdx.x)
        values.store(to.data() + head * kHeadV * row + block * kScaleBlock, row);
    }
    for (int column = 0; column < kHeadV; ++column) {
      for (int place = 0; place < row; ++place) {
        const int key = place / 16 * 16 + key_of_place(place % 16), token = key + (is_packed ? kToken : 0);
        const int code = v[static_cast<std::size_t>(((key < kKeys ? token : 0) * kHeads + head) * kHeadV + column)];
        ASSERT_EQ(to[static_cast<std::size_t>((head * kHeadV + column) * row + place)],
                  key >= kStart && key < kKeys ? code : 0)
            << "column " << column << ", place " << place;
      }
    }
  }
}

TEST(Float8Values, TheKernelTransposesWithZerosWhereNoKeyIs) {
  expect_transposed<16>(false);
  expect_transposed<48>(true);
  expect_transposed<128>(false);
  expect_transposed<256>(true);
}

}  // namespace
}  // namespace tilewise::cuda::sm90
