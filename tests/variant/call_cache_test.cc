// Keys and values in pages and with scales: what of their arguments does not fit is refused by name.
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "tests/refusal.h"
#include "tests/variant/tensor_of_its_own.h"
#include "variant/call.h"

namespace tilewise::variant {
namespace {

Tensor tensor(std::initializer_list<std::int64_t> extents, DType dtype = DType::float32) {
  return tensor_of_its_own(extents, dtype);
}

/// A call that is accepted: b = 2, 4/2 heads, s_q = 3 and 1, s_kv = 5 and 9, in seven pages of 4 tokens, int8 keys.
struct Arguments {
  std::array<std::int32_t, 8> pages{6, 0, -7, 99, 5, -1, 2, 99};  // of the first, two are needed; of the other, three
  Variant variant;
  ForwardInputs inputs{.q = tensor({2, 4, 3, 8}),
                       .k = tensor({7, 2, 4, 8}, DType::int8),
                       .v = tensor({7, 2, 4, 6}),
                       .k_scales = tensor({7, 2, 4}),
                       .block_table = ConstTensor(pages.data(), DType::int32, {2, 4}),
                       .sequences = {{.s_q = 3, .s_kv = 5}, {.s_q = 1, .s_kv = 9}}};
  ForwardOutputs outputs{.o = tensor({2, 4, 3, 6})};
};

using Change = std::function<void(Arguments&)>;

void expect_refused(const Change& change, const std::string& message) {
  Arguments a;
  a.inputs.block_table->data = a.pages.data();
  change(a);
  EXPECT_EQ(refusal([&] { check_forward(a.variant, a.inputs, a.outputs); }), message);
}

TEST(CallOfACache, IsAccepted) {
  expect_refused([](Arguments&) {}, "");
  // Strides of any kind for scales; key_start excuses the pages before its own.
  expect_refused([](Arguments& a) { a.inputs.k_scales->strides = {8, 1, 2}; }, "");
  expect_refused(
      [](Arguments& a) {
        a.pages = {-5, 0, -7, 99, 100, 100, 2, 99};
        a.inputs.sequences[0].key_start = 4;
        a.inputs.sequences[1].key_start = 8;
      },
      "");
  expect_refused(
      [](Arguments& a) {
        a.inputs.sequences = {{.s_q = 3, .s_kv = 0}, {.s_q = 1, .s_kv = 9, .key_start = 9}};
        a.pages.fill(100);
      },
      "");
}

TEST(CallOfACache, WrongPagesAreRefused) {
  expect_refused([](Arguments& a) { a.pages[1] = 7; },
                 "block_table[0, 1] is 7; expected a page, 0 to 6, or -1 for a hole");
  expect_refused([](Arguments& a) { a.pages[4] = -2; },
                 "block_table[1, 0] is -2; expected a page, 0 to 6, or -1 for a hole");
  expect_refused([](Arguments& a) { a.inputs.sequences[1].s_kv = 17; },
                 "sequence 1: s_kv is 17; expected at most the 4 pages of 4 tokens that block_table holds");
  expect_refused([](Arguments& a) { a.inputs.block_table->dtype = DType::int64; },
                 "block_table has dtype int64; expected int32");
  expect_refused([](Arguments& a) { a.inputs.block_table->data = nullptr; },
                 "block_table is null; expected memory for its extents [2, 4]");
  expect_refused([](Arguments& a) { a.inputs.block_table = ConstTensor(a.pages.data(), DType::int32, {8}); },
                 "block_table has rank 1; expected 2, [b, pages of a sequence]");
  expect_refused(
      [](Arguments& a) {
        a.inputs.block_table = ConstTensor(a.pages.data(), DType::int32, {1, 8});
      },
      "q has extents [2, 4, 3, 8] and block_table has [1, 8]; expected the same first axis, b");
  expect_refused([](Arguments& a) { a.inputs.sequences.clear(); },
                 "sequences has 0 elements; expected 2, b of the block_table");
  expect_refused(
      [](Arguments& a) {
        a.inputs.k = tensor({2, 28, 8});
        a.inputs.v = tensor({2, 28, 6});
        a.inputs.k_scales.reset();
      },
      "k has rank 3 beside a block_table; expected 4, [pages, h_kv, page_tokens, d_qk]");
  expect_refused(
      [](Arguments& a) {
        a.inputs.k = tensor({7, 2, 0, 8});
        a.inputs.v = tensor({7, 2, 0, 6});
        a.inputs.k_scales.reset();
      },
      "k has extents [7, 2, 0, 8]; expected pages of at least 1 token, as sequence 0 has 5 keys");
  expect_refused(
      [](Arguments& a) {
        a.inputs.v = tensor({7, 2, 5, 6});
      },
      "v has extents [7, 2, 5, 6]; expected [7, 2, 4, 6], as k but for the last axis, d_v");
}

TEST(CallOfACache, WrongScalesAreRefused) {
  expect_refused([](Arguments& a) { a.inputs.k_scales.reset(); },
                 "k_scales is missing; expected a scale for each head and token of k, which is int8");
  expect_refused(
      [](Arguments& a) {
        a.inputs.v_scales = tensor({7, 2, 4});
      },
      "v_scales is given, but v has dtype float32; expected it with int8 and float8_e4m3 alone");
  expect_refused(
      [](Arguments& a) {
        a.inputs.k_scales = tensor({7, 2, 5});
      },
      "k_scales has extents [7, 2, 5]; expected [7, 2, 4], as what it scales without the last axis");
  expect_refused([](Arguments& a) { a.inputs.k_scales->dtype = DType::float64; },
                 "k_scales has dtype float64; expected float32");
  expect_refused([](Arguments& a) { a.inputs.k_scales->data = nullptr; },
                 "k_scales is null; expected memory for its extents [7, 2, 4]");
  expect_refused([](Arguments& a) { a.inputs.k.dtype = DType::uint8; },
                 "k has dtype uint8; expected float64, float32, float16 or bfloat16");
  expect_refused([](Arguments& a) { a.inputs.q.dtype = DType::int8; },
                 "q has dtype int8; expected float64, float32, float16 or bfloat16");
}

TEST(CallOfACache, HasNoBackwardPass) {
  Arguments a;
  const BackwardInputs given{.d_o = tensor({2, 4, 3, 6})};
  const auto refused = [&] { return refusal([&] { check_backward(a.variant, a.inputs, given, {}); }); };
  EXPECT_EQ(refused(),
            "block_table is given to a backward pass; expected keys and values that are not paged: gather them");
  a.inputs.block_table.reset();
  a.inputs.k = tensor({2, 2, 9, 8}, DType::int8);
  a.inputs.v = tensor({2, 2, 9, 6});
  a.inputs.k_scales = tensor({2, 2, 9});
  EXPECT_EQ(refused(), "k is int8 in a backward pass; expected a floating dtype");
}

}  // namespace
}  // namespace tilewise::variant
