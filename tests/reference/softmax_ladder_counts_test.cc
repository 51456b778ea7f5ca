// What each step of the ladder counts, against formulas derived by hand from its mathematics.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "tilewise/softmax_ladder.h"

namespace tilewise {
namespace {

struct Shape {
  std::int64_t s_q, s_kv, d_qk, d_v, chunk, fast_memory;
};

// Odd sizes, chunks that divide the keys and chunks that do not, one larger than the keys, one tile of all queries and
// several, and single rows.
constexpr auto kShapes = std::to_array<Shape>({
    {7, 13, 5, 3, 4, 1024},
    {16, 32, 8, 8, 8, 2048},
    {1, 1, 1, 1, 1, 1024},
    {33, 65, 16, 4, 100, 16384},
    {20, 50, 4, 6, 5, 1000},
    {64, 64, 32, 32, 16, 65536},
    {5, 9, 2, 0, 3, 4096},
    {0, 9, 2, 2, 3, 4096},
});

std::int64_t ceiling(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

LadderCounts counted(LadderStep step, const Shape& shape) {
  const LadderInputs inputs = random_ladder_inputs(shape.s_q, shape.s_kv, shape.d_qk, shape.d_v, 1, 7);
  return run_ladder_step(step, inputs.problem(), {.fast_memory = shape.fast_memory, .chunk = shape.chunk}).counts;
}

/// Compares a step's counts with what `formula(shape)` gives in elements; both memory figures are times 4 bytes.
template <class Formula>
void expect_counts(LadderStep step, Formula formula) {
  for (const Shape& shape : kShapes) {
    LadderCounts expected = formula(shape);
    expected.bytes_written = shape.s_q * shape.d_v;  // every step writes o once
    if (shape.s_q == 0) expected.extra_bytes = 0;    // no loop is entered
    for (std::int64_t* elements : {&expected.bytes_read, &expected.bytes_written, &expected.extra_bytes})
      *elements *= 4;
    const LadderCounts counts = counted(step, shape);
    SCOPED_TRACE(testing::Message() << "s_q " << shape.s_q << ", s_kv " << shape.s_kv << ", chunk " << shape.chunk);
    EXPECT_EQ(counts.bytes_read, expected.bytes_read);
    EXPECT_EQ(counts.bytes_written, expected.bytes_written);
    EXPECT_EQ(counts.multiply_adds, expected.multiply_adds);
    EXPECT_EQ(counts.exponentials, expected.exponentials);
    EXPECT_EQ(counts.extra_bytes, expected.extra_bytes);
    EXPECT_LE(counts.extra_bytes, shape.fast_memory);
  }
}

TEST(SoftmaxLadderCounts, PlainSums) {
  // A query: its row; for each key its rows of k and v, d_qk products for the score and d_v for the weighted values,
  // one exponential; d_v divisions. Held: q_i, k_j, v_j, and maximum, denominator, numerator.
  expect_counts(LadderStep::plain_sums, [](const Shape& s) {
    return LadderCounts{.bytes_read = s.s_q * (s.d_qk + s.s_kv * (s.d_qk + s.d_v)),
                        .multiply_adds = s.s_q * (s.s_kv * (s.d_qk + s.d_v) + s.d_v),
                        .exponentials = s.s_q * s.s_kv,
                        .extra_bytes = 2 * s.d_qk + 2 * s.d_v + 2};
  });
}

TEST(SoftmaxLadderCounts, MaximumFirst) {
  // As plain_sums, with k read and the scores computed once more.
  expect_counts(LadderStep::maximum_first, [](const Shape& s) {
    return LadderCounts{.bytes_read = s.s_q * (s.d_qk + s.s_kv * (2 * s.d_qk + s.d_v)),
                        .multiply_adds = s.s_q * (s.s_kv * (2 * s.d_qk + s.d_v) + s.d_v),
                        .exponentials = s.s_q * s.s_kv,
                        .extra_bytes = 2 * s.d_qk + 2 * s.d_v + 2};
  });
}

TEST(SoftmaxLadderCounts, Online) {
  // As plain_sums, with one more exponential and 1 + d_v more products a key, which rescale the sums.
  expect_counts(LadderStep::online, [](const Shape& s) {
    return LadderCounts{.bytes_read = s.s_q * (s.d_qk + s.s_kv * (s.d_qk + s.d_v)),
                        .multiply_adds = s.s_q * (s.s_kv * (s.d_qk + s.d_v + 1 + s.d_v) + s.d_v),
                        .exponentials = s.s_q * 2 * s.s_kv,
                        .extra_bytes = 2 * s.d_qk + 2 * s.d_v + 2};
  });
}

TEST(SoftmaxLadderCounts, Chunks) {
  // As plain_sums, with two exponentials and 2 (1 + d_v) products a chunk, which merge it. Held: q_i, a chunk of k and
  // v and its scores, and two sets of statistics.
  expect_counts(LadderStep::chunks, [](const Shape& s) {
    const std::int64_t chunks = ceiling(s.s_kv, s.chunk), keys = std::min(s.chunk, s.s_kv);
    return LadderCounts{.bytes_read = s.s_q * (s.d_qk + s.s_kv * (s.d_qk + s.d_v)),
                        .multiply_adds = s.s_q * (s.s_kv * (s.d_qk + s.d_v) + chunks * 2 * (1 + s.d_v) + s.d_v),
                        .exponentials = s.s_q * (s.s_kv + 2 * chunks),
                        .extra_bytes = s.d_qk + keys * (s.d_qk + s.d_v) + keys + 2 * (2 + s.d_v)};
  });
}

TEST(SoftmaxLadderCounts, Tiled) {
  // Arithmetic as chunks. Of q, d_qk + 2 + d_v numbers a query stay in fast memory beside one chunk with its scores and
  // statistics, so `rows` queries fit together and k and v are read once for each such tile, of which there are
  // ceil(s_q / rows).
  expect_counts(LadderStep::tiled, [](const Shape& s) {
    const std::int64_t chunks = ceiling(s.s_kv, s.chunk), keys = std::min(s.chunk, s.s_kv);
    const std::int64_t shared = keys * (s.d_qk + s.d_v) + keys + 2 + s.d_v;
    const std::int64_t rows = std::min(s.s_q, (s.fast_memory / 4 - shared) / (s.d_qk + 2 + s.d_v));
    const std::int64_t tiles = s.s_q == 0 ? 0 : ceiling(s.s_q, rows);
    return LadderCounts{.bytes_read = s.s_q * s.d_qk + tiles * s.s_kv * (s.d_qk + s.d_v),
                        .multiply_adds = s.s_q * (s.s_kv * (s.d_qk + s.d_v) + chunks * 2 * (1 + s.d_v) + s.d_v),
                        .exponentials = s.s_q * (s.s_kv + 2 * chunks),
                        .extra_bytes = rows * (s.d_qk + 2 + s.d_v) + shared};
  });
}

TEST(SoftmaxLadderCounts, TiledTrafficFollowsTheLaw) {
  // With d = d_qk = d_v and M in elements, at most M / 2d queries fit, so reads are at least
  // s_q s_kv 2d / (M / 2d) = 4 s_q s_kv d^2 / M elements. They exceed that by the statistics' 2 numbers beside 2d (1/8
  // here), the 3d + 3 numbers of a one-key chunk (at most 6% of M), a last tile that is not full (at most 5 tiles for
  // 4.5) and q itself (at most a tenth of the keys and values): 1.125 * 1.06 * 1.11 * 1.1 is below 1.5.
  constexpr std::int64_t kLength = 1024, kDimension = 8;
  const LadderInputs inputs = random_ladder_inputs(kLength, kLength, kDimension, kDimension, 1, 3);
  for (std::int64_t elements : {512, 1024, 2048, 4096}) {
    const LadderOptions options{.fast_memory = 4 * elements, .chunk = 1};
    const std::int64_t read = run_ladder_step(LadderStep::tiled, inputs.problem(), options).counts.bytes_read / 4;
    const std::int64_t law = 4 * kLength * kLength * kDimension * kDimension / elements;
    EXPECT_GE(read, law) << elements;
    EXPECT_LE(2 * read, 3 * law) << elements;
  }
}

TEST(SoftmaxLadderCounts, NoKeysOnlyWriteZeros) {
  const LadderInputs inputs = random_ladder_inputs(3, 0, 4, 5, 1, 7);
  for (const LadderResult& result : run_ladder(inputs.problem())) {
    EXPECT_EQ(result.o, std::vector<float>(15, 0.0f));
    EXPECT_EQ(result.largest_error, 0);
    EXPECT_EQ(result.counts, (LadderCounts{.bytes_written = 4 * 15, .extra_bytes = 4 * 5}));
  }
}

}  // namespace
}  // namespace tilewise
