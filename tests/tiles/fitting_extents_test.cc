// The shapes that tables need for a problem.
#include <gtest/gtest.h>

#include "tilewise/tiles.h"
#include "tilewise/zoo.h"

namespace tilewise {
namespace {

using Extents = std::vector<std::vector<std::int64_t>>;

TEST(FittingExtents, CoverEveryIndex) {
  const Table bias("bias", DType::float32, 3);
  const Variant variant =
      score([&](Expr s, const At& at) { return s + bias(at.batch, at.head, at.query - at.key + 20); });
  EXPECT_EQ(fitting_extents(variant, Problem::uniform(2, 6, 3, 10, 20)), (Extents{{2, 6, 40}}));  // query is 10 to 19
}

TEST(FittingExtents, AreTheLargestOfSeveralReads) {
  const Table bias("bias", DType::float32, 1);
  const Variant variant =
      score([&](Expr s, const At& at) { return s + bias(at.key_index) * bias(at.query_index * 3); });
  EXPECT_EQ(fitting_extents(variant, Problem::uniform(1, 1, 1, 10, 20)), (Extents{{28}}));
}

TEST(FittingExtents, CoverASinkWithoutEntries) {
  const Table logit("logit", DType::float32, 1), bias("bias", DType::float32, 1);
  const Variant variant = score([&](Expr s, const At& at) { return s + bias(at.head); }) &
                          sink([&](const At& at) { return logit(at.head); });
  const Problem problem = Problem::uniform(1, 4, 4, 5, 0);
  const Extents extents = fitting_extents(variant, problem);
  EXPECT_NO_THROW(expect_reads_inside(variant, extents, problem));
  EXPECT_EQ(extents, (Extents{{1}, {4}}));
}

TEST(FittingExtents, LeaveFrozenTablesAsTheyAre) {
  const float numbers[] = {1, 2, 3};
  const Table frozen = Table::frozen("frozen", ConstTensor(numbers, DType::float32, {3}));
  const Variant variant = score([&](Expr s, const At& at) { return s + frozen(at.head); });
  EXPECT_EQ(fitting_extents(variant, Problem::uniform(1, 2, 2, 4, 4)), (Extents{{3}}));
}

TEST(FittingExtents, AreOneWhereNothingIsRead) {
  EXPECT_EQ(fitting_extents(Variant(), Problem::uniform(1, 1, 1, 4, 4)), Extents{});
  EXPECT_EQ(fitting_extents(zoo::dense_mask(2), Problem::uniform(1, 1, 1, 0, 4)), (Extents{{1, 1}}));
}

TEST(FittingExtents, SufficeForTheProof) {
  const Problem problem = Problem::uniform(2, 4, 2, 33, 47);
  const Variant variants[] = {zoo::learned_bias(), zoo::pair_bias(), zoo::dense_bias(2), zoo::dense_mask(4)};
  for (const Variant& variant : variants) {
    const Extents extents = fitting_extents(variant, problem);
    EXPECT_NO_THROW(expect_reads_inside(variant, extents, problem)) << to_string(variant);
  }
}

}  // namespace
}  // namespace tilewise
