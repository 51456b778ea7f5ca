// The forward kernel for compute capability 9.0: its plans, its work queue, and rows that outgrow their bases.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>

#include "cuda/launch/hopper_program.h"
#include "tests/gpu/attention_case.h"
#include "tests/gpu/diagonal_scores.h"
#include "tests/gpu/with_hopper.h"
#include "tilewise/attention.h"
#include "tilewise/zoo.h"

namespace tilewise::cuda::testing {
namespace {

class HopperForwardOnGpu : public WithHopper {
 protected:
  /// Runs the case with every candidate.
  void expect_of_all_plans(Case given) {
    ForwardShape shape{.dtype = given.dtype, .d_qk = given.d_qk, .d_v = given.d_v, .has_lists = given.with_lists};
    shape.short_keys = 512;  // which have all plans of longer ones, too
    shape.has_dropout = given.dropout.has_value();
    shape.has_small_parts = given.with_lists;  // one candidate more
    const std::string name = given.name;
    const Expectation expected = expectation_of(given);
    for (const HopperForwardPlan& plan :
         hopper_forward_candidates(shape, score_work(given.variant, hopper_text(given.variant, shape, false)),
                                   limits_of(context_->device()))) {
      given.hopper_plan = plan;
      given.name = fmt::format("{}, d {}/{}, {}", name, given.d_qk, given.d_v, plan.text());
      expect_right(context_, compiler_, given, expected);
    }
  }

  static constexpr std::array<std::pair<int, int>, 5> kDimensions = {
      std::pair{64, 64}, {128, 128}, {256, 256}, {192, 128}, {72, 40}};
  jit::Compiler& compiler_ = jit::Compiler::instance();  // TILEWISE_CACHE_DIR keeps what many runs compile
};

TEST_F(HopperForwardOnGpu, SaysWhatItDoesNotTake) {
  ForwardShape shape;
  shape.is_aligned = false;
  try {
    HopperForwardKernel(compiler_, context_, Variant(), shape);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    EXPECT_NE(std::string(error.what()).find("16 bytes"), std::string::npos) << error.what();
  }
}

TEST_F(HopperForwardOnGpu, PlansSayWhichPassItDoesNotTake) {
  const PlanShape shape{
      .dtype = DType::float32, .h_q = 2, .h_kv = 2, .d_qk = 64, .d_v = 64, .s_q = 128, .s_kv = 128, .backward = true};
  const std::string text = Attention().plan(shape, Device::cuda()).explain();
  for (const char* line : {"not taken: forward, sm_90a: float32", "not taken: backward, sm_90a: float32"})
    EXPECT_NE(text.find(line), std::string::npos) << text;
}

TEST_F(HopperForwardOnGpu, EveryPlan) {
  for (const auto& [d_qk, d_v] : kDimensions) {
    expect_of_all_plans(case_of("full", Variant(), Problem::uniform(1, 2, 1, 300, 523), d_qk, d_v));
    expect_of_all_plans(case_of("causal", zoo::causal(), Problem::uniform(1, 2, 1, 420, 523), d_qk, d_v));
  }
}

TEST_F(HopperForwardOnGpu, PlansTakeSmallTilesWhereAMaskKeepsSmallParts) {
  const auto takes = [](const Variant& variant, int d, const char* tile) {
    const PlanShape shape{
        .dtype = DType::bfloat16, .h_q = 2, .h_kv = 2, .d_qk = d, .d_v = d, .s_q = 4096, .s_kv = 4096};
    const std::string explained = Attention(variant).plan(shape, Device::cuda()).explain();
    EXPECT_NE(explained.find(fmt::format("forward: sm_90a, {}", tile)), std::string::npos) << explained;
  };
  // A block of 64 in eight, here and there: of tiles of 64 keys half as many as of tiles of 128.
  const Variant blocks =
      keep([](const At& at) { return (to_int(at.query_index / 64) * 5 + to_int(at.key_index / 64)) % 8 == 0; });
  takes(blocks, 128, "128 x 64"), takes(blocks, 64, "192 x 64"), takes(blocks, 256, "128 x 64");
  for (const Variant& variant : {zoo::causal(), zoo::window(1024)})
    takes(variant, 128, "128 x 128"), takes(variant, 64, "192 x 96"), takes(variant, 256, "128 x 80");
}

TEST_F(HopperForwardOnGpu, MoreWorkThanMultiprocessors) {
  for (const Variant& variant : {Variant(), zoo::causal(), zoo::window(50)}) {
    Problem problem = Problem::uniform(3, 40, 4, 260, 150);
    problem.sequences[1].s_q = 3;
    problem.sequences[2].s_kv = 20;
    const Case given = case_of("many heads", variant, problem, 64, 64);
    expect_right(context_, compiler_, given);
    expect_right(context_, compiler_, given);  // the counter of work is as before
  }
}

TEST_F(HopperForwardOnGpu, RowsThatOutgrowTheirBases) {
  for (const DType dtype : {DType::bfloat16, DType::float16}) {
    for (const Inputs inputs : {Inputs::rising, Inputs::falling, Inputs::large}) {
      for (const int d : {64, 128}) {
        Case given = case_of(fmt::format("inputs {}", static_cast<int>(inputs)), Variant(),
                             Problem::uniform(1, 2, 1, 140, 777), d, d);
        given.dtype = dtype;
        given.inputs = inputs;
        expect_of_all_plans(given);
      }
    }
  }
}

// The first tiles that a row visits keep nothing of it, or only scores far below the later ones.
TEST_F(HopperForwardOnGpu, RowsThatBeginLate) {
  const Problem problem = Problem::uniform(1, 2, 1, 300, 900);
  for (const int d : {64, 128}) {
    expect_of_all_plans(case_of(
        "late keys", keep([](const At& at) { return at.key_index >= 2 * at.query_index + 100; }), problem, d, d));
    expect_of_all_plans(case_of(
        "a step", score([](Expr s, const At& at) { return select(at.key_index < 3 * at.query_index, s - 1000.0f, s); }),
        problem, d, d));
    expect_of_all_plans(case_of("the lowest finite score", score([](Expr s, const At& at) {
                                  return select(at.key_index < 450, -3.4028234663852886e38, s);
                                }),
                                problem, d, d));
  }
}

// A cubic stands for tanh until a tile's products are not small; rows of one block differ in when that is.
TEST_F(HopperForwardOnGpu, ProductsThatAreNotSmall) {
  const Problem problem = Problem::uniform(1, 2, 1, 200, 1500);
  for (const double cap : {30.0, 9.0, 1.0, 1e30, 1e-30}) {
    for (const Inputs inputs : {Inputs::normal, Inputs::rising, Inputs::large}) {
      Case given = case_of(fmt::format("softcap {}, inputs {}", cap, static_cast<int>(inputs)), zoo::softcap(cap),
                           problem, 64, 64);
      given.inputs = inputs;
      expect_right(context_, compiler_, given);
    }
    expect_right(
        context_, compiler_,
        case_of(fmt::format("softcap {} and ALiBi", cap), zoo::softcap(cap) & zoo::alibi(2), problem, 128, 128));
  }
}

// Where scores have values of diagonals, rows begin with what is their query's own as their base, if their first scores
// are close to it.
TEST_F(HopperForwardOnGpu, RowsThatLeaveTheirOwnBases) {
  const Problem problem = Problem::uniform(1, 1, 1, 100, 700);
  for (const double of_keys : {0.001, 0.05, -1.0}) {
    const Variant variant = score([&](Expr s, const At& at) {
      const Expr distance = to_real(at.query - at.key) * 0.01;
      return s * 0.9 + tanh(s * 0.3) - max(distance * distance, 2.0) * 0.5 + to_real(at.key) * of_keys +
             to_real(at.query) * 0.1;
    });
    for (const Inputs inputs : {Inputs::normal, Inputs::rising, Inputs::large}) {
      for (const int d : {64, 128}) {
        Case given =
            case_of(fmt::format("of keys {}, inputs {}", of_keys, static_cast<int>(inputs)), variant, problem, d, d);
        given.inputs = inputs;
        expect_right(context_, compiler_, given);
      }
    }
  }
}

TEST_F(HopperForwardOnGpu, ScoresAlongDiagonals) {
  for (const auto& [name, variant] : diagonal_scores(2)) {
    expect_right(context_, compiler_, case_of(name, variant, Problem::uniform(1, 2, 1, 400, 1100), 128, 128));
  }
}

TEST_F(HopperForwardOnGpu, ChosenScores) {
  for (const auto& [name, variant] : chosen_scores()) {
    for (const int d : {64, 128}) {
      Case given = case_of(name, variant, Problem::uniform(1, 2, 1, 400, 1100), d, d);
      expect_right(context_, compiler_, given);
      given.name += ", a negative scale";
      given.scale = -0.1;
      expect_right(context_, compiler_, given);
    }
  }
}

// More key tiles than are looked at together.
TEST_F(HopperForwardOnGpu, ScoresAlongLongDiagonals) {
  for (const auto& [name, variant] : diagonal_scores(2)) {
    Case given = case_of(name, variant, Problem::uniform(1, 2, 1, 100, 7000), 64, 64);
    given.dtype = DType::float16;
    expect_right(context_, compiler_, given);
  }
}

TEST_F(HopperForwardOnGpu, DropoutPackingAndSinksOverSeveralTiles) {
  Case given = case_of("dropout", zoo::causal(), Problem::uniform(2, 2, 1, 300, 500), 128, 128);
  given.dropout = Dropout(0.7, 0x123456789abcdefULL, 5);
  expect_of_all_plans(given);
  const std::array<std::int64_t, 5> s_q = {5, 330, 0, 64, 1}, s_kv = {270, 330, 10, 0, 300};
  for (const int d : {64, 128, 256}) {
    for (const Variant& variant : {Variant(), zoo::causal()}) {
      given = case_of("packed", variant, Problem::packed(4, 2, s_q, s_kv), d, d);
      given.is_packed = true;
      expect_of_all_plans(given);
    }
  }
}

}  // namespace
}  // namespace tilewise::cuda::testing
