// Every input of a call that does not fit is refused by name, with its value and what was expected.
#include "variant/call.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "tests/variant/call_arguments.h"

namespace tilewise::variant {
namespace {

TEST(Call, PaddedTensorsNeedNoSequences) {
  const Call call = Arguments().forward();
  EXPECT_EQ(call.problem.h_q, 4);
  EXPECT_EQ(call.problem.h_kv, 2);
  ASSERT_EQ(call.problem.b(), 2);
  EXPECT_EQ(call.problem.sequences[1].s_q, 3);
  EXPECT_EQ(call.problem.sequences[1].s_kv, 5);
  EXPECT_EQ(call.problem.sequences[1].first_key_token, 5);
  EXPECT_EQ(call.d_qk, 8);
  EXPECT_EQ(call.d_v, 6);
  EXPECT_EQ(call.scale, 1 / std::sqrt(8.0));
  EXPECT_FALSE(call.queries_packed || call.keys_packed || call.has_dropout());
  EXPECT_NO_THROW(Arguments().backward());
}

TEST(Call, PackedAndMixedStorage) {
  Arguments a = packed_arguments();
  EXPECT_TRUE(a.forward().queries_packed && a.backward().keys_packed);
  // Packed queries, padded keys of up to 7.
  a.inputs.k = tensor({2, 2, 7, 8}), a.inputs.v = tensor({2, 2, 7, 6});
  a.gradients = {};
  EXPECT_TRUE(a.forward().queries_packed);
  EXPECT_FALSE(a.backward().keys_packed);
  // No sequences and no tokens.
  Arguments none = packed_arguments();
  none.inputs = {.q = tensor({4, 0, 8}), .k = tensor({2, 0, 8}), .v = tensor({2, 0, 6})};
  none.outputs = {.o = tensor({4, 0, 6})};
  EXPECT_EQ(none.forward().problem.b(), 0);
}

TEST(Call, WrongInputsAreRefused) {
  expect_refused(
      [](Arguments& a) {
        a.inputs.q = tensor({3, 8});
      },
      "q has rank 2; expected 4, [b, heads, length, d], or 3 for packed storage, [heads, tokens, d]");
  expect_refused([](Arguments& a) { a.inputs.k = ConstTensor(); },
                 "k has rank 0; expected 4, [b, heads, length, d], or 3 for packed storage, [heads, tokens, d]");
  expect_refused([](Arguments& a) { a.inputs.q.dtype = DType::int32; },
                 "q has dtype int32; expected float64, float32, float16 or bfloat16");
  expect_refused([](Arguments& a) { a.inputs.v.data = nullptr; },
                 "v is null; expected memory for its extents [2, 2, 5, 6]");
  expect_refused([](Arguments& a) { std::swap(a.inputs.k.strides[2], a.inputs.k.strides[3]); },
                 "k has strides [80, 40, 1, 8]; expected 1 along the last axis: copy it, or view it with that axis "
                 "contiguous");
  expect_refused([](Arguments& a) { a.inputs.q.extents[1] = -4; },
                 "q has extents [2, -4, 3, 8]; expected none below 0");
  expect_refused(
      [](Arguments& a) {
        a.inputs.v = tensor({2, 2, 5, 0});
      },
      "v has a last axis of 0; expected at least 1");
}

TEST(Call, ShapesThatDoNotFitTogetherAreRefused) {
  expect_refused(
      [](Arguments& a) {
        a.inputs.k = tensor({2, 2, 5, 7});
      },
      "q has extents [2, 4, 3, 8] and k has [2, 2, 5, 7]; expected the same last axis, d_qk");
  expect_refused(
      [](Arguments& a) {
        a.inputs.v = tensor({2, 2, 4, 6});
      },
      "v has extents [2, 2, 4, 6]; expected [2, 2, 5, 6], as k but for the last axis, d_v");
  expect_refused(
      [](Arguments& a) {
        a.inputs.v = tensor({2, 5, 6});
      },
      "v has rank 3; expected 4: [2, 2, 5, 6], as k but for the last axis, d_v");
  expect_refused(
      [](Arguments& a) {
        a.inputs.k = tensor({3, 2, 5, 8}), a.inputs.v = tensor({3, 2, 5, 6});
      },
      "q has extents [2, 4, 3, 8] and k has [3, 2, 5, 8]; expected the same first axis, b");
  expect_refused(
      [](Arguments& a) {
        a.inputs.k = tensor({2, 3, 5, 8}), a.inputs.v = tensor({2, 3, 5, 6});
      },
      "h_q is 4, expected a positive multiple of h_kv, which is 3");
  expect_refused(
      [](Arguments& a) {
        a.inputs.k = tensor({2, 0, 5, 8}), a.inputs.v = tensor({2, 0, 5, 6});
      },
      "h_kv is 0, expected 1 to 2147483647");
}

TEST(Call, WrongSequencesAreRefused) {
  expect_refused([](Arguments& a) { a.inputs.sequences = {{.s_q = 3, .s_kv = 5}}; },
                 "sequences has 1 elements; expected 2, b of the padded tensors");
  expect_refused(
      [](Arguments& a) {
        a.inputs.sequences = {{.s_q = 3, .s_kv = 5}, {.s_q = 4, .s_kv = 5}};
      },
      "sequence 1: s_q is 4; expected at most the 3 rows that q holds");
  expect_refused(
      [](Arguments& a) {
        a.inputs.sequences = {{.s_q = 3, .s_kv = 6}, {.s_q = 3, .s_kv = 5}};
      },
      "sequence 0: s_kv is 6; expected at most the 5 rows that k holds");
  expect_refused(
      [](Arguments& a) {
        a.inputs.sequences = {{.s_q = -1, .s_kv = 5}, {.s_q = 3, .s_kv = 5}};
      },
      "sequence 0: s_q is -1, expected 0 to 2147483647");
  expect_refused(
      [](Arguments& a) {
        a.inputs.sequences = {{}, {.s_q = 3, .s_kv = 5, .key_start = 6}};
      },
      "sequence 1: key_start is 6, expected 0 to s_kv, which is 5");
  const Arguments packed = packed_arguments();
  expect_refused([](Arguments& a) { a.inputs.sequences.clear(); },
                 "sequences is empty; packed storage expects one for each sequence in it", packed);
  expect_refused([](Arguments& a) { a.inputs.sequences[1].first_query_token = 4; },
                 "sequence 1: first_query_token is 4 and s_q is 2; expected them to end within the 5 tokens of q",
                 packed);
  expect_refused([](Arguments& a) { a.inputs.sequences[0].s_kv = 10; },
                 "sequence 0: first_key_token is 0 and s_kv is 10; expected them to end within the 9 tokens of k",
                 packed);
  expect_refused([](Arguments& a) { a.inputs.sequences[1].first_query_token = 2; },
                 "sequences 0 and 1 share query tokens from 2 on; expected tokens of their own, as both write them",
                 packed);
}

TEST(Call, SharedKeysHaveNoGradients) {
  const Change share = [](Arguments& a) { a.inputs.sequences[1].first_key_token = 1; };
  Arguments a = packed_arguments();
  EXPECT_EQ(forward_refusal(share, a), "");
  EXPECT_EQ(backward_refusal(share, a),
            "sequences 0 and 1 share key tokens from 1 on; expected tokens of their own, as both write them");
  a.gradients.d_k = a.gradients.d_v = std::nullopt;
  EXPECT_EQ(backward_refusal(share, a), "");
}

TEST(Call, WrongScalesAreRefused) {
  for (double scale : {kInfinity, -kInfinity}) {
    EXPECT_NE(forward_refusal([&](Arguments& a) { a.inputs.scale = scale; }).find("expected a finite number"),
              std::string::npos);
  }
  expect_refused([](Arguments& a) { a.inputs.scale = std::numeric_limits<double>::quiet_NaN(); },
                 "scale is nan; expected a finite number");
  for (double scale : {0.0, -2.0}) {
    EXPECT_EQ(forward_refusal([&](Arguments& a) { a.inputs.scale = scale; }), "");
  }
}

TEST(Call, WrongDropoutIsRefused) {
  expect_refused([](Arguments& a) { a.inputs.dropout_probability = 0.5; },
                 "dropout_probability is 0.5, but the variant has no dropout; compose it with dropout(...)");
  Arguments with_dropout;
  with_dropout.variant = dropout(0.25);
  EXPECT_EQ(with_dropout.forward().dropout.keep_below, 192u);
  for (double probability : {-0.1, 1.5, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_NE(forward_refusal([&](Arguments& a) { a.inputs.dropout_probability = probability; }, with_dropout), "");
  }
  expect_refused([](Arguments& a) { a.inputs.dropout_probability = 1.5; },
                 "dropout_probability is 1.5; expected 0 to 1", with_dropout);
  expect_refused([](Arguments& a) { a.inputs.seed_offset = std::uint64_t{1} << 32; },
                 "seed_offset is 4294967296; expected 0 to 4294967295: take a new seed after that", with_dropout);
  EXPECT_EQ(forward_refusal([](Arguments& a) { a.inputs.seed_offset = 0xFFFFFFFF; }, with_dropout), "");
  // 2^31 query heads of three sequences without tokens.
  Arguments wide = with_dropout;
  const std::int64_t heads = 0x7FFFFFFF;
  wide.inputs = {.q = tensor({3, heads, 0, 1}), .k = tensor({3, 1, 0, 1}), .v = tensor({3, 1, 0, 1})};
  wide.outputs = {.o = tensor({3, heads, 0, 1})};
  EXPECT_EQ(forward_refusal([](Arguments&) {}, wide),
            "b is 3 and h_q is 2147483647; dropout expects b * h_q of at most 2^32");
}

}  // namespace
}  // namespace tilewise::variant
