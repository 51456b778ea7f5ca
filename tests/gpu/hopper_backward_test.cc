// The backward kernels for compute capability 9.0: their plans, several tiles of everything, and what is at the edges.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>

#include "tests/gpu/diagonal_scores.h"
#include "tests/gpu/gradient_case.h"
#include "tests/gpu/with_hopper.h"
#include "tilewise/zoo.h"

namespace tilewise::cuda::testing {
namespace {

class HopperBackwardOnGpu : public WithHopper {
 protected:
  void expect(const Case& given) { expect_right_gradients(context_, compiler_, given); }

  jit::Compiler& compiler_ = jit::Compiler::instance();  // TILEWISE_CACHE_DIR keeps what many runs compile
};

TEST_F(HopperBackwardOnGpu, EveryPlan) {
  for (const auto& [d_qk, d_v] :
       {std::pair{128, 128}, {64, 64}, {128, 64}, {64, 128}, {72, 40}, {256, 256}, {192, 128}, {64, 256}}) {
    const ForwardShape shape{.d_qk = d_qk, .d_v = d_v};
    for (const HopperBackwardPlan& plan : hopper_backward_candidates(shape, false, limits_of(context_->device()))) {
      Case given = case_of("", zoo::causal(), Problem::uniform(1, 4, 2, 330, 390), d_qk, d_v);
      given.hopper_backward_plan = plan;
      given.name = fmt::format("causal, d {}/{}, {}", d_qk, d_v, given.hopper_backward_plan->text());
      expect(given);
    }
  }
}

TEST_F(HopperBackwardOnGpu, BothDtypesAndScales) {
  for (const DType dtype : {DType::bfloat16, DType::float16}) {
    for (const double scale : {0.0, -0.1, 1e-30}) {
      for (const int d : {64, 128}) {
        Case given =
            case_of(fmt::format("d {}, scale {}", d, scale), Variant(), Problem::uniform(1, 2, 1, 200, 300), d, d);
        given.dtype = dtype;
        given.scale = scale;
        expect(given);
      }
    }
  }
}

TEST_F(HopperBackwardOnGpu, VariantsOverSeveralTiles) {
  const Problem problem = Problem::uniform(2, 2, 1, 270, 400);
  for (const int d : {64, 128, 256}) {
    expect(case_of("full", Variant(), problem, d, d));
    expect(case_of("window", zoo::window(150), problem, d, d));
    expect(case_of("softcap", zoo::softcap(1.5), problem, d, d));
    expect(case_of("alibi and causal", zoo::alibi(2) & zoo::causal(), problem, d, d));
    expect(
        case_of("late keys", keep([](const At& at) { return at.key_index >= at.query_index + 100; }), problem, d, d));
  }
}

TEST_F(HopperBackwardOnGpu, InAFixedOrder) {
  const Problem problem = Problem::uniform(1, 4, 2, 330, 390);
  for (const int d : {64, 128, 256}) {
    for (const auto& [name, variant] :
         {std::pair{"full", Variant()}, {"a mask for each head", keep([](const At& at) {
                                           return (at.query_index - at.key_index) % (at.head + 2) < 70 + at.head * 30;
                                         })}}) {
      Case given = case_of(fmt::format("{}, d {}", name, d), variant, problem, d, d);
      given.d_q_parts = 1;
      expect(given);
    }
  }
  const std::array<std::int64_t, 5> s_q = {5, 330, 0, 64, 1}, s_kv = {270, 330, 10, 0, 150};
  for (const Variant& variant : {Variant(), zoo::causal()}) {
    Case given = case_of("packed", variant, Problem::packed(4, 2, s_q, s_kv), 128, 128);
    given.is_packed = true;
    given.d_q_parts = 1;
    given.dropout = Dropout(0.7, 0x123456789abcdefULL, 5);
    expect(given);
  }
}

TEST_F(HopperBackwardOnGpu, ScoresAlongDiagonals) {
  for (const auto& [name, variant] : diagonal_scores(2)) {
    expect(case_of(name, variant, Problem::uniform(1, 2, 1, 300, 500), 128, 128));
  }
}

TEST_F(HopperBackwardOnGpu, ChosenScores) {
  for (const auto& [name, variant] : chosen_scores()) {
    for (const int d : {64, 128}) {
      Case given = case_of(name, variant, Problem::uniform(1, 2, 1, 300, 500), d, d);
      expect(given);
      given.name += ", a negative scale";
      given.scale = -0.1;
      expect(given);
    }
  }
}

// More tiles of queries than are asked about at a time, all but a few with one number for all of their diagonals. Where
// that number is the lowest, scores of whole rows are clamped.
TEST_F(HopperBackwardOnGpu, SteadyTiles) {
  constexpr int kClamp = 20;
  std::array<float, 2 * kClamp + 1> values{};
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 7 % 37) / 9 - 2;
  const auto relative = [&] {
    return zoo::relative_position(
        Table::frozen("bias", ConstTensor(values.data(), DType::float32, {1, 2 * kClamp + 1})), kClamp);
  };
  for (const int d : {64, 128}) {
    Case given = case_of(fmt::format("d {}", d), relative(), Problem::uniform(1, 1, 1, 64 * 130 + 5, 200), d, d);
    expect(given);
    given = case_of(fmt::format("d {}, a negative scale", d), relative(), Problem::uniform(1, 1, 1, 300, 500), d, d);
    given.scale = -0.1;
    expect(given);
  }
  values.back() = -1e38f;
  expect(case_of("the lowest scores", relative(), Problem::uniform(1, 1, 1, 700, 300), 128, 128));
}

// A last round of few key tiles, those of the last sequences, which clusters of 8, 4 and 2 blocks share.
TEST_F(HopperBackwardOnGpu, AFewKeyTilesMoreThanMultiprocessors) {
  constexpr int kHeads = 2, kKeyTiles = 2;  // of the longest sequence
  for (const int left : {4, 20, 40}) {
    const int shared = left / (kHeads * kKeyTiles);
    const int b = context_->device().multiprocessors / (kHeads * kKeyTiles) + shared;
    std::vector<std::int64_t> s_q(static_cast<std::size_t>(b), 1), s_kv = s_q;
    for (int i = b - shared; i < b; ++i) {
      s_q[static_cast<std::size_t>(i)] = 60 + 9 * i;
      s_kv[static_cast<std::size_t>(i)] = 100 + i;
    }
    s_q.back() = 64 * 64 - 7;
    for (const Variant& variant : {Variant(), zoo::alibi(kHeads)}) {
      Case given = case_of(fmt::format("{} left", left), variant, Problem::packed(kHeads, kHeads, s_q, s_kv), 64, 40);
      given.is_packed = true;
      expect(given);
    }
  }
}

TEST_F(HopperBackwardOnGpu, PackingLengthsAndDropout) {
  const std::array<std::int64_t, 5> s_q = {5, 330, 0, 64, 1}, s_kv = {270, 330, 10, 0, 150};
  for (const int d : {64, 128, 256}) {
    for (const Variant& variant : {Variant(), zoo::causal()}) {
      Case given = case_of("packed", variant, Problem::packed(4, 2, s_q, s_kv), d, d);
      given.is_packed = true;
      expect(given);
      Problem problem = Problem::uniform(3, 2, 1, 150, 290);
      problem.sequences[0].key_start = 140;
      problem.sequences[1].s_q = 5;
      problem.sequences[1].s_kv = 131;
      given = case_of("lengths", variant, problem, d, d);
      expect(given);
      given.name = "dropout";
      given.dropout = Dropout(0.7, 0x123456789abcdefULL, 5);
      expect(given);
    }
  }
}

}  // namespace
}  // namespace tilewise::cuda::testing
