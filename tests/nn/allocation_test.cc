// A step allocates nothing once the decoder has seen one as large: operator new is counted.
#include <gtest/gtest.h>

#include "tests/counted_allocations.h"
#include "tests/nn/small_model.h"

namespace tilewise::nn {
namespace {

TEST(Allocations, AreNotMadeBySteps) {
  const SmallModel model;
  const auto transformer = transformer_of(model);
  for (const DType dtype : {DType::float32, DType::int8}) {
    KvCache cache(transformer->cache_shape(64, dtype, 4));
    Decoder decoder(transformer, cache.shape(), {.tokens = 32, .chunks = 2, .length = 64}, default_executor());
    const KvSequence first = cache.start(), second = cache.start();
    const auto prompt = some_tokens(20, model.shape, 1), token = some_tokens(1, model.shape, 2);
    cache.append(first, prompt);
    cache.append(second, prompt);
    cache.append(second, token);
    std::vector<float> logits(static_cast<std::size_t>(21 * model.shape.vocabulary));
    const Chunk prompts[] = {{first, prompt, 0, Logits::all}}, others[] = {{second, prompt, 0, Logits::last}};
    decoder.forward(prompts, cache, logits.data());
    decoder.forward(others, cache, logits.data());
    const Chunk both[] = {{first, prompt, 0, Logits::all}, {second, token, 20, Logits::last}};
    decoder.forward(both, cache, logits.data());
    const std::int64_t before = allocations;
    decoder.forward(both, cache, logits.data());
    decoder.forward(prompts, cache, logits.data());
    EXPECT_EQ(allocations - before, 0) << to_string(dtype);
  }
}

}  // namespace
}  // namespace tilewise::nn
