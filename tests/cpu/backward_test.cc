// The backward kernels of every instruction set that this machine has, against gradients of standard attention in
// float64.
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

constexpr double kFactor = 3;  // gradients may err three times as much as standard attention's

/// Query heads that share k and v, with what a backward pass is given.
struct Problem {
  Sizes sizes;
  TestVariant variant;
  double scale;
  const float* sink = nullptr;
  std::function<double(std::int64_t, std::int64_t)> dropout;
  DropoutHook dropout_hook;
  bool with_d_lse = false;
  bool reads_rows = false;
  DType dtype, operand;
  std::vector<Matrix> q, o, d_o;  // [heads]
  std::vector<std::vector<float>> lse, d_lse, delta;
  Matrix k, v;

  /// Everything is rounded to `type`, the type of the kernel's operands.
  Problem(DType type, const Sizes& shape, const TestVariant& chosen, int heads, std::uint64_t seed, float deviation = 1)
      : sizes(shape),
        variant(chosen),
        scale(1 / std::sqrt(static_cast<double>(shape.d_qk))),
        k(shape.s_kv, shape.d_qk, 7),
        v(shape.s_kv, shape.d_v, 2) {
    operand = type;
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    k.fill_normal(random, deviation);
    v.fill_normal(random);
    for (int i = 0; i < heads; ++i) {
      q.emplace_back(shape.s_q, shape.d_qk).fill_normal(random, deviation);
      o.emplace_back(shape.s_q, shape.d_v, 9);
      d_o.emplace_back(shape.s_q, shape.d_v, 4).fill_normal(random);
      auto& gradient = d_lse.emplace_back();
      for (std::int64_t row = 0; row < shape.s_q; ++row) gradient.push_back(normal(random));
    }
    store_as(type);
  }

  Head head(std::size_t i) const { return {&q[i], &k, &v, variant, scale, sink, dropout, dtype, operand}; }

  /// To be called before anything else.
  void store_as(DType chosen) {
    dtype = chosen;
    for (Matrix* matrix : {&k, &v}) matrix->round_to(chosen);
    for (std::size_t i = 0; i < q.size(); ++i) {
      q[i].round_to(chosen);
      d_o[i].round_to(chosen);
    }
  }

  void forward(const Kernels& kernels) {
    for (std::size_t i = 0; i < q.size(); ++i) {
      auto& found = lse.emplace_back(static_cast<std::size_t>(sizes.s_q), kNaN);
      delta.push_back(found);
      run_forward(kernels, head(i), dropout_hook, o[i], found);
    }
  }
};

class BackwardTest : public EachIsaTest {
 protected:
  struct Result {
    std::vector<Matrix> q;  // [heads]
    Matrix k, v;
  };

  /// Keys in `splits` tasks, each with partial sums of d_q of its own.
  Result run(Problem& problem, int splits) const {
    const Kernels& kernels = tested();
    const Sizes& sizes = problem.sizes;
    const Shape shape{sizes.s_q, sizes.s_kv, static_cast<int>(sizes.d_qk), static_cast<int>(sizes.d_v)};
    const Hooks hooks(problem.variant);
    const std::size_t heads = problem.q.size();
    Result result{{}, Matrix(sizes.s_kv, sizes.d_qk, 1), Matrix(sizes.s_kv, sizes.d_v, 6)};

    std::vector<Workspace> prepared;
    std::vector<Stored> q, d_o;
    std::vector<std::vector<Workspace>> partials(heads);
    for (std::size_t i = 0; i < heads; ++i) {
      const Stored o(problem.o[i], problem.dtype);
      q.emplace_back(problem.q[i], problem.dtype);
      d_o.emplace_back(problem.d_o[i], problem.dtype);
      PrepareTask task;
      task.shape = shape;
      task.q = q[i].view();
      task.o = o.view();
      task.d_o = d_o[i].view();
      task.reads_rows = problem.reads_rows;
      task.lse = problem.lse[i].data();
      task.d_lse = problem.with_d_lse ? problem.d_lse[i].data() : nullptr;
      task.scale = static_cast<float>(problem.scale);
      task.score = hooks.score();
      task.delta = problem.delta[i].data();
      task.prepared = prepared.emplace_back(kernels.prepared_floats(shape)).data();
      for (std::int64_t begin = 0; begin < sizes.s_q; begin += kernels.backward_queries) {
        task.query_begin = begin;
        task.query_end = std::min(sizes.s_q, begin + kernels.backward_queries);
        kernels.prepare(task);
      }
      for (int split = 0; split < splits; ++split) {
        Workspace& partial = partials[i].emplace_back(kernels.d_q_floats(shape));
        std::fill_n(partial.data(), kernels.d_q_flags(shape), 0.0f);
      }
    }

    const Stored k(problem.k, problem.dtype), v(problem.v, problem.dtype);
    Stored d_k(result.k, problem.dtype), d_v(result.v, problem.dtype);
    const std::int64_t tiles = (sizes.s_kv + kernels.backward_keys - 1) / kernels.backward_keys;
    for (int split = 0; split < splits; ++split) {
      std::vector<BackwardHead> shared(heads);
      for (std::size_t i = 0; i < heads; ++i) {
        shared[i] = {.prepared = prepared[i].data(),
                     .q = q[i].view(),
                     .d_o = d_o[i].view(),
                     .d_q = partials[i][static_cast<std::size_t>(split)].data(),
                     .walk = hooks.walk(),
                     .score = hooks.score(),
                     .adjoint = hooks.adjoint(),
                     .dropout = problem.dropout_hook};
      }
      Workspace workspace(kernels.backward_floats(shape));
      BackwardTask task;
      task.shape = shape;
      task.key_begin = std::min(sizes.s_kv, tiles * split / splits * kernels.backward_keys);
      task.key_end = std::min(sizes.s_kv, tiles * (split + 1) / splits * kernels.backward_keys);
      task.k = k.view();
      task.v = v.view();
      task.d_k = d_k.mutable_view();
      task.d_v = d_v.mutable_view();
      task.scale = static_cast<float>(problem.scale);
      task.heads = shared.data();
      task.head_count = static_cast<int>(heads);
      task.workspace = workspace.data();
      kernels.backward(task);
      EXPECT_TRUE(workspace.guard_untouched());
    }

    for (std::size_t i = 0; i < heads; ++i) {
      EXPECT_TRUE(prepared[i].guard_untouched());
      std::vector<float*> sums;
      for (Workspace& partial : partials[i]) {
        EXPECT_TRUE(partial.guard_untouched());
        sums.push_back(partial.data());
      }
      FinishTask task;
      task.shape = shape;
      task.query_end = sizes.s_q;
      task.partials = sums.data();
      task.partial_count = splits;
      task.scale = static_cast<float>(problem.scale);
      Matrix& d_q = result.q.emplace_back(sizes.s_q, sizes.d_qk, 3);
      Stored stored(d_q, problem.dtype);
      task.d_q = stored.mutable_view();
      kernels.finish(task);
      stored.copy_to(d_q);
    }
    d_k.copy_to(result.k);
    d_v.copy_to(result.v);
    return result;
  }

  struct Comparisons {
    Comparison q, k, v;
    void expect_close(DType dtype = DType::float32) const {
      q.expect_close("d_q", kFactor, epsilon_of(dtype));
      k.expect_close("d_k", kFactor, epsilon_of(dtype));
      v.expect_close("d_v", kFactor, epsilon_of(dtype));
    }
  };

  void check(Problem& problem, int splits = 1) const {
    Comparisons found;
    compare(problem, splits, &found);
    found.expect_close(problem.dtype);
  }

  void compare(Problem& problem, int splits, Comparisons* found) const {
    problem.forward(tested());
    const Result result = run(problem, splits);
    Gradients exact, standard;
    const auto add = [&problem](const std::vector<double>& expected, const std::vector<double>& usual,
                                const Matrix& actual, Comparison* comparison) {
      EXPECT_TRUE(actual.surroundings_untouched());
      comparison->add(
          expected, usual, [&](std::int64_t i) { return actual.at(i / actual.columns(), i % actual.columns()); },
          problem.dtype);
    };
    for (std::size_t i = 0; i < problem.q.size(); ++i) {
      const std::vector<float> d_lse = problem.with_d_lse ? problem.d_lse[i] : std::vector<float>{};
      standard_backward<double>(problem.head(i), problem.d_o[i], d_lse, &exact);
      standard_backward<float>(problem.head(i), problem.d_o[i], d_lse, &standard);
      add(exact.q, standard.q, result.q[i], &found->q);
    }
    add(exact.k, standard.k, result.k, &found->k);
    add(exact.v, standard.v, result.v, &found->v);
  }
};

TEST_P(BackwardTest, AgreesWithStandardAttentionOverAwkwardShapes) {
  const std::vector<Sizes> shapes = {
      {1, 1, 1, 1},       {1, 1, 64, 64},      {2, 3, 5, 7},      {7, 13, 8, 8},      {24, 96, 64, 64},
      {23, 95, 64, 32},   {25, 97, 17, 9},     {31, 31, 40, 24},  {33, 193, 64, 64},  {97, 4, 128, 128},
      {1, 300, 64, 64},   {300, 1, 16, 80},    {131, 5, 3, 1},    {95, 96, 1, 33},    {193, 130, 24, 8},
      {191, 255, 72, 16}, {385, 100, 32, 200}, {64, 288, 96, 48}, {200, 320, 40, 80},
  };
  for (const Sizes& sizes : shapes) {
    for (const TestVariant& variant : every_kind(sizes)) {
      SCOPED_TRACE(::testing::Message() << variant << ' ' << sizes);
      Comparisons found;
      for (std::uint64_t seed = 0; seed < seeds(sizes.s_q * sizes.s_kv); ++seed) {
        Problem problem(operand(), sizes, variant, 1, seed);
        compare(problem, 1, &found);
      }
      found.expect_close();
    }
  }
}

/// However many, and wherever they lie: whatever blocks of rows make of them.
TEST_P(BackwardTest, TakesAnyKeysOfATile) {
  const std::int64_t keys = tested().backward_keys;
  Comparisons found;
  for (std::int64_t begin = keys - 20; begin < keys; ++begin) {
    for (std::int64_t count = 1; count <= keys - begin; ++count) {
      const TestVariant band = {"band",
                                [=](std::int64_t, std::int64_t key) { return key >= begin && key < begin + count; }};
      Problem problem(operand(), {10, keys + 3, 8, 8}, band, 1, static_cast<std::uint64_t>(begin * 32 + count));
      compare(problem, 1, &found);
    }
  }
  found.expect_close();
}

TEST_P(BackwardTest, SumsTheHeadsThatShareKeys) {
  for (const int heads : {2, 5}) {
    Problem problem(operand(), {70, 211, 32, 48}, causal(141), heads, 12);
    check(problem);
  }
}

TEST_P(BackwardTest, SplitsOfTheKeysAddUp) {
  for (const int splits : {2, 3, 7}) {
    Problem problem(operand(), {130, 400, 24, 32}, window(150, 20), 2, 13);
    check(problem, splits);
  }
}

/// The same products of the same numbers in the same order, whether rows are packed or not; and where one of them must
/// not be read as it is, for NaN or infinity in it.
TEST_P(BackwardTest, RowsThatAreReadWhereTheyLieGiveTheSameBits) {
  const auto same = [](const Matrix& a, const Matrix& b) {
    for (std::int64_t row = 0; row < a.rows(); ++row) {
      for (std::int64_t i = 0; i < a.columns(); ++i) {
        if (a.at(row, i) != b.at(row, i) && !(std::isnan(a.at(row, i)) && std::isnan(b.at(row, i)))) return false;
      }
    }
    return true;
  };
  struct Poison {
    std::int64_t q_row, d_o_row;  // -1: none
    float value;
  };
  for (const Poison poison : {Poison{-1, -1, 0}, Poison{40, -1, kNaN}, Poison{-1, 250, kInfinity},
                              Poison{-1, 17 * 7 + 3, kNaN}, Poison{399, 0, -kInfinity}}) {
    for (const TestVariant& variant : {window(40, 3), scattered()}) {
      SCOPED_TRACE(::testing::Message() << variant.name << ' ' << poison.q_row << ' ' << poison.d_o_row);
      const Sizes sizes{500, 430, 64, 32};
      Problem problem(operand(), sizes, variant, 2, 31);
      std::mt19937_64 random(32);
      problem.q[0] = Matrix(sizes.s_q, sizes.d_qk, 0);  // the other head's rows do not lie one behind the other
      problem.d_o[0] = Matrix(sizes.s_q, sizes.d_v, 0);
      problem.q[0].fill_normal(random);
      problem.d_o[0].fill_normal(random);
      if (poison.q_row >= 0) problem.q[0].at(poison.q_row, 9) = poison.value;
      if (poison.d_o_row >= 0) problem.d_o[0].at(poison.d_o_row, 5) = poison.value;
      problem.store_as(operand());
      problem.forward(tested());
      const Result packed = run(problem, 2);
      problem.reads_rows = true;
      const Result read = run(problem, 2);
      EXPECT_TRUE(same(packed.q[0], read.q[0]) && same(packed.q[1], read.q[1]));
      EXPECT_TRUE(same(packed.k, read.k));
      EXPECT_TRUE(same(packed.v, read.v));
    }
  }
}

TEST_P(BackwardTest, TakesTheGradientOfLse) {
  Problem problem(operand(), {90, 120, 32, 32}, causal(30), 2, 14);
  problem.with_d_lse = true;
  check(problem);
}

TEST_P(BackwardTest, SinksTakeTheirShare) {
  const float sink = 2.5f;
  Problem problem(operand(), {90, 120, 32, 32}, scattered(), 1, 15);
  problem.sink = &sink;
  check(problem);
}

TEST_P(BackwardTest, NegativeAndZeroScales) {
  for (const double scale : {-0.3, 0.0}) {
    Problem problem(operand(), {40, 200, 32, 32}, causal(160), 1, 16);
    problem.scale = scale;
    check(problem);
  }
}

TEST_P(BackwardTest, LargeScores) {
  for (const float deviation : {3.0f, 8.0f}) {
    Problem problem(operand(), {70, 300, 64, 64}, causal(230), 1, 17, deviation);
    check(problem);
  }
}

/// A weight is exp(score - lse) of the very lse that was stored: rounded again, in units of products, it would put the
/// weights of a whole row off by up to 2^-20 here.
TEST_P(BackwardTest, WeightsAreAsExactAsLse) {
  for (int i = 0; i < 200; ++i) {
    Problem problem(operand(), {1, 1, 8, 1}, full(), 1, 0);
    const float product = 10 + 0.0625f * static_cast<float>(i % 96);  // which bfloat16 holds
    const float lse = 0.3535534f * product + 0.0123457f * static_cast<float>(i % 97);
    problem.scale = 0.3535534f;
    for (int c = 0; c < 8; ++c) problem.q[0].at(0, c) = c == 0 ? product : 0.0f;
    problem.k.at(0, 0) = problem.d_o[0].at(0, 0) = 1;
    problem.forward(tested());
    problem.lse[0][0] = lse;
    const double exact = std::exp(static_cast<double>(product) * static_cast<double>(0.3535534f) - double{lse});
    // Without fused operations the scaled score is rounded, as standard attention's is: below 16 by 2^-21.
    const bool is_fused = GetParam() != std::string("baseline");
    const double allowed = operand() == DType::bfloat16 ? 0x1p-8 : is_fused ? 0x1p-22 : 0x1p-22 + 0x1p-21;
    EXPECT_NEAR(static_cast<double>(run(problem, 1).v.at(0, 0)) / exact, 1, allowed) << product << ", lse " << lse;
  }
}

TEST_P(BackwardTest, DropoutMultipliesWeightsAndTheirGradients) {
  static const auto factor = [](std::int64_t query, std::int64_t key) {
    return (static_cast<std::uint64_t>(query * 31 + key) * 0x9e3779b97f4a7c15u >> 62) == 0 ? 0.0 : 1 / 0.75;
  };
  Problem problem(operand(), {61, 333, 32, 48}, softcapped(causal(272)), 2, 18);
  problem.dropout = factor;
  problem.dropout_hook.apply = [](const void*, const ScoreBlock& block) {
    for (int key = 0; key < block.keys; ++key) {
      for (int query = 0; query < block.queries; ++query) {
        block.values[key * block.stride + query] *=
            static_cast<float>(factor(block.query_begin + query, block.key_begin + key));
      }
    }
  };
  check(problem);
}

TEST_P(BackwardTest, TakesSixteenBitInputs) {
  for (const DType dtype : {DType::bfloat16, DType::float16}) {
    if (operand() != DType::float32 && operand() != dtype) continue;  // plans give such kernels nothing else
    for (const Sizes& sizes : {Sizes{97, 300, 64, 64}, Sizes{30, 131, 17, 9}, Sizes{200, 129, 40, 72}}) {
      for (const TestVariant& variant : {full(), causal(100), softcapped(scattered())}) {
        SCOPED_TRACE(::testing::Message() << static_cast<int>(dtype) << " d_qk " << sizes.d_qk << variant.name);
        Problem problem(operand(), sizes, variant, 2, 21);
        problem.store_as(dtype);
        check(problem);
      }
    }
  }
}

TEST_P(BackwardTest, NonFiniteKeysReachOnlyRowsThatKeepThem) {
  for (const float poison : {kNaN, kInfinity}) {
    Problem problem(operand(), {100, 200, 16, 16}, causal(80), 1, 22);
    for (std::int64_t i = 0; i < 16; ++i) problem.k.at(150, i) = poison;
    problem.forward(tested());
    const Result result = run(problem, 1);
    for (std::int64_t row = 0; row < 100; ++row) {
      const bool keeps = row + 80 >= 150;
      for (std::int64_t i = 0; i < 16; ++i) {
        const float d_q = result.q[0].at(row, i);
        if (!keeps) {
          EXPECT_TRUE(std::isfinite(d_q)) << row;
        } else if (std::isnan(poison)) {
          EXPECT_TRUE(std::isnan(d_q)) << row;
        }
      }
    }
  }
}

TEST_P(BackwardTest, NothingToDo) {
  Problem no_keys(operand(), {20, 0, 16, 16}, full(), 1, 19);
  check(no_keys);
  Problem no_queries(operand(), {0, 20, 16, 16}, full(), 1, 20);
  check(no_queries);
}

INSTANTIATE_TEST_SUITE_P(Isa, BackwardTest, ::testing::ValuesIn(kEachIsa), name_of);

}  // namespace
}  // namespace tilewise::cpu::testing
