// Decoders of every make against their definition in float64, and what they refuse.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/nn/cached_model.h"
#include "tests/refusal.h"

namespace tilewise::nn {
namespace {

struct Make {
  const char* name;
  SmallModel model;

  friend void PrintTo(const Make& make, std::ostream* to) { *to << make.name; }
};

std::vector<Make> decoders() {
  return {
      {"llama", {}},
      {"mha_neighbours", changed([](SmallModel& m) {
         m.shape.h_kv = 4;
         m.pairing = Pairing::neighbours;
         m.rotated = 4;
       })},
      {"mqa_biases", changed([](SmallModel& m) {
         m.shape.h_kv = 1;
         m.has_biases = true;
       })},
      {"gpt2", changed([](SmallModel& m) {
         m.shape.is_rotary = m.is_gated = false;
         m.norm = NormKind::layer;
         m.has_biases = m.has_learned_positions = true;
         m.activation = Activation::gelu_tanh;
       })},
      {"sinusoidal_norm_after", changed([](SmallModel& m) {
         m.shape.is_rotary = m.is_gated = false;
         m.has_sinusoidal_positions = true;
         m.placement = NormPlacement::after;
         m.norm = NormKind::layer;
         m.activation = Activation::relu;
       })},
      {"norm_inside", changed([](SmallModel& m) { m.placement = NormPlacement::inside; })},
      {"window", changed([](SmallModel& m) {
         m.variant = zoo::window(5);
         m.keeps = [](std::int64_t query, std::int64_t key) { return key <= query && query - key < 5; };
       })},
      {"streaming_llm", changed([](SmallModel& m) {
         m.variant = parse_variant("streaming_llm(2, 6)");
         m.keeps = [](std::int64_t query, std::int64_t key) { return key <= query && (query - key < 6 || key < 2); };
       })},
  };
}

void expect_near(const std::vector<float>& logits, const Matrix& expected, std::size_t first_row = 0) {
  const std::size_t width = expected.front().size();
  ASSERT_EQ(logits.size() % width, 0u);
  for (std::size_t i = 0; i < logits.size(); ++i)
    ASSERT_NEAR(logits[i], expected[first_row + i / width][i % width], 2e-4) << "row " << i / width;
}

class Decoders : public ::testing::TestWithParam<Make> {};

TEST_P(Decoders, AreTheDefinition) {
  const SmallModel& model = GetParam().model;
  const std::vector<std::int32_t> tokens = some_tokens(40, model.shape, 3);
  const Matrix expected = Definition(model).logits(tokens);
  Cached run(transformer_of(model), 4);
  const KvSequence sequence = run.cache.start();
  // A prompt in two chunks, then token by token.
  const std::span all(tokens);
  expect_near(run.step({{sequence, all.first(19), 0, Logits::all}}), expected);
  expect_near(run.step({{sequence, all.subspan(19, 12), 19, Logits::last}}), expected, 30);
  for (std::size_t i = 31; i < 40; ++i)
    expect_near(run.step({{sequence, all.subspan(i, 1), static_cast<std::int64_t>(i)}}), expected, i);
}

INSTANTIATE_TEST_SUITE_P(EachMake, Decoders, ::testing::ValuesIn(decoders()),
                         [](const auto& make) { return std::string(make.param.name); });

TEST(Decoder, ComputesSequencesTogetherAsTheDefinitionDoesEach) {
  const SmallModel model;
  Cached run(transformer_of(model), 4);
  const auto a = some_tokens(20, model.shape, 1), b = some_tokens(9, model.shape, 2),
             c = some_tokens(12, model.shape, 3);
  const Definition definition(model);
  const KvSequence first = run.cache.start(), second = run.cache.start(), third = run.cache.start();
  const std::size_t v = static_cast<std::size_t>(model.shape.vocabulary);
  const auto logits = run.step({{first, a, 0, Logits::last}, {second, b, 0, Logits::none}, {third, c, 0, Logits::all}});
  ASSERT_EQ(logits.size(), 13 * v);
  expect_near({logits.begin(), logits.begin() + static_cast<std::ptrdiff_t>(v)}, definition.logits(a), 19);
  expect_near({logits.begin() + static_cast<std::ptrdiff_t>(v), logits.end()}, definition.logits(c));
  // The one whose logits nobody asked for is cached all the same.
  std::vector<std::int32_t> more = b;
  more.push_back(7);
  expect_near(run.step({{second, std::span(more).last(1), 9}}), definition.logits(more), 9);
}

TEST(Decoder, RefusesWhatItCannotCompute) {
  const SmallModel model = changed([](SmallModel& m) {
    m.shape.is_rotary = false;
    m.has_learned_positions = true;
  });
  Cached run(transformer_of(model), 4);
  const KvSequence sequence = run.cache.start();
  const auto tokens = some_tokens(65, model.shape, 1);
  run.cache.append(sequence, tokens);
  const std::span all(tokens);
  const auto step = [&](std::vector<Chunk> chunks) { return [&run, chunks] { run.computed(chunks); }; };
  expect_refused(step({{sequence, all.first(2), 63}}), {"token 65", "64 positions"});
  expect_refused(step({{sequence, all.first(5), 61}}), {"[61, 61 + 5)", "65", "append()"});
  expect_refused(step({{sequence, all.first(5), -1}}), {"[-1, "});
  expect_refused(step({{sequence, {}, 0}}), {"chunk 0 has no tokens"});
  expect_refused(step({{sequence, all.first(4), 0}, {sequence, all.first(4), 4}}), {"chunks 0 and 1"});
  const std::vector<std::int32_t> outside{50};
  expect_refused(step({{sequence, outside, 0}}), {"token 50", "[0, 50)"});
  KvCache other(run.model->cache_shape(8, DType::bfloat16));
  expect_refused(
      [&] {
        run.decoder.forward(std::vector<Chunk>{{other.start(), all.first(1), 0}}, other, nullptr);
      },
      {"another shape"});
  KvCacheShape wrong = run.cache.shape();
  wrong.layers = 3;
  expect_refused([&] { Decoder(run.model, wrong, {}, default_executor()); }, {"3 layers"});
  expect_refused([&] { Decoder(run.model, run.cache.shape(), {.tokens = 0}, default_executor()); }, {"0 tokens"});
}

TEST(Transformer, RefusesPartsThatDoNotFit) {
  auto parts = parts_of({});
  parts->blocks[1].mlp.down = parts->blocks[1].mlp.up;
  expect_refused([&] { Transformer(std::move(parts)); }, {"down", "[40, 24]", "[24, 40]"});
}

}  // namespace
}  // namespace tilewise::nn
