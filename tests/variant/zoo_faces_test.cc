// The faces of the zoo in C++: the same variants as in text, and tables given as handles.
#include <gtest/gtest.h>

#include "tilewise/error.h"
#include "tilewise/zoo.h"
#include "tilewise/zoo_entry.h"

namespace tilewise {
namespace {

TEST(ZooFaces, RefuseTablesOfWrongRankOrType) {
  const Table vector("t", DType::float32, 1), matrix("t", DType::float32, 2), cube("t", DType::float32, 3);
  const Table bits("t", DType::boolean, 2), bit_vector("t", DType::boolean, 1), ints("t", DType::int32, 2);
  EXPECT_THROW(zoo::dense_mask(matrix), Error);
  EXPECT_THROW(zoo::dense_mask(bit_vector), Error);
  EXPECT_THROW(zoo::dense_bias(bits), Error);
  EXPECT_THROW(zoo::dense_bias(ints), Error);
  EXPECT_THROW(zoo::dense_bias(vector), Error);
  EXPECT_THROW(zoo::block_sparse(4, matrix), Error);
  EXPECT_THROW(zoo::block_sparse(0, bits), Error);
  EXPECT_THROW(zoo::pair_bias(matrix), Error);
  EXPECT_THROW(zoo::learned_bias(matrix), Error);
  EXPECT_THROW(zoo::attention_sink(matrix), Error);
  EXPECT_THROW(zoo::relative_position(cube, 4), Error);
  EXPECT_THROW(zoo::t5_buckets(cube, 32, 128, true), Error);
}

TEST(ZooFaces, FunctionsAndTextGiveTheSameVariant) {
  const Table bits("t", DType::boolean, 2), vector("t", DType::float32, 1), matrix("t", DType::float32, 2);
  const Table cube("t", DType::float32, 3), quad("t", DType::float32, 4);
  const std::pair<Variant, const char*> pairs[] = {
      {zoo::causal(), "causal()"},
      {zoo::window(1024), "window(1024)"},
      {zoo::softcap(30), "softcap(30)"},
      {zoo::temperature(0.7), "temperature(0.7)"},
      {zoo::documents({3, 4}), "documents([3, 4])"},
      {zoo::neighbourhood_1d(64, 7), "neighbourhood_1d(64, 7, 1, 1)"},
      {zoo::neighbourhood_2d({8, 8}, {3, 3}), "neighbourhood_2d([8, 8], [3, 3], [1, 1], [1, 1])"},
      {zoo::t5_buckets(), "t5_buckets(32, 128, 1)"},
      {zoo::t5_buckets(matrix, 32, 128, false), "t5_buckets(32, 128, 0)"},
      {zoo::dense_mask(bits), "dense_mask(2)"},
      {zoo::dense_bias(quad), "dense_bias(4)"},
      {zoo::block_sparse(128, bits), "block_sparse(128)"},
      {zoo::pair_bias(quad), "pair_bias(4)"},
      {zoo::learned_bias(cube), "learned_bias()"},
      {zoo::relative_position(matrix, 16), "relative_position(16)"},
      {zoo::attention_sink(vector), "attention_sink()"},
  };
  for (const auto& [variant, call] : pairs) {
    EXPECT_EQ(variant.key(), parse_variant(call).key()) << call;
    EXPECT_EQ(variant.literals(), parse_variant(call).literals()) << call;
  }
}

TEST(ZooFaces, ReadTheTableThatTheyAreGiven) {
  const Table bias("my_bias", DType::bfloat16, 3);
  EXPECT_EQ(zoo::learned_bias(bias).tables().front(), bias);
  EXPECT_EQ(zoo::learned_bias().tables().front().name(), "bias");
}

}  // namespace
}  // namespace tilewise
