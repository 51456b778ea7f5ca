// The forward kernel against standard attention in float64.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "tests/gpu/attention_case.h"
#include "tests/gpu/with_gpu.h"
#include "tilewise/zoo.h"

namespace tilewise::cuda::testing {
namespace {

/// Every case runs on the newest family that the GPU has, and on the portable one.
class ForwardOnGpu : public jit::WithGpu, public ::testing::WithParamInterface<bool> {
 protected:
  void expect(Case given) {
    given.portable = GetParam();
    expect_right(context_, compiler_, given);
  }

  /// A case with a name for messages, the lists that its variant asks for, and sizes.
  static Case of(std::string name, const Variant& variant, const Problem& problem, int d = 64) {
    return case_of(std::move(name), variant, problem, d, d);
  }

  jit::Compiler& compiler_ = jit::Compiler::instance();  // TILEWISE_CACHE_DIR keeps what many runs compile
};

TEST_P(ForwardOnGpu, EveryLengthAroundTheTilesEdges) {
  for (const std::int64_t s_q : {1, 2, 63, 64, 65, 127, 128, 129, 257}) {
    for (const std::int64_t s_kv : {1, 7, 63, 64, 65, 128, 191, 193}) {
      expect(of(fmt::format("full, s_q {}, s_kv {}", s_q, s_kv), Variant(), Problem::uniform(1, 1, 1, s_q, s_kv)));
    }
  }
}

TEST_P(ForwardOnGpu, NoKeysGiveZerosAndNoQueriesGiveNothing) {
  expect(of("no keys", Variant(), Problem::uniform(2, 2, 1, 70, 0)));
  expect(of("no queries", Variant(), Problem::uniform(2, 2, 1, 0, 70)));
  expect(of("no sequences", Variant(), Problem::uniform(0, 2, 1, 70, 70)));
}

TEST_P(ForwardOnGpu, EveryHeadDimension) {
  for (int d = 8; d <= 256; d += 8) {
    expect(of(fmt::format("full, d {}", d), Variant(), Problem::uniform(1, 2, 1, 100, 150), d));
  }
}

TEST_P(ForwardOnGpu, DifferentHeadDimensions) {
  for (const auto& [d_qk, d_v] : {std::pair{192, 128}, {64, 256}, {256, 64}, {8, 40}, {40, 8}}) {
    Case given =
        of(fmt::format("causal, d_qk {}, d_v {}", d_qk, d_v), zoo::causal(), Problem::uniform(1, 2, 2, 130, 150));
    given.d_qk = d_qk;
    given.d_v = d_v;
    expect(given);
  }
}

TEST_P(ForwardOnGpu, BothDtypesOnEveryKindOfInput) {
  for (const DType dtype : {DType::bfloat16, DType::float16}) {
    for (const Inputs inputs : {Inputs::normal, Inputs::outliers, Inputs::large}) {
      for (const int d : {64, 128}) {
        for (const double scale : {0.0, -0.1, 1e-30}) {
          Case given =
              of(fmt::format("{}, inputs {}, d {}, scale {}", to_string(dtype), static_cast<int>(inputs), d, scale),
                 zoo::causal(), Problem::uniform(1, 2, 1, 150, 400), d);
          given.dtype = dtype;
          given.inputs = inputs;
          given.scale = scale;
          expect(given);
        }
      }
    }
  }
}

TEST_P(ForwardOnGpu, GroupedHeadsAndBatches) {
  for (const auto& [h_q, h_kv] : {std::pair{6, 6}, {6, 3}, {6, 1}}) {
    expect(of(fmt::format("{}/{} heads", h_q, h_kv), zoo::causal(), Problem::uniform(3, h_q, h_kv, 77, 90)));
  }
}

TEST_P(ForwardOnGpu, MasksOfTheZoo) {
  const Problem problem = Problem::uniform(2, 2, 1, 300, 300);
  expect(of("causal", zoo::causal(), problem));
  expect(of("window", zoo::window(37), problem));
  expect(of("window_two_sided", zoo::window_two_sided(20, 50), problem));
  expect(of("bigbird", zoo::bigbird(32, 3, 1, 1, 300, 7), problem));
  expect(of("streaming_llm", zoo::streaming_llm(4, 60), problem));
  expect(of("strided", zoo::strided(17), problem));
  expect(of("local_chunked", zoo::local_chunked(48), problem));
  expect(of("documents", zoo::documents({100, 1, 60, 139}), problem));
  expect(of("prefix_lm", zoo::prefix_lm(100), problem));
  expect(of("neighbourhood_1d", zoo::neighbourhood_1d(300, 13), problem));
}

TEST_P(ForwardOnGpu, ScoresOfTheZoo) {
  const Problem problem = Problem::uniform(2, 4, 2, 200, 230);
  expect(of("softcap", zoo::softcap(1.5), problem));
  expect(of("alibi", zoo::alibi(4), problem));
  expect(of("alibi and causal, d 128", zoo::alibi(4) & zoo::causal(), problem, 128));
  expect(of("temperature", zoo::temperature(0.5), problem));
  expect(of("log_n_scaling", zoo::log_n_scaling(100), problem));
  expect(of("sandwich", zoo::sandwich(4, 8), problem));
  expect(of("softcap and window", zoo::softcap(3) & zoo::window(50), problem));
}

TEST_P(ForwardOnGpu, TablesAndSinks) {
  const Problem problem = Problem::uniform(1, 3, 1, 140, 160);
  std::vector<float> logits = {-1.5f, 0.25f, 30.0f}, bias(3 * 140 * 160);
  for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i % 37) / 9 - 2;
  const Table logit("logit", DType::float32, 1), addend("bias", DType::float32, 3);
  const Variant sink = zoo::attention_sink(logit);
  Case given = of("sink", sink & zoo::causal_top_left(), problem);
  given.bindings.tables = {{logit, ConstTensor(logits.data(), DType::float32, {3})}};
  expect(given);
  given = of("sink over rows that keep nothing",
             sink & keep([](const At& at) { return at.query_index > 70 && at.key_index < 20; }), problem);
  given.bindings.tables = {{logit, ConstTensor(logits.data(), DType::float32, {3})}};
  expect(given);
  given = of("dense bias",
             score([&](Expr s, const At& at) { return s + addend(at.head, at.query_index, at.key_index); }), problem);
  given.bindings.tables = {{addend, ConstTensor(bias.data(), DType::float32, {3, 140, 160})}};
  expect(given);
}

TEST_P(ForwardOnGpu, RowsThatKeepNothing) {
  const Problem problem = Problem::uniform(1, 2, 1, 200, 300);
  expect(of("every seventh row", keep([](const At& at) { return at.query_index % 7 != 3; }), problem));
  expect(of("by minus infinity",
            score([](Expr s, const At& at) { return select(at.query_index % 7 == 3, -kInfinity, s); }), problem));
  expect(of("nothing at all", keep([](const At& at) { return at.query_index < 0; }), problem));
  expect(of("only late keys", keep([](const At& at) { return at.key_index >= 200 + at.query_index % 90; }), problem));
  expect(of("the lowest finite score",
            score([](Expr s, const At& at) { return select(at.key_index < 150, -3.4028234663852886e38, s); }),
            problem));
}

TEST_P(ForwardOnGpu, LengthsOffsetsAndLeftPadding) {
  Problem problem = Problem::uniform(4, 2, 1, 90, 200);
  problem.sequences[0].key_start = 13;
  problem.sequences[1].s_q = 5;
  problem.sequences[1].s_kv = 131;
  problem.sequences[2].query_offset = 30;
  problem.sequences[2].key_offset = -7;
  problem.sequences[3].s_q = 90;
  problem.sequences[3].s_kv = 150;
  problem.sequences[3].key_start = 150;
  expect(of("full", Variant(), problem));
  expect(of("causal", zoo::causal(), problem));
}

TEST_P(ForwardOnGpu, PackedSequences) {
  const std::array<std::int64_t, 5> s_q = {5, 130, 0, 64, 1}, s_kv = {70, 130, 10, 0, 300};
  Case given = of("packed causal", zoo::causal(), Problem::packed(4, 2, s_q, s_kv));
  given.is_packed = true;
  expect(given);
}

TEST_P(ForwardOnGpu, RowsThatAreNotAligned) {
  Case given = of("gap of 5", zoo::causal(), Problem::uniform(2, 2, 1, 100, 140), 72);
  given.gap = 5;
  expect(given);
}

TEST_P(ForwardOnGpu, DropoutDropsTheEntriesThatTheReferenceDrops) {
  for (const double p_keep : {0.0, 0.3, 0.9, 1.0}) {
    Case given = of(fmt::format("dropout, keeping {}", p_keep), zoo::causal(), Problem::uniform(2, 2, 1, 130, 170));
    given.dropout = Dropout(p_keep, 0x123456789abcdefULL, 5);
    expect(given);
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, ForwardOnGpu, ::testing::Bool(),
                         [](const auto& one) { return one.param ? "Portable" : "Newest"; });

class ForwardPlansOnGpu : public jit::WithGpu {
 protected:
  jit::Compiler& compiler_ = jit::Compiler::instance();  // TILEWISE_CACHE_DIR keeps what many runs compile
};

TEST_F(ForwardPlansOnGpu, TheFirstCandidatesAreRight) {
  const auto& device = context_->device();
  const Multiprocessor limits{device.shared_bytes_per_multiprocessor, device.shared_bytes_per_block,
                              device.registers_per_multiprocessor};
  for (const int d : {64, 128, 256}) {
    Case given;
    given.variant = zoo::causal();
    given.with_lists = true;
    given.problem = Problem::uniform(1, 2, 1, 300, 300);
    given.d_qk = given.d_v = d;
    std::vector<ForwardPlan> plans = forward_candidates({.d_qk = d, .d_v = d, .has_lists = true}, limits);
    plans.resize(std::min<std::size_t>(plans.size(), 8));
    for (const ForwardPlan& plan : plans) {
      given.name = fmt::format("d {}, {}", d, plan.text());
      given.plan = plan;
      expect_right(context_, compiler_, given);
    }
  }
}

}  // namespace
}  // namespace tilewise::cuda::testing
