// Transformers of every make against their definition in float64.
#include "nn/transformer.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "tests/nn/small_model.h"
#include "tests/refusal.h"

namespace tilewise::nn {
namespace {

struct Make {
  const char* name;
  SmallModel model;

  friend void PrintTo(const Make& make, std::ostream* to) { *to << make.name; }
};

SmallModel changed(const std::function<void(SmallModel&)>& change) {
  SmallModel model;
  change(model);
  return model;
}

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

/// A sequence, its cache and its decoder.
struct Cached {
  Cached(std::shared_ptr<const Transformer> its_model, std::int64_t page_tokens,
         Executor& executor = default_executor(), std::optional<Variant> variant = {}, DType dtype = DType::float32)
      : model(std::move(its_model)),
        cache(model->cache_shape(256, dtype, page_tokens)),
        decoder(model, cache.shape(), {.tokens = 64, .chunks = 6, .length = 400}, executor, std::move(variant)) {}

  std::vector<float> step(const std::vector<Chunk>& chunks) {
    for (const Chunk& chunk : chunks) cache.append(chunk.sequence, chunk.tokens);
    return computed(chunks);
  }
  std::vector<float> computed(const std::vector<Chunk>& chunks) {
    std::vector<float> logits(static_cast<std::size_t>(Decoder::logits_rows(chunks) * model->shape().vocabulary),
                              -1.0F);
    decoder.forward(chunks, cache, logits.data());
    return logits;
  }

  std::shared_ptr<const Transformer> model;
  KvCache cache;
  Decoder decoder;
};

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

/// Blocks of 32 need wider matrices.
SmallModel wide() {
  SmallModel model;
  model.shape.width = 64;
  model.shape.d_qk = model.shape.d_v = 16;
  model.shape.mlp = 96;
  model.rotated = 16;
  return model;
}

/// A model whose matrices are random blocks of q8_0.
std::shared_ptr<const Transformer> quantised(const SmallModel& model) {
  auto parts = parts_of(model);
  std::mt19937 random(5);
  const auto replace = [&](Linear& matrix) {
    const std::int64_t blocks = matrix.rows() * matrix.columns() / 32;
    auto stored = std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(blocks * 34));
    for (std::byte& byte : *stored) byte = static_cast<std::byte>(random());
    for (std::int64_t block = 0; block < blocks; ++block) {
      const std::uint16_t scale = 0x1400;  // 2^-10 in float16
      std::memcpy(stored->data() + block * 34, &scale, sizeof(scale));
    }
    matrix = Linear({WeightKind::q8_0, matrix.rows(), matrix.columns(), stored->data()}, Precision::rounded);
    parts->owners.push_back(stored);
  };
  replace(parts->embedding);
  replace(parts->logits);
  for (BlockPart& block : parts->blocks) {
    for (Projection* each : {&block.attention.q, &block.attention.k, &block.attention.v, &block.attention.out,
                             &block.mlp.gate, &block.mlp.up, &block.mlp.down}) {
      replace(each->weights);
    }
  }
  return std::make_shared<const Transformer>(std::move(parts));
}

/// Steps of one request: a prompt, then tokens one at a time. All logits.
std::vector<float> alone(Cached& run, std::span<const std::int32_t> tokens, std::size_t prompt) {
  const KvSequence sequence = run.cache.start();
  std::vector<float> all = run.step({{sequence, tokens.first(prompt), 0}});
  for (std::size_t i = prompt; i < tokens.size(); ++i) {
    const auto logits = run.step({{sequence, tokens.subspan(i, 1), static_cast<std::int64_t>(i)}});
    all.insert(all.end(), logits.begin(), logits.end());
  }
  run.cache.finish(sequence);
  return all;
}

void expect_same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    ASSERT_EQ(std::bit_cast<std::uint32_t>(a[i]), std::bit_cast<std::uint32_t>(b[i])) << i;
}

TEST(Decoder, GivesARequestTheSameBitsInAnyCompanyAndOnAnyThreads) {
  const SmallModel model = wide();
  const auto transformer = quantised(model);
  const auto tokens = some_tokens(30, model.shape, 11);
  const auto v = static_cast<std::ptrdiff_t>(model.shape.vocabulary);
  const auto one = make_thread_pool(1), three = make_thread_pool(3);
  for (const DType dtype : {DType::float32, DType::bfloat16, DType::int8}) {
    Cached quiet(transformer, 4, *one, {}, dtype);
    const std::vector<float> expected = alone(quiet, tokens, 21);
    for (Executor* executor : {one.get(), three.get()}) {
      for (unsigned seed = 0; seed < 5; ++seed) {
        Cached run(transformer, 4, *executor, {}, dtype);
        std::mt19937 random(seed);
        const std::span all(tokens);
        const KvSequence mine = run.cache.start();
        std::vector<float> logits;
        for (std::size_t at = 0; at < tokens.size();) {
          const std::size_t count = at == 0 ? 21 : 1;
          // Others that join and leave: anything from nobody to three chunks of prompts, before it and behind it.
          std::vector<std::vector<std::int32_t>> others;
          for (std::uint32_t i = random() % 4; i > 0; --i)
            others.push_back(some_tokens(1 + random() % 14, model.shape, static_cast<unsigned>(random())));
          std::vector<Chunk> chunks;
          for (const auto& other : others) chunks.push_back({run.cache.start(), other, 0, Logits::last});
          const std::size_t place = others.empty() ? 0 : random() % (others.size() + 1);
          chunks.insert(chunks.begin() + static_cast<std::ptrdiff_t>(place),
                        {mine, all.subspan(at, count), static_cast<std::int64_t>(at), Logits::last});
          const auto step = run.step(chunks);
          const auto begin = step.begin() + static_cast<std::ptrdiff_t>(place) * v;
          logits.insert(logits.end(), begin, begin + v);
          for (const Chunk& chunk : chunks) {
            if (chunk.sequence != mine) run.cache.finish(chunk.sequence);
          }
          at += count;
        }
        expect_same_bits(logits, expected);
      }
    }
  }
}

TEST(Decoder, GivesTheSameBitsFromPagesAsFromOnePiece) {
  const SmallModel model = wide();
  const auto transformer = transformer_of(model);
  const auto tokens = some_tokens(50, model.shape, 12);
  Cached contiguous(transformer, 400);
  const std::vector<float> expected = alone(contiguous, tokens, 37);
  for (const std::int64_t page_tokens : {1, 3, 16}) {
    Cached paged(transformer, page_tokens);
    // Pages out of order: others came and went before.
    const auto other = some_tokens(30, model.shape, 13);
    const KvSequence first = paged.cache.start(), second = paged.cache.start();
    paged.cache.append(first, other);
    paged.cache.append(second, other);
    paged.cache.finish(first);
    expect_same_bits(alone(paged, tokens, 37), expected);
  }
}

TEST(Decoder, NeedsNoPagesThatTheVariantNeverSeesAgain) {
  const SmallModel model = wide();
  const auto transformer = transformer_of(model);
  const Variant variant = parse_variant("streaming_llm(4, 16)");
  const auto tokens = some_tokens(120, model.shape, 14);
  Cached whole(transformer, 4, default_executor(), variant), holes(transformer, 4, default_executor(), variant);
  const std::vector<float> expected = alone(whole, tokens, 20);
  const KvSequence sequence = holes.cache.start();
  const std::span all(tokens);
  std::vector<float> logits = holes.step({{sequence, all.first(20), 0}});
  for (std::size_t i = 20; i < tokens.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    if ((at - 15) / 4 > 1) holes.cache.drop_pages(sequence, 1, (at - 15) / 4 - 1);
    const auto step = holes.step({{sequence, all.subspan(i, 1), at}});
    logits.insert(logits.end(), step.begin(), step.end());
    EXPECT_LE(holes.cache.account().live_pages, 7);
  }
  expect_same_bits(logits, expected);
}

TEST(Decoder, ComputesForksAsIfEachWereAlone) {
  const SmallModel model = wide();
  const auto transformer = quantised(model);
  const auto prompt = some_tokens(10, model.shape, 15);
  Cached run(transformer, 4);
  const KvSequence first = run.cache.start();
  run.step({{first, prompt, 0}});
  const KvSequence second = run.cache.fork(first);
  const std::vector<std::int32_t> left{1}, right{2};
  const auto both = run.step({{first, left, 10}, {second, right, 10}});
  const auto v = static_cast<std::ptrdiff_t>(model.shape.vocabulary);
  for (const std::int32_t last : {1, 2}) {
    Cached single(transformer, 4);
    std::vector<std::int32_t> tokens = prompt;
    tokens.push_back(last);
    const auto expected = alone(single, tokens, 10);
    expect_same_bits({both.begin() + (last - 1) * v, both.begin() + last * v}, {expected.end() - v, expected.end()});
  }
}

TEST(FirstKeys, AreMovedAsIfTheyHadBeenComputedThere) {
  for (const Pairing pairing : {Pairing::halves, Pairing::neighbours}) {
    SmallModel model = wide();
    model.pairing = pairing;
    // Keys of a first layer depend on token and position alone.
    const auto transformer = transformer_of(model);
    const auto tokens = some_tokens(60, model.shape, 16);
    Cached run(transformer, 4);
    const KvSequence sequence = run.cache.start();
    run.step({{sequence, tokens, 0}});
    const TransformerShape& s = model.shape;
    const auto read = [&](std::int64_t first) {
      std::pair<std::vector<float>, std::vector<float>> rows;
      rows.first.resize(static_cast<std::size_t>(s.h_kv * 4 * s.d_qk));
      rows.second.resize(static_cast<std::size_t>(s.h_kv * 4 * s.d_v));
      run.cache.read(sequence, 0, first, Tensor(rows.first.data(), DType::float32, {s.h_kv, 4, s.d_qk}),
                     Tensor(rows.second.data(), DType::float32, {s.h_kv, 4, s.d_v}));
      return rows;
    };
    std::vector<std::int32_t> again = tokens;
    std::copy_n(tokens.begin(), 4, again.begin() + 40);  // the first tokens, 40 positions later
    Cached later(transformer, 4);
    const KvSequence other = later.cache.start();
    later.step({{other, again, 0}});
    std::vector<float> expected(static_cast<std::size_t>(s.h_kv * 4 * s.d_qk)),
        values(static_cast<std::size_t>(s.h_kv * 4 * s.d_v));
    later.cache.read(other, 0, 40, Tensor(expected.data(), DType::float32, {s.h_kv, 4, s.d_qk}),
                     Tensor(values.data(), DType::float32, {s.h_kv, 4, s.d_v}));

    const auto original = read(0);
    FirstKeys keys(transformer, run.cache, sequence, 4);
    keys.move(run.cache, sequence, 25);
    keys.move(run.cache, sequence, 40);
    const auto moved = read(0);
    for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(moved.first[i], expected[i], 2e-6);
    EXPECT_EQ(moved.second, original.second);
    keys.move(run.cache, sequence, 0);
    EXPECT_EQ(read(0).first, original.first);
  }
}

TEST(FirstKeys, NeedRotaryEmbedding) {
  const SmallModel model = changed([](SmallModel& m) {
    m.shape.is_rotary = false;
    m.has_learned_positions = true;
  });
  Cached run(transformer_of(model), 4);
  const KvSequence sequence = run.cache.start();
  EXPECT_NE(refusal([&] { FirstKeys(run.model, run.cache, sequence, 0); }, ErrorCode::unsupported), "");
}

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
