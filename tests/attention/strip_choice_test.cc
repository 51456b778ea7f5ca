// Which strips a plan takes for its mask: costs from the masks' geometry, and the same results either way.
#include "attention/strip_choice.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

#include "attention/call_masks.h"
#include "core/isa.h"
#include "cpu/select.h"
#include "tests/attention/oracle.h"
#include "tilewise/zoo.h"

namespace tilewise::attention::testing {
namespace {

/// Blocks along the diagonal.
Variant blocks_of(std::int32_t size) {
  return keep([size](const At& at) { return floor_divide(at.query, size) == floor_divide(at.key, size); });
}

/// Strips of 32 and 16 queries, sizes alone.
struct Sizes {
  cpu::Kernels narrow{}, wide{};
  Sizes() {
    for (cpu::Kernels* kernels : {&narrow, &wide}) {
      kernels->tile_queries = 384;
      kernels->tile_keys = 128;
      kernels->strip_queries = 32;
    }
    narrow.strip_queries = 16;
    wide.narrow = &narrow;
  }
};

PlanShape lengths(std::int64_t s) { return {.d_qk = 64, .d_v = 64, .s_q = s, .s_kv = s}; }

StripChoice choose(const Variant& variant, const PlanShape& shape, const Sizes& sizes) {
  return choose_strips(sizes.wide, CallMasks(variant, shape).planned(), shape);
}

TEST(StripChoice, TakesNarrowStripsForBlocksOfSixteen) {
  const Sizes sizes;
  const StripChoice found = choose(blocks_of(16), lengths(3072), sizes);
  EXPECT_EQ(found.kernels, &sizes.narrow);
  // Four tasks of 384 queries: every strip of 16 keeps one block whole, one of 32 visits the keys of two.
  EXPECT_EQ(found.narrow.visited, 4 * 384 * 16);
  EXPECT_EQ(found.wide.visited, 4 * 384 * 32);
  EXPECT_EQ(found.narrow.partial, 0);
  EXPECT_GT(found.wide.partial, 0);
}

TEST(StripChoice, TakesNarrowStripsForNarrowWindows) {
  const Sizes sizes;
  EXPECT_EQ(choose(zoo::window(64), lengths(4096), sizes).kernels, &sizes.narrow);
  EXPECT_EQ(choose(zoo::window(4096), lengths(65536), sizes).kernels, &sizes.wide);
}

TEST(StripChoice, TakesWideStripsWhereNarrowOnesGainNothing) {
  const Sizes sizes;
  EXPECT_EQ(choose(zoo::causal(), lengths(4096), sizes).kernels, &sizes.wide);
  const StripChoice blocks = choose(blocks_of(128), lengths(3072), sizes);
  EXPECT_EQ(blocks.kernels, &sizes.wide);
  EXPECT_EQ(blocks.wide.visited, 4 * 384 * 128);
  EXPECT_EQ(blocks.narrow.visited, blocks.wide.visited);
}

TEST(StripChoice, TellsWhereQueriesVisitFewKeys) {
  const Sizes sizes;
  EXPECT_TRUE(choose(zoo::window(64), lengths(4096), sizes).visits_few_keys);
  EXPECT_FALSE(choose(zoo::window(512), lengths(4096), sizes).visits_few_keys);
  EXPECT_FALSE(choose(zoo::causal(), lengths(4096), sizes).visits_few_keys);
  EXPECT_FALSE(choose({}, lengths(4096), sizes).visits_few_keys);
  // A task whose first tiles are many and partial is not looked at to its end.
  const Variant every_hundredth = keep([](const At& at) { return at.key % 100 == 0 && at.query % 100 == 0; });
  EXPECT_FALSE(choose(every_hundredth, lengths(65536), sizes).visits_few_keys);
}

TEST(StripChoice, HasNothingToChooseWithoutAMaskOrAnAlternative) {
  const Sizes sizes;
  EXPECT_EQ(choose({}, lengths(4096), sizes).kernels, &sizes.wide);
  EXPECT_EQ(choose(zoo::window(64), lengths(8), sizes).kernels, &sizes.wide) << "decoding has no strips";
  EXPECT_EQ(choose(zoo::window(64), lengths(8), sizes).wide.visited, 0);
  const StripChoice alone =
      choose_strips(sizes.narrow, CallMasks(zoo::window(64), lengths(4096)).planned(), lengths(4096));
  EXPECT_EQ(alone.kernels, &sizes.narrow);
}

TEST(StripChoice, FollowsThePlanAlone) {
  const Sizes sizes;
  const Table live("live", DType::float32, 1);
  const Variant bound = keep([&](const At& at) { return live(at.query_index) > 0.0f; }) & zoo::window(64);
  PlanShape shape = lengths(4096);
  shape.tables = {{live, {4096}}};
  EXPECT_EQ(choose(bound, shape, sizes).kernels, &sizes.narrow) << "by the window, whatever calls bind";
}

TEST(StripChoice, IsExplained) {
  const cpu::Kernels* kernels = cpu::kernels_for(chosen_isa());
  if (kernels == nullptr || kernels->narrow == nullptr) GTEST_SKIP() << "no narrow strips on this processor";
  const Variant blocks = blocks_of(16);
  const std::string text = Attention(blocks).plan(lengths(2048)).explain();
  const std::string wanted = "strips: of " + std::to_string(kernels->narrow->strip_queries) + " queries";
  EXPECT_NE(text.find(wanted), std::string::npos) << text;
  EXPECT_EQ(Attention().plan(lengths(2048)).explain().find("strips: of"), std::string::npos);
}

TEST(StripChoice, ChangesNoResultBeyondTheTolerance) {
  const std::pair<const char*, Variant> variants[] = {
      {"blocks of 16", blocks_of(16)},
      {"blocks of 64, strided",
       keep([](const At& at) { return (floor_divide(at.query, 64) + floor_divide(at.key, 64)) % 3 == 0; })},
      {"window", zoo::window(40)},
      {"window with a soft cap", zoo::window(24) & zoo::softcap(5)}};
  std::mt19937_64 random(23);
  for (const auto& [name, variant] : variants) {
    for (const bool backward : {false, true}) {
      Oracle oracle(DType::float32, backward);
      for (const reference::Shape& shape :
           {uniform(1, 2, 1, 64, 64, 64, 64), uniform(2, 4, 2, 257, 257, 32, 48), uniform(1, 1, 1, 500, 631, 72, 16)})
        oracle.run(variant, shape, {}, random());
      oracle.expect_close(std::string(name) + (backward ? ", backward" : ", forward"));
    }
  }
}

}  // namespace
}  // namespace tilewise::attention::testing
