// Running a lane program allocates nothing: this binary's operator new counts.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>
#include <vector>

#include "variant/lanes/runner.h"
#include "variant/lanes/variant_lanes.h"

namespace {
thread_local std::size_t allocations = 0;
}  // namespace

// The other forms of operator new and delete come down to these. Never inlined: GCC that inlines the delete of a pair,
// but not the new, warns that free() does not match it.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace tilewise::variant {
namespace {

TEST(LaneRunner, AllocatesNothing) {
  const float values[] = {1, 2, 3, 4, 5};
  const Table bias("bias", DType::float32, 1);
  const Variant variant = keep([](const At& at) { return at.query >= at.key; }) & score([&](Expr s, const At& at) {
                            return tanh(s) + bias.clamped(at.query - at.key) + sin(to_real(at.key));
                          });
  const Bound bound = bind(variant.data().graph, {{{bias, ConstTensor(values, DType::float32, {5})}}, {}});
  const VariantLanes lanes = lower_variant(variant, {.most_queries = 32, .most_keys = 32, .isa = chosen_isa()});
  std::vector<std::byte> memory(static_cast<std::size_t>(lanes.partial.workspace_bytes()) + 64);
  const std::size_t skipped = 64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64;
  std::vector<float> scores(32 * 32, 1.0f);
  const TileStrip tile[] = {{scores.data(), 32}};

  const std::size_t before = allocations;
  LaneRunner runner(lanes.partial, std::span(memory).subspan(skipped));
  runner.enter(bound, Place{});
  runner.run({0, 32, 0, 32}, tile[0], {}, tile);
  runner.run({32, 61, 0, 32}, tile[0], {}, tile);
  EXPECT_EQ(allocations, before);

  const std::vector<int> counted(1);
  EXPECT_GT(allocations, before) << "the counter does not count";
}

}  // namespace
}  // namespace tilewise::variant
