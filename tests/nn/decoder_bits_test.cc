// A request has the same bits in any company, on any threads, from any pages.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "tests/nn/cached_model.h"

namespace tilewise::nn {
namespace {

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

}  // namespace
}  // namespace tilewise::nn
