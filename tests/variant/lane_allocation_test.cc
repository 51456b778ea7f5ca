// Running a lane program allocates nothing: operator new is counted.
#include <gtest/gtest.h>

#include <vector>

#include "tests/counted_allocations.h"
#include "variant/lanes/runner.h"
#include "variant/lanes/variant_lanes.h"

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

  const std::int64_t before = allocations;
  LaneRunner runner(lanes.partial, std::span(memory).subspan(skipped));
  runner.enter(bound, Place{});
  runner.run({0, 32, 0, 32}, tile[0], {}, tile);
  runner.run({32, 61, 0, 32}, tile[0], {}, tile);
  EXPECT_EQ(allocations, before);

  operator delete(operator new(1));  // no expression, which Clang leaves out
  EXPECT_GT(allocations, before) << "the counter does not count";
}

}  // namespace
}  // namespace tilewise::variant
