// Keys and values from pages on a GPU: the bits of storage in one piece, as far as the same kernels run.
#include <gtest/gtest.h>

#include <cstring>
#include <optional>

#include "tests/attention/cache.h"
#include "tests/gpu/gpu_caller.h"
#include "tests/gpu/with_gpu.h"
#include "tilewise/zoo.h"

namespace tilewise::attention::testing {
namespace {

class CachesOnGpu : public jit::WithGpu {
 protected:
  struct Result {
    reference::Array o, lse;
  };

  Result run(const Plan& plan, const ForwardInputs& inputs, const reference::AttentionData& data) {
    Result result{data.o, data.lse};
    for (reference::Array* array : {&result.o, &result.lse}) array->fill(-768);
    GpuCaller(context_).forward(plan, inputs, {.o = result.o.tensor(), .lse = result.lse.tensor()});
    return result;
  }

  static bool same_bits(const reference::Array& a, const reference::Array& b) {
    for (std::int64_t i = 0; i < a.size(); ++i) {
      const double x = a.get(i), y = b.get(i);
      if (std::memcmp(&x, &y, sizeof x) != 0) return false;
    }
    return true;
  }

  /// Two families' outputs: both round weights and results to bfloat16, by 2^-9 each.
  static void expect_near(const reference::Array& a, const reference::Array& b) {
    for (std::int64_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a.get(i), b.get(i), 4 * 0x1p-9 * 4) << i;
  }

  /// Pages of multiples of 8 tokens run on the kernels of storage in one piece. Others may be another family's, which
  /// gives all of them the same bits.
  void expect_same_bits(const reference::Shape& shape, DType dtype) {
    const reference::AttentionData data(shape, 5, dtype, DType::float32);
    for (const Variant& variant : {Variant(), zoo::causal(), zoo::window(50)}) {
      PlanShape planned = plan_shape(shape, dtype, false, {});
      planned.query_tokens.reset(), planned.key_tokens.reset();
      const Plan plan = Attention(variant).plan(planned, Device::cuda());
      std::optional<Result> odd;
      for (const std::int64_t page_tokens : {8, 16, 64, 504, 1, 3, 500}) {
        for (const bool tokens_outside : {false, true}) {
          const Cache cache(data, false, {page_tokens, tokens_outside}, 3);
          const Result paged = run(plan, cache.paged, data);
          const Result whole = run(plan, cache.whole, data);
          if (page_tokens % 8 != 0 && !odd) {
            odd = paged;
            expect_near(whole.o, paged.o);
          }
          const Result& expected = page_tokens % 8 == 0 ? whole : *odd;
          EXPECT_TRUE(same_bits(expected.o, paged.o) && same_bits(expected.lse, paged.lse))
              << to_string(variant) << ", pages of " << page_tokens << ", tokens outside " << tokens_outside;
        }
      }
    }
  }
};

TEST_F(CachesOnGpu, InPagesGiveTheBitsOfOnePiece) {
  // Some sequences are prompts and some are decoded; with padding at the left, and an empty one.
  reference::Shape shape{.h_q = 4, .h_kv = 2, .d_qk = 64, .d_v = 72};
  shape.sequences = {{.s_q = 1, .s_kv = 1300},
                     {.s_q = 130, .s_kv = 300},
                     {.s_q = 5, .s_kv = 77, .key_start = 21},
                     {.s_q = 40, .s_kv = 40, .key_start = 7},
                     {.s_q = 3, .s_kv = 0}};
  for (const DType dtype : {DType::bfloat16, DType::float32}) expect_same_bits(shape, dtype);
}

TEST_F(CachesOnGpu, DecodingFromPagesGivesTheBitsOfOnePiece) {
  reference::Shape shape{.h_q = 8, .h_kv = 2, .d_qk = 128, .d_v = 128};
  shape.sequences = {{.s_q = 1, .s_kv = 1300}, {.s_q = 3, .s_kv = 300}, {.s_q = 5, .s_kv = 77, .key_start = 21}};
  for (const DType dtype : {DType::bfloat16, DType::float32}) expect_same_bits(shape, dtype);
}

TEST_F(CachesOnGpu, HolesThatNothingKeepsAreNotRead) {
  const reference::Shape shape = uniform(1, 2, 1, 2, 300, 64, 64);
  const reference::AttentionData data(shape, 5, DType::bfloat16, DType::float32);
  const Plan plan = Attention(zoo::window(50)).plan(plan_shape(shape, DType::bfloat16, false, {}), Device::cuda());
  const Cache all(data, false, {16, false}, 3), holed(data, false, {16, false, {0, 1, 7, 14}}, 3);
  const Result expected = run(plan, all.paged, data), got = run(plan, holed.paged, data);
  EXPECT_TRUE(same_bits(expected.o, got.o));
}

}  // namespace
}  // namespace tilewise::attention::testing
