// The backward kernels against standard gradients in float64.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>

#include "tests/gpu/gradient_case.h"
#include "tests/gpu/with_gpu.h"
#include "tilewise/zoo.h"

namespace tilewise::cuda::testing {
namespace {

/// Every case runs on the newest family that the GPU has, and on the portable one.
class BackwardOnGpu : public jit::WithGpu, public ::testing::WithParamInterface<bool> {
 protected:
  void expect(Case given) {
    given.portable = GetParam();
    expect_right_gradients(context_, compiler_, given);
  }

  static Case of(std::string name, const Variant& variant, const Problem& problem, int d = 32) {
    return case_of(std::move(name), variant, problem, d, d);
  }

  static constexpr std::array<float, 2> kLogits = {-1.5f, 3.0f};
  jit::Compiler& compiler_ = jit::Compiler::instance();  // TILEWISE_CACHE_DIR keeps what many runs compile
};

TEST_P(BackwardOnGpu, EveryLengthAroundTheTilesEdges) {
  for (const std::int64_t s_q : {1, 63, 64, 65, 130}) {
    for (const std::int64_t s_kv : {1, 7, 64, 65, 129}) {
      expect(of(fmt::format("full, s_q {}, s_kv {}", s_q, s_kv), Variant(), Problem::uniform(1, 1, 1, s_q, s_kv)));
    }
  }
  expect(of("no keys", Variant(), Problem::uniform(2, 2, 1, 70, 0)));
  expect(of("no queries", Variant(), Problem::uniform(2, 2, 1, 0, 70)));
}

TEST_P(BackwardOnGpu, EveryHeadDimension) {
  for (int d = 8; d <= 128; d += 8) {
    expect(of(fmt::format("full, d {}", d), Variant(), Problem::uniform(1, 2, 1, 70, 90), d));
  }
  for (const auto& [d_qk, d_v] :
       {std::pair{128, 64}, {40, 8}, {8, 72}, {136, 136}, {192, 128}, {128, 256}, {200, 200}, {256, 256}}) {
    Case given =
        of(fmt::format("causal, d_qk {}, d_v {}", d_qk, d_v), zoo::causal(), Problem::uniform(1, 2, 2, 90, 80));
    given.d_qk = d_qk;
    given.d_v = d_v;
    expect(given);
  }
}

TEST_P(BackwardOnGpu, BothDtypesOnEveryKindOfInput) {
  for (const DType dtype : {DType::bfloat16, DType::float16}) {
    for (const Inputs inputs : {Inputs::normal, Inputs::outliers}) {
      for (const double scale : {0.0, -0.1}) {
        Case given = of(fmt::format("{}, inputs {}, scale {}", to_string(dtype), static_cast<int>(inputs), scale),
                        zoo::causal(), Problem::uniform(1, 4, 2, 150, 200), 64);
        given.dtype = dtype;
        given.inputs = inputs;
        given.scale = scale;
        expect(given);
      }
    }
  }
}

TEST_P(BackwardOnGpu, MasksAndScoresOfTheZoo) {
  const Problem problem = Problem::uniform(2, 4, 2, 140, 170);
  expect(of("window", zoo::window(37), problem));
  expect(of("documents", zoo::documents({50, 1, 60, 59}), problem));
  expect(of("softcap", zoo::softcap(1.5), problem));
  expect(of("softcap and window", zoo::softcap(1.5) & zoo::window(50), problem));
  expect(of("alibi and causal", zoo::alibi(4) & zoo::causal(), problem));
  expect(of("temperature", zoo::temperature(0.5), problem));
  expect(of("a curve", score([](Expr s, const At& at) { return s * s / 8 + sin(s) * to_real(at.head); }), problem));
}

TEST_P(BackwardOnGpu, RowsThatKeepNothing) {
  const Problem problem = Problem::uniform(1, 2, 1, 100, 130);
  expect(of("every seventh row", keep([](const At& at) { return at.query_index % 7 != 3; }), problem));
  expect(of("nothing at all", keep([](const At& at) { return at.query_index < 0; }), problem));
  expect(of("a sink",
            zoo::attention_sink(Table::frozen("logit", ConstTensor(kLogits.data(), DType::float32, {2}))) &
                zoo::causal_top_left(),
            problem));
}

TEST_P(BackwardOnGpu, LengthsOffsetsPackingAndGaps) {
  Problem problem = Problem::uniform(3, 2, 1, 90, 150);
  problem.sequences[0].key_start = 70;
  problem.sequences[1].s_q = 5;
  problem.sequences[1].s_kv = 131;
  problem.sequences[2].query_offset = 30;
  expect(of("full", Variant(), problem));
  expect(of("causal", zoo::causal(), problem));
  const std::array<std::int64_t, 5> s_q = {5, 130, 0, 64, 1}, s_kv = {70, 130, 10, 0, 100};
  Case given = of("packed causal", zoo::causal(), Problem::packed(4, 2, s_q, s_kv));
  given.is_packed = true;
  expect(given);
  given = of("gap of 5", zoo::causal(), Problem::uniform(2, 2, 1, 100, 110), 72);
  given.gap = 5;
  expect(given);
}

TEST_P(BackwardOnGpu, DropoutDropsTheEntriesThatTheReferenceDrops) {
  for (const double p_keep : {0.0, 0.3, 0.9}) {
    Case given = of(fmt::format("dropout, keeping {}", p_keep), zoo::causal(), Problem::uniform(2, 2, 1, 100, 130));
    given.dropout = Dropout(p_keep, 0x123456789abcdefULL, 5);
    expect(given);
  }
}

/// Every candidate of a plan, for d_qk and d_v.
class BackwardPlansOnGpu : public jit::WithGpu, public ::testing::WithParamInterface<std::pair<int, int>> {
 protected:
  jit::Compiler& compiler_ = jit::Compiler::instance();  // TILEWISE_CACHE_DIR keeps what many runs compile
};

TEST_P(BackwardPlansOnGpu, AreRight) {
  const Variant variant = zoo::softcap(5) & zoo::causal();
  const auto [d_qk, d_v] = GetParam();
  for (const BackwardPlan& plan :
       backward_candidates({.d_qk = d_qk, .d_v = d_v}, false, limits_of(context_->device()))) {
    Case given =
        case_of(fmt::format("d {}, {}", d_qk, plan.text()), variant, Problem::uniform(2, 4, 2, 150, 290), d_qk, d_v);
    given.backward_plan = plan;
    given.dropout = Dropout(0.8, 77, 1);
    for (const int parts : {0, 3}) {
      given.d_q_parts = parts;
      expect_right_gradients(context_, compiler_, given);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Dimensions, BackwardPlansOnGpu,
                         ::testing::Values(std::pair{40, 64}, std::pair{64, 64}, std::pair{128, 128},
                                           std::pair{192, 128}, std::pair{256, 256}),
                         [](const auto& one) { return fmt::format("{}_{}", one.param.first, one.param.second); });

INSTANTIATE_TEST_SUITE_P(Kernels, BackwardOnGpu, ::testing::Bool(),
                         [](const auto& one) { return one.param ? "Portable" : "Newest"; });

}  // namespace
}  // namespace tilewise::cuda::testing
