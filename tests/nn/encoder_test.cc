// Encoders against their definition in float64, and what they refuse.
#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <vector>

#include "tests/nn/cached_model.h"
#include "tests/refusal.h"

namespace tilewise::nn {
namespace {

TEST(Encoder, IsTheDefinitionOfEachSequence) {
  const SmallModel model = changed([](SmallModel& m) {
    m.shape.is_rotary = m.is_gated = false;
    m.shape.is_encoder = true;
    m.shape.h_kv = 4;
    m.norm = NormKind::layer;
    m.placement = NormPlacement::after;
    m.has_biases = m.has_learned_positions = true;
    m.activation = Activation::gelu;
    m.variant = {};
    m.keeps = [](std::int64_t, std::int64_t) { return true; };
  });
  const Definition definition(model);
  Encoder encoder(transformer_of(model), {.tokens = 64, .chunks = 4, .length = 40}, default_executor());
  const std::vector<std::int64_t> lengths{3, 30, 1, 9};
  const auto tokens = some_tokens(43, model.shape, 4);
  std::vector<float> hidden(43 * 24);
  encoder.forward(tokens, lengths, hidden.data());
  std::size_t row = 0;
  for (const std::int64_t length : lengths) {
    const Matrix expected = definition.hidden(std::span(tokens).subspan(row, static_cast<std::size_t>(length)));
    for (const Row& each : expected) {
      for (std::size_t i = 0; i < each.size(); ++i) ASSERT_NEAR(hidden[row * 24 + i], each[i], 2e-5);
      ++row;
    }
  }
  const auto forward = [&](std::vector<std::int32_t> some, std::vector<std::int64_t> some_lengths) {
    return [&, some, some_lengths] { encoder.forward(some, some_lengths, hidden.data()); };
  };
  expect_refused(forward(tokens, {3, 30, 1, 8}), {"43 tokens", "42"});
  expect_refused(forward(tokens, {43}), {"sequence 0 has 43 tokens", "1 to 40"});
  expect_refused(forward({50}, {1}), {"token 0 is 50", "[0, 50)"});
  expect_refused(forward({1, 1}, {2, 0}), {"sequence 1 has 0 tokens"});
  EXPECT_NE(refusal([&] { Encoder(transformer_of({}), {}, default_executor()); }, ErrorCode::unsupported), "");
  EXPECT_NE(refusal(
                [&] {
                  const auto encoders = transformer_of(model);
                  Decoder(encoders, encoders->cache_shape(4, DType::float32), {}, default_executor());
                },
                ErrorCode::unsupported),
            "");
}

}  // namespace
}  // namespace tilewise::nn
