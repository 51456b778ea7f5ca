// Arguments that named variants do not take, and the faces of the zoo in C++.
#include <gtest/gtest.h>

#include <set>

#include "tests/variant/zoo_call.h"
#include "tilewise/error.h"
#include "tilewise/zoo.h"
#include "tilewise/zoo_entry.h"

namespace tilewise {
namespace {

struct Refusal {
  const char* call;
  const char* message;  // what it must say of the argument and its value
};

const Refusal kRefusals[] = {
    {"window(0)", "window(): size is 0, expected at least 1"},
    {"window(-3)", "size is -3"},
    {"window(2.5)", "size is 2.5, expected an int"},
    {"window(3000000000)", "expected an int"},
    {"window([4])", "size is a list, expected a number"},
    {"window_two_sided(-1, 0)", "left is -1"},
    {"window_two_sided(0, -1)", "right is -1"},
    {"dilated_window(4, 0)", "dilation is 0"},
    {"dilated_window(0, 4)", "size is 0"},
    {"dilated_window(65536, 65536)", "size * dilation is the product of [65536, 65536]"},
    {"longformer(5, 0)", "window is 5, expected an even number"},
    {"longformer(-2, 0)", "window is -2"},
    {"longformer(2, -1)", "global_tokens is -1"},
    {"prefix_lm(-1)", "prefix is -1"},
    {"local_chunked(0)", "chunk is 0"},
    {"block_causal(0)", "block is 0"},
    {"block_diffusion(0, 8)", "block is 0"},
    {"block_diffusion(4, 0)", "length is 0"},
    {"block_diffusion(4, 1073741824)", "length is 1073741824"},
    {"streaming_llm(-1, 4)", "sinks is -1"},
    {"streaming_llm(4, 0)", "window is 0"},
    {"strided(0)", "stride is 0"},
    {"fixed(0, 1)", "block is 0"},
    {"fixed(8, 0)", "summary is 0, expected 1 to 8"},
    {"fixed(8, 9)", "summary is 9, expected 1 to 8"},
    {"documents([])", "lengths sum to 0"},
    {"documents([0, 0])", "lengths sum to 0"},
    {"documents([3, -1])", "lengths is -1"},
    {"documents([2147483647, 1])", "lengths sum to 2147483648"},
    {"documents(3)", "lengths is the number 3, expected a list"},
    {"shared_prefix(-1, [3])", "prefix is -1"},
    {"shared_prefix(4, [])", "suffixes sum to 0"},
    {"shared_prefix(2147483647, [1])", "sum to 2147483648"},
    {"tree([], 0)", "the number of parents is 0"},
    {"tree([0], 0)", "the parent of node 0 is 0"},
    {"tree([-1, 2, 0], 0)", "the parent of node 1 is 2"},
    {"tree([-1, -2], 0)", "the parent of node 1 is -2"},
    {"tree([-1], -1)", "prefix is -1"},
    {"cross_to_media([], 4)", "the number of positions is 0"},
    {"cross_to_media([-1, 3], 4)", "the first of positions is -1"},
    {"cross_to_media([3, 3], 4)", "positions are [3, 3], expected ascending ones"},
    {"cross_to_media([3], 0)", "media_tokens is 0"},
    {"padding([])", "lengths sum to 0"},
    {"padding([4, -1])", "lengths is -1"},
    {"transfusion([], [])", "0 starts and 0 lengths"},
    {"transfusion([4], [])", "1 starts and 0 lengths"},
    {"transfusion([4, 6], [3, 1])", "a start is 6, expected at least 7"},
    {"transfusion([4], [0])", "a length is 0"},
    {"transfusion([-1], [2])", "a start is -1"},
    {"axial(0, 4, 0)", "height is 0"},
    {"axial(4, 0, 0)", "width is 0"},
    {"axial(4, 4, 2)", "axis is 2, expected 0 to 1"},
    {"axial(65536, 65536, 0)", "height * width is the product of"},
    {"neighbourhood_1d(0, 1)", "length is 0"},
    {"neighbourhood_1d(8, 0)", "window is 0"},
    {"neighbourhood_1d(8, 9)", "spans 9 places, expected at most the axis's 8"},
    {"neighbourhood_1d(8, 3, 0)", "stride is 0"},
    {"neighbourhood_1d(8, 3, 4)", "stride is 4, expected at most the window's 3"},
    {"neighbourhood_1d(8, 3, 1, 0)", "dilation is 0"},
    {"neighbourhood_1d(8, 3, 1, 3)", "spans 9 places"},
    {"neighbourhood_2d([8], [3, 3])", "extents is [8], expected 2 numbers"},
    {"neighbourhood_2d([8, 8], [3])", "window is [3], expected 2 numbers"},
    {"neighbourhood_2d([8, 8], [3, 3], [1], [1, 1])", "stride is [1]"},
    {"neighbourhood_3d([8, 8], [3, 3, 3])", "extents is [8, 8], expected 3 numbers"},
    {"neighbourhood_3d([2048, 2048, 2048], [3, 3, 3])", "the number of places is the product of"},
    {"tiled_window_2d([8, 8], [3, 4], [1, 1])", "an axis of 8 in tiles of 3"},
    {"tiled_window_2d([8, 8], [2, 2], [2, 1])", "window is 2, expected an odd number"},
    {"tiled_window_2d([8, 8], [2, 2], [5, 1])", "window is 5, expected 1 to 4"},
    {"tiled_window_2d([8, 8], [2, 2], [1, 1], -1)", "text is -1"},
    {"tiled_window_3d([8, 8], [2, 2], [1, 1])", "expected 3 numbers"},
    {"bigbird(0, 3, 1, 1, 64, 0)", "block is 0"},
    {"bigbird(8, 2, 1, 1, 64, 0)", "window_blocks is 2, expected an odd number"},
    {"bigbird(8, -1, 1, 1, 64, 0)", "window_blocks is -1"},
    {"bigbird(8, 3, -1, 1, 64, 0)", "global_blocks is -1"},
    {"bigbird(8, 3, 1, -1, 64, 0)", "random_blocks is -1"},
    {"bigbird(8, 3, 1, 1, 0, 0)", "length is 0"},
    {"bigbird(1, 3, 1, 1, 100000, 0)", "length / block is 100000"},
    {"dense_mask(1)", "rank is 1, expected 2 to 4"},
    {"dense_mask(5)", "rank is 5"},
    {"block_sparse(0)", "block is 0"},
    {"block_sparse(4, 5)", "rank is 5"},
    {"alibi(0)", "heads is 0"},
    {"t5_buckets(0)", "buckets is 0"},
    {"t5_buckets(6, 128, 1)", "buckets is 6, expected a multiple of 4"},
    {"t5_buckets(32, 8, 1)", "max_distance is 8, expected 9 to"},
    {"t5_buckets(32, 128, 2)", "bidirectional is 2, expected 0 or 1"},
    {"relative_position(-1)", "max_distance is -1"},
    {"softcap(0)", "cap is 0"},
    {"softcap(-30)", "cap is -30"},
    {"temperature(0)", "temperature is 0"},
    {"sandwich(0)", "heads is 0"},
    {"sandwich(4, 15)", "dimension is 15, expected an even number"},
    {"log_n_scaling(1)", "trained_length is 1"},
    {"pair_bias(2)", "rank is 2, expected 3 to 4"},
    {"dense_bias(1)", "rank is 1"},
};

TEST(ZooRefusals, NameTheArgumentAndItsValue) {
  for (const Refusal& refusal : kRefusals) {
    try {
      variant_of_call(refusal.call);
      ADD_FAILURE() << refusal.call << " was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument) << refusal.call;
      const std::string message = error.what();
      EXPECT_EQ(message.rfind(name_of_call(refusal.call) + "(): ", 0), 0u) << message;
      EXPECT_NE(message.find(refusal.message), std::string::npos) << message << "\nexpected: " << refusal.message;
    }
  }
}

TEST(ZooRefusals, EveryArgumentIsRefusedSomewhere) {
  // Arguments of any value whatever, or whose bad values are met through another argument of the same call.
  const std::set<std::string> free{"causal",    "causal_top_left", "inverse_causal",
                                   "bi_causal", "learned_bias",    "attention_sink"};
  std::set<std::string> refused = free;
  for (const Refusal& refusal : kRefusals) refused.insert(name_of_call(refusal.call));
  for (const zoo::Entry& entry : zoo::entries()) {
    EXPECT_EQ(refused.count(std::string(entry.name)), 1u) << entry.name << " refuses nothing in this test";
  }
}

TEST(ZooRefusals, TablesOfWrongRankOrType) {
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
    EXPECT_EQ(variant.key(), variant_of_call(call).key()) << call;
    EXPECT_EQ(variant.literals(), variant_of_call(call).literals()) << call;
  }
}

TEST(ZooFaces, ReadTheTableThatTheyAreGiven) {
  const Table bias("my_bias", DType::bfloat16, 3);
  EXPECT_EQ(zoo::learned_bias(bias).tables().front(), bias);
  EXPECT_EQ(zoo::learned_bias().tables().front().name(), "bias");
}

}  // namespace
}  // namespace tilewise
