// The forward kernels of every instruction set that this machine has, against standard attention in float64.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "tests/cpu/each_isa.h"
#include "tests/cpu/problem.h"
#include "tests/cpu/standard.h"

namespace tilewise::cpu::testing {
namespace {

constexpr double kFactor = 2;  // forward may err twice as much as standard attention

class ForwardTest : public EachIsaTest {
 protected:
  void run(const Head& head, Matrix& o, std::vector<float>& lse, const DropoutHook& dropout = {}) const {
    run_forward(tested(), head, dropout, o, lse);
  }

  struct Comparisons {
    Comparison o, lse;
    void expect_close(DType dtype = DType::float32) const {
      o.expect_close("o", kFactor, epsilon_of(dtype));
      lse.expect_close("lse", kFactor, epsilon_of(DType::float32));
    }
  };

  void check(const Head& head, const DropoutHook& dropout = {}) const {
    Comparisons found;
    compare(head, dropout, &found);
    found.expect_close(head.dtype);
  }

  void compare(const Head& head, const DropoutHook& dropout, Comparisons* found) const {
    Matrix o(head.q->rows(), head.v->columns(), 3);
    std::vector<float> lse(static_cast<std::size_t>(head.q->rows()), kNaN);
    run(head, o, lse, dropout);
    const Forward exact = standard_forward<double>(head), standard = standard_forward<float>(head);
    found->o.add(
        exact.o, standard.o, [&](std::int64_t i) { return o.at(i / o.columns(), i % o.columns()); }, head.dtype);
    found->lse.add(exact.lse, standard.lse, [&](std::int64_t i) { return lse[static_cast<std::size_t>(i)]; });
    EXPECT_TRUE(o.surroundings_untouched());
  }
};

struct Inputs {
  Matrix q, k, v;
  DType operand;

  /// Rounded to `chosen`, the type of the kernel's operands.
  Inputs(DType chosen, const Sizes& sizes, std::uint64_t seed, float deviation = 1)
      : q(sizes.s_q, sizes.d_qk), k(sizes.s_kv, sizes.d_qk, 7), v(sizes.s_kv, sizes.d_v, 2), operand(chosen) {
    std::mt19937_64 random(seed);
    q.fill_normal(random, deviation);
    k.fill_normal(random, deviation);
    v.fill_normal(random);
    for (Matrix* matrix : {&q, &k, &v}) matrix->round_to(chosen);
  }
  Head head(const TestVariant& variant) const {
    return {&q, &k, &v, variant, 1 / std::sqrt(static_cast<double>(q.columns())), nullptr, {}, operand, operand};
  }
};

TEST_P(ForwardTest, AgreesWithStandardAttentionOverAwkwardShapes) {
  const std::vector<Sizes> shapes = {
      {1, 1, 1, 1},        {1, 1, 64, 64},    {2, 3, 5, 7},      {7, 13, 8, 8},     {24, 128, 64, 64},
      {23, 127, 64, 32},   {25, 129, 17, 9},  {31, 31, 40, 24},  {33, 257, 64, 64}, {97, 4, 128, 128},
      {1, 300, 64, 64},    {300, 1, 16, 80},  {131, 5, 3, 1},    {95, 96, 1, 33},   {385, 130, 24, 8},
      {383, 255, 192, 16}, {64, 64, 72, 200}, {64, 544, 64, 64}, {70, 576, 96, 48},
  };
  for (const Sizes& sizes : shapes) {
    for (const TestVariant& variant : every_kind(sizes)) {
      SCOPED_TRACE(::testing::Message() << variant << ' ' << sizes);
      Comparisons found;
      for (std::uint64_t seed = 0; seed < seeds(sizes.s_q * sizes.s_kv); ++seed) {
        const Inputs inputs(operand(), sizes, seed);
        compare(inputs.head(variant), {}, &found);
      }
      found.expect_close();
    }
  }
}

TEST_P(ForwardTest, TakesSixteenBitInputs) {
  for (const DType dtype : {DType::bfloat16, DType::float16}) {
    if (operand() != DType::float32 && operand() != dtype) continue;  // plans give such kernels nothing else
    for (const Sizes& sizes : {Sizes{97, 300, 64, 64}, Sizes{30, 131, 17, 9}, Sizes{200, 129, 40, 72}}) {
      SCOPED_TRACE(::testing::Message() << static_cast<int>(dtype) << " d_qk " << sizes.d_qk);
      Inputs inputs(operand(), sizes, 9);
      for (Matrix* matrix : {&inputs.q, &inputs.k, &inputs.v}) matrix->round_to(dtype);
      for (const TestVariant& variant : {full(), causal(100), softcapped(scattered())}) {
        Head head = inputs.head(variant);
        head.dtype = dtype;
        check(head);
      }
    }
  }
}

TEST_P(ForwardTest, NoKeysGiveZeroAndMinusInfinity) {
  const Inputs inputs(operand(), {37, 0, 16, 24}, 1);
  Matrix o(37, 24);
  std::vector<float> lse(37, kNaN);
  run(inputs.head(full()), o, lse);
  for (std::int64_t row = 0; row < 37; ++row) {
    EXPECT_EQ(lse[static_cast<std::size_t>(row)], -kInfinity);
    for (std::int64_t i = 0; i < 24; ++i) EXPECT_EQ(o.at(row, i), 0);
  }
}

TEST_P(ForwardTest, NoQueriesWriteNothing) {
  const Inputs inputs(operand(), {0, 9, 16, 24}, 1);
  Matrix o(0, 24);
  std::vector<float> lse;
  run(inputs.head(full()), o, lse);
  EXPECT_TRUE(o.surroundings_untouched());
}

TEST_P(ForwardTest, LargeScoresNeitherOverflowNorLoseRows) {
  for (const float deviation : {4.0f, 12.0f}) {
    const Inputs inputs(operand(), {70, 400, 64, 64}, 2, deviation);
    SCOPED_TRACE(deviation);
    check(inputs.head(full()));
    check(inputs.head(causal(330)));
  }
}

TEST_P(ForwardTest, ScoresThatGrowWithTheKeyRescale) {
  Inputs inputs(operand(), {50, 700, 8, 16}, 3);
  for (std::int64_t key = 0; key < 700; ++key) {
    for (std::int64_t i = 0; i < 8; ++i)
      inputs.k.at(key, i) = static_cast<float>(key) * 0.02f * (i % 2 == 0 ? 1.f : -1.f);
  }
  inputs.k.round_to(operand());
  check(inputs.head(full()));
  check(inputs.head(softcapped(full())));
}

TEST_P(ForwardTest, NegativeAndZeroScales) {
  const Inputs inputs(operand(), {40, 200, 32, 32}, 4);
  for (const double scale : {-0.3, 0.0}) {
    Head head = inputs.head(causal(160));
    head.scale = scale;
    check(head);
  }
}

TEST_P(ForwardTest, SinksJoinTheDenominatorOnly) {
  const Inputs inputs(operand(), {60, 200, 32, 32}, 5);
  for (const float sink : {-200.0f, -3.0f, 0.5f, 40.0f, 300.0f, -kInfinity}) {
    SCOPED_TRACE(sink);
    Head head = inputs.head(scattered());
    head.sink = &sink;
    check(head);
  }
}

TEST_P(ForwardTest, DropoutMultipliesWeightsAndLeavesLseAlone) {
  const Inputs inputs(operand(), {61, 333, 32, 48}, 6);
  Head head = inputs.head(causal(272));
  static const auto factor = [](std::int64_t query, std::int64_t key) {
    return (static_cast<std::uint64_t>(query * 31 + key) * 0x9e3779b97f4a7c15u >> 62) == 0 ? 0.0 : 1 / 0.75;
  };
  head.dropout = factor;
  const auto apply = [](const void*, const ScoreBlock& block) {
    for (int key = 0; key < block.keys; ++key) {
      for (int query = 0; query < block.queries; ++query) {
        block.values[key * block.stride + query] *=
            static_cast<float>(factor(block.query_begin + query, block.key_begin + key));
      }
    }
  };
  check(head, {apply, nullptr});
}

TEST_P(ForwardTest, ScoresOfTheLowestFiniteMagnitudeStillAverage) {
  // A finite mask of -2^126 on whole rows leaves all their weights equal.
  const Inputs inputs(operand(), {30, 100, 16, 16}, 7);
  const Kernels& kernels = tested();
  const Shape shape{30, 100, 16, 16};
  Workspace workspace(kernels.forward_floats(shape));
  Matrix o(30, 16);
  ForwardTask task;
  task.shape = shape;
  task.query_end = 30;
  task.q = inputs.q.view();
  task.k.rows = inputs.k.view();
  task.v.rows = inputs.v.view();
  task.o = o.mutable_view();
  task.score.apply = [](const void*, const ScoreBlock& block) {
    for (std::int64_t i = 0; i < block.keys * block.stride; ++i) block.values[i] = -0x1p126f;
  };
  task.workspace = workspace.data();
  kernels.forward(task);
  for (std::int64_t i = 0; i < 16; ++i) {
    double mean = 0;
    for (std::int64_t key = 0; key < 100; ++key) mean += static_cast<double>(inputs.v.at(key, i)) / 100;
    EXPECT_NEAR(o.at(0, i), mean, 1e-6);
  }
}

TEST_P(ForwardTest, SubnormalQueriesCount) {
  if (operand() != DType::float32) GTEST_SKIP() << "products of bfloat16 read subnormal numbers as zero";
  const Sizes sizes{70, 150, 64, 32};
  Inputs inputs(operand(), sizes, 12);
  for (std::int64_t i = 0; i < sizes.s_q; ++i) {
    for (int j = 0; j < sizes.d_qk; ++j) inputs.q.at(i, j) *= 0x1p-130f;
  }
  for (std::int64_t i = 0; i < sizes.s_kv; ++i) {
    for (int j = 0; j < sizes.d_qk; ++j) inputs.k.at(i, j) *= 0x1p124f;
  }
  Head head = inputs.head(full());
  head.scale = 16;
  check(head);
}

TEST_P(ForwardTest, NonFiniteKeysReachOnlyRowsThatKeepThem) {
  Inputs inputs(operand(), {100, 200, 16, 16}, 8);
  for (std::int64_t i = 0; i < 16; ++i) inputs.k.at(150, i) = kNaN;
  Matrix o(100, 16);
  std::vector<float> lse(100, kNaN);
  run(inputs.head(causal(80)), o, lse);
  for (std::int64_t row = 0; row < 100; ++row) {
    const bool keeps = row + 80 >= 150;
    EXPECT_EQ(std::isnan(lse[static_cast<std::size_t>(row)]), keeps) << row;
    EXPECT_EQ(std::isnan(o.at(row, 3)), keeps) << row;
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, ForwardTest, ::testing::ValuesIn(kEachIsa), name_of);

}  // namespace
}  // namespace tilewise::cpu::testing
