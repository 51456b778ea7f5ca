// The largest score of each head, which a forward pass can be asked for.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "tests/attention/oracle.h"
#include "tests/refusal.h"
#include "tilewise/error.h"
#include "tilewise/zoo.h"

namespace tilewise::attention::testing {
namespace {

// By hand: one head, scale 1. The second query keeps the first key alone; softcap changes no score before it.
TEST(MaxScores, AreOfKeptEntriesBeforeTheVariantsScores) {
  const std::array<float, 4> q = {1, 0, 0, 1};            // [s_q, d_qk]
  const std::array<float, 6> k = {-3, 2, 5, 9, -1, 100};  // [s_kv, d_qk]
  const std::array<float, 6> v = {1, 2, 3, 4, 5, 6};      // [s_kv, d_v]
  std::array<float, 4> o{};
  std::array<float, 1> largest = {std::nanf("")};
  const Variant variant = keep([](const At& at) { return at.key_index < 2 - at.query_index; }) & zoo::softcap(1);
  const auto of = [&](const auto& values, std::int64_t rows) {
    return ConstTensor(values.data(), DType::float32, {1, 1, rows, 2});
  };
  const ForwardInputs inputs{.q = of(q, 2), .k = of(k, 3), .v = of(v, 3), .scale = 1};
  const ForwardOutputs outputs{.o = Tensor(o.data(), DType::float32, {1, 1, 2, 2}),
                               .max_score = Tensor(largest.data(), DType::float32, {1})};
  const Plan plan = Attention(variant).plan({.dtype = DType::float32, .d_qk = 2, .d_v = 2, .s_q = 2, .s_kv = 3});
  plan.forward(inputs, outputs);
  EXPECT_EQ(largest[0], 5);  // query 0 and key 1; query 1 has 2 for key 0, and neither keeps key 2
}

TEST(MaxScores, AreThoseOfStandardAttention) {
  const Variant none = keep([](const At& at) { return at.query_index < 0; });
  for (const DType dtype : {DType::float32, DType::bfloat16, DType::float16, DType::float64}) {
    for (const Variant& variant : {Variant(), zoo::causal(), zoo::window(9), zoo::alibi(4) & zoo::softcap(3), none}) {
      for (const std::int64_t s_q : {1, 3, 70}) {  // decoded, and not
        Oracle oracle(dtype, false);
        oracle.max_scores = true;
        oracle.run(variant, uniform(2, 4, 2, s_q, 90, 16, 8), {}, static_cast<std::uint64_t>(s_q));
        oracle.run(variant, uniform(1, 4, 1, s_q, 300, 24, 8), {}, static_cast<std::uint64_t>(s_q), -0.3);
        oracle.expect_close(to_string(variant) + ", " + std::string(to_string(dtype)));
      }
    }
  }
}

TEST(MaxScores, CountSequencesOfEveryLengthInEveryStorage) {
  reference::Shape shape{.h_q = 4, .h_kv = 2, .d_qk = 24, .d_v = 16};
  shape.sequences = uneven_sequences();
  for (const bool is_packed : {false, true}) {
    shape.queries_packed = shape.keys_packed = is_packed;
    Oracle oracle(DType::float32, false);
    oracle.max_scores = true;
    oracle.run(zoo::causal(), shape, {}, 1);
    oracle.expect_close("uneven");
  }
}

TEST(MaxScores, AreRefusedInOtherShapesAndDtypes) {
  const Plan plan =
      Attention().plan({.dtype = DType::float32, .h_q = 2, .h_kv = 2, .d_qk = 8, .d_v = 8, .s_q = 4, .s_kv = 4});
  reference::AttentionData data(uniform(1, 2, 2, 4, 4, 8, 8), 1, DType::float32, DType::float32);
  std::array<double, 3> memory{};
  const auto refuse = [&](const Tensor& max_score, const char* message) {
    ForwardOutputs outputs = data.outputs();
    outputs.max_score = max_score;
    const std::string found = refusal([&] { plan.forward(data.inputs, outputs); }, ErrorCode::invalid_argument);
    EXPECT_NE(found.find(message), std::string::npos) << found;
  };
  refuse(Tensor(memory.data(), DType::float64, {2}), "max_score has dtype float64; expected float32");
  refuse(Tensor(memory.data(), DType::float32, {3}), "max_score");
}

}  // namespace
}  // namespace tilewise::attention::testing
