// Gradients of tables and parameters by the backward kernels for compute capability 9.0: every class of elements, held
// to standard attention, and walks over many tiles, held to the portable kernels.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <tuple>

#include "tests/gpu/gpu_caller.h"
#include "tests/gpu/with_hopper.h"
#include "tilewise/zoo.h"

namespace tilewise::attention::testing {
namespace {

struct Differentiated {
  const char* name;
  Variant variant;
};

const std::vector<Differentiated>& differentiated() {
  static const std::vector<Differentiated> all = [] {
    const Table by_distance("by_distance", DType::float32, 2), slopes("slopes", DType::float32, 1),
        of_queries("of_queries", DType::float32, 2), of_keys("of_keys", DType::float32, 2),
        of_entries("of_entries", DType::float32, 3), sink_of("sink_of", DType::float32, 1);
    const Parameter cap("cap", 1, 100), gain("gain", 0.5, 2);
    return std::vector<Differentiated>{
        {"t5", zoo::t5_buckets(8, 40)},
        {"t5_causal", zoo::t5_buckets(8, 40, false) & zoo::causal()},
        {"relative", zoo::relative_position(20)},
        {"distances",
         score([&](Expr s, const At& at) { return s * by_distance(at.head, at.query_index - at.key_index + 300); })},
        {"slopes", score([&](Expr s, const At& at) { return s - slopes(at.head) * abs(at.query - at.key) * 0.01; })},
        {"keys", score([&](Expr s, const At& at) { return s + of_keys(at.kv_head, at.key_index); }) & zoo::causal()},
        {"queries", score([&](Expr s, const At& at) { return s * of_queries(at.head, at.query_index); })},
        {"entries", score([&](Expr s, const At& at) { return s + of_entries(at.head, at.query_index, at.key_index); })},
        {"sink", zoo::window(50) & sink([&](const At& at) { return sink_of(at.head); })},
        {"stages",
         zoo::relative_position(20) & zoo::causal() & score([&](Expr s, const At&) { return cap * tanh(s / cap); })},
        {"several", score([&](Expr s, const At& at) {
           return s * of_queries(at.head, at.query_index) * by_distance(at.head, at.query_index - at.key_index + 300) +
                  s * of_keys(at.kv_head, at.key_index) * gain;
         })}};
  }();
  return all;
}

class HopperGradientsOnGpu : public cuda::testing::WithHopper {
 protected:
  void SetUp() override {
    WithHopper::SetUp();
    if (context_ != nullptr) caller_.emplace(context_);
  }

  std::optional<GpuCaller> caller_;
};

class HopperGradientsOfClass : public HopperGradientsOnGpu,
                               public ::testing::WithParamInterface<std::tuple<std::size_t, int>> {};

TEST_P(HopperGradientsOfClass, AreRight) {
  const auto& [number, d] = GetParam();
  const Differentiated& one = differentiated()[number];
  const reference::Shape shape = uniform(2, 4, 2, 150, 210, d, d);
  Oracle oracle(DType::bfloat16, true, &*caller_);
  oracle.run(one.variant, shape, bind_random(one.variant, problem_of(shape), 1), 1);
  oracle.expect_close(one.name);
}

INSTANTIATE_TEST_SUITE_P(All, HopperGradientsOfClass,
                         ::testing::Combine(::testing::Range<std::size_t>(0, 11), ::testing::Values(64, 128)),
                         [](const auto& one) {
                           return fmt::format("{}_{}", differentiated()[std::get<0>(one.param)].name,
                                              std::get<1>(one.param));
                         });

TEST_F(HopperGradientsOnGpu, OfDeterministicPlans) {
  for (const int d : {64, 128}) {
    for (const std::size_t number : {2, 5, 7, 9}) {
      const Differentiated& one = differentiated()[number];
      const reference::Shape shape = uniform(1, 2, 1, 150, 210, d, d);
      Oracle oracle(DType::bfloat16, true, &*caller_);
      oracle.deterministic = true;
      oracle.run(one.variant, shape, bind_random(one.variant, problem_of(shape), 1), 1);
      oracle.expect_close(one.name);
    }
  }
}

TEST_F(HopperGradientsOnGpu, OfUnevenSequencesWithDropout) {
  const Variant variant = zoo::relative_position(20) & zoo::causal() & dropout(0.5);
  reference::Shape shape{.h_q = 4, .h_kv = 2, .d_qk = 40, .d_v = 72};
  shape.sequences = uneven_sequences();
  for (const bool packed : {false, true}) {
    shape.queries_packed = packed;
    Oracle oracle(DType::float16, true, &*caller_);
    oracle.dropout = 0.3;
    oracle.run(variant, shape, bind_random(variant, problem_of(shape), 1), 1);
    oracle.expect_close(packed ? "packed" : "padded");
  }
}

/// Gradients of a variant's tables and parameters by the family for compute capability 9.0 and by the portable one,
/// which a longer sequence than standard attention can be asked for takes through many tiles with one element each.
TEST_F(HopperGradientsOnGpu, OfLongWalksAreThePortableKernels) {
  for (const int d : {64, 128}) {
    for (const Differentiated& one : {Differentiated{"T5", zoo::t5_buckets()},
                                      {"relative position", zoo::relative_position(128) & zoo::causal()}}) {
      const reference::Shape shape = uniform(1, 2, 1, 2100, 2100, d, d);
      const Bound bound = bind_random(one.variant, problem_of(shape), 1);
      reference::AttentionData data(shape, 3, DType::bfloat16, DType::float32);
      data.inputs.tables = bound.tables;
      data.inputs.parameters = bound.parameters;
      std::vector<double> found[2];
      for (const bool portable : {false, true}) {
        if (portable) setenv("TILEWISE_GPU_FAMILY", "portable", 1);
        const Plan plan = Attention(one.variant).plan(plan_shape(shape, DType::bfloat16, true, bound), Device::cuda());
        if (!portable) {
          EXPECT_EQ(plan.explain().find("gradients of tables"), std::string::npos) << plan.explain();
          caller_->forward(plan, data.inputs, data.outputs());
        }
        VariantOutputs of_variant(bound);
        BackwardOutputs outputs = data.gradients();
        of_variant.add_to(outputs);
        BackwardInputs given = data.given();
        given.o = data.o.view();
        given.lse = data.lse.view();
        caller_->backward(plan, data.inputs, given, outputs);
        for (const auto& values : of_variant.values)
          found[portable].insert(found[portable].end(), values.begin(), values.end());
        unsetenv("TILEWISE_GPU_FAMILY");
      }
      double square = 0, difference = 0;
      for (std::size_t i = 0; i < found[0].size(); ++i) {
        square += found[1][i] * found[1][i];
        difference += (found[0][i] - found[1][i]) * (found[0][i] - found[1][i]);
      }
      // Both make scores and derivatives in float32 by the same text; exponentials of two units in the last place, and
      // numbers that cancel in sums over a million entries, differ.
      EXPECT_GT(square, 0);
      EXPECT_LE(std::sqrt(difference), 1e-3 * std::sqrt(square)) << one.name << ", d " << d;
    }
  }
}

}  // namespace
}  // namespace tilewise::attention::testing
