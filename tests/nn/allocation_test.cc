// A step allocates nothing once the decoder has seen one as large: operator new is counted.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/nn/small_model.h"

namespace {
std::atomic<std::int64_t> allocations{0};
}  // namespace

// Replaced for the whole binary, with the form that does not throw, since sanitizers replace that one by their own. Not
// inlined: the compiler would see malloc and delete, or new and free, and warn.
__attribute__((noinline)) void* operator new(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
__attribute__((noinline)) void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(bytes == 0 ? 1 : bytes);
}
__attribute__((noinline)) void operator delete(void* memory) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

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
